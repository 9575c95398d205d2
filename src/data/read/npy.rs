//! The npy format of `numpy`: `[events, columns]` or `[events]` of numbers, or a structured array whose fields are the columns.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use half::f16;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr};

use super::{Columns, DataError, Exact, Holds, Merged, Precision, Sink, at_once, merged, named, open, precisions};

/// Longest header that is parsed, in bytes.
const MAX_HEADER: usize = 1 << 16;
/// Deepest brackets in a header: a structured array of arrays needs five.
const MAX_DEPTH: usize = 16;

/// The most columns of an array.
const MAX_COLUMNS: u64 = 1 << 16;

/// Where a column lies: its first byte, the bytes from one event to the next, and how a number is written.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    stride: usize,
    size: usize,
    number: Decoder,
}

/// Reads a number as single precision and as it is; the latter is needed only where that may lose digits.
type Decoder = fn(&[u8], &mut Precision) -> f32;

/// An opened file with its columns, and where those of numbers lie.
struct Layout {
    file: File,
    events: usize,
    names: Vec<String>,
    places: Vec<Result<Place, &'static str>>,
    /// Whether the names are the file's own.
    structured: bool,
}

pub(super) fn columns(path: &Path, features: Option<&[String]>) -> Result<Columns, DataError> {
    let mut layout = layout(path)?;
    layout.rename(features);
    Ok(layout.columns())
}

pub(super) fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<Vec<Merged>, DataError> {
    let mut layout = layout(path)?;
    layout.rename(wanted);
    let (places, names) = layout.columns().choose(path, wanted)?;
    let places: Vec<Place> = places.iter().filter_map(|&place| layout.places[place].ok()).collect();
    let mut precisions = precisions(places.len());
    let mut first = 0;
    while first < layout.events {
        let count = at_once(places.len()).min(layout.events - first);
        let columns = layout.read(&places, &mut precisions, first, count).map_err(DataError::io(path))?;
        if sink(named(path, names.clone(), columns)?)?.is_break() {
            break;
        }
        first += count;
    }
    Ok(merged(&names, &precisions))
}

impl Layout {
    /// Takes these names in the place of `x0`, `x1`, … if they are as many, and not all of them already the names.
    fn rename(&mut self, names: Option<&[String]>) {
        let Some(names) = names else { return };
        if !self.structured && names.len() == self.names.len() && names.iter().any(|name| !self.names.contains(name)) {
            self.names = names.to_vec();
        }
    }

    fn columns(&self) -> Columns {
        let holds = |(at, (name, place)): (usize, (&String, &Result<Place, &str>))| match place {
            Err(what) => Holds::Other((*what).to_owned()),
            // What `DataFrame.to_records` calls the row numbers.
            Ok(_) if self.structured && at == 0 && name == "index" => Holds::Index,
            Ok(_) => Holds::Numbers,
        };
        let columns = self.names.iter().zip(&self.places).enumerate();
        Columns::new(columns.map(|column| (column.1.0.clone(), holds(column))).collect())
    }

    /// Reads events of these columns; those that share records are read in one pass, a megabyte at a time.
    fn read(
        &mut self,
        places: &[Place],
        precisions: &mut [Precision],
        first: usize,
        count: usize,
    ) -> std::io::Result<Vec<Vec<f32>>> {
        let mut columns = vec![Vec::with_capacity(count); places.len()];
        let Some(one) = places.first() else { return Ok(columns) };
        if one.stride > one.size {
            let base = places.iter().map(|place| place.start).min().unwrap_or(0);
            let records = Records { base, record: one.stride, first, count };
            self.records(records, &mut columns, places, precisions)?;
        } else {
            for ((column, precision), place) in columns.iter_mut().zip(precisions).zip(places) {
                let (one, precision) = (std::slice::from_ref(place), std::slice::from_mut(precision));
                let records = Records { base: place.start, record: place.stride, first, count };
                self.records(records, std::slice::from_mut(column), one, precision)?;
            }
        }
        Ok(columns)
    }

    /// Reads records, and picks the numbers of these columns.
    fn records(
        &mut self,
        records: Records,
        columns: &mut [Vec<f32>],
        places: &[Place],
        precisions: &mut [Precision],
    ) -> std::io::Result<()> {
        let Records { base, record, first, count } = records;
        self.file.seek(SeekFrom::Start(base + first as u64 * record as u64))?;
        let at_once = ((1 << 20) / record).max(1);
        let mut buffer = Vec::new();
        let mut left = count;
        while left > 0 {
            let count = at_once.min(left);
            left -= count;
            // The last record may end before its stride does: `base` is where the first column starts, not the record.
            let padding = places.iter().map(|place| place.end(base)).max().unwrap_or(record);
            let bytes = (count - 1) * record + if left == 0 { padding } else { record };
            buffer.resize(bytes, 0);
            self.file.read_exact(&mut buffer)?;
            for ((column, place), precision) in columns.iter_mut().zip(places).zip(&mut *precisions) {
                let offset = place.end(base) - place.size;
                column.extend((0..count).map(|event| {
                    let at = event * record + offset;
                    (place.number)(&buffer[at..at + place.size], precision)
                }));
            }
        }
        Ok(())
    }
}

/// Records of one size that lie one after the other: where the first of all starts, and which ones.
#[derive(Clone, Copy)]
struct Records {
    base: u64,
    record: usize,
    first: usize,
    count: usize,
}

impl Place {
    /// Where the number ends within a record that starts at `base`.
    fn end(&self, base: u64) -> usize {
        (self.start - base) as usize + self.size
    }
}

/// Reads the header, and checks it against the length of the file.
fn layout(path: &Path) -> Result<Layout, DataError> {
    let (mut file, length) = open(path)?;
    let bad = |message: String| DataError::format(path, message);
    let header =
        header(&mut file).map_err(|reason| bad(format!("this is not an npy file that can be read: {reason}")))?;
    let start = file.stream_position().map_err(DataError::io(path))?;
    let dtype = header.dtype();
    let shape = header.shape();
    let record = dtype.num_bytes().filter(|_| !header.uses_pickled_array());
    let record = record.ok_or_else(|| bad("it holds Python objects; save it as an array of numbers".into()))?;
    let promised = shape.iter().try_fold(record as u64, |bytes, &n| bytes.checked_mul(n));
    if promised != Some(length - start) {
        let message =
            format!("the header promises shape {shape:?} of {record} bytes each, the file has {}", length - start);
        return Err(bad(message));
    }
    if shape.contains(&0) {
        return Err(bad("there are no events in it".into()));
    }
    let unit = record as u64;
    let (events, names, places, structured) = match (&dtype, shape) {
        (DType::Plain(number), &[events]) => (events, vec!["x0".to_owned()], vec![place(number, start, unit)], false),
        (DType::Plain(number), &[events, width]) => {
            let (step, stride) = match header.order() {
                Order::C => (unit, unit * width),
                Order::Fortran => (unit * events, unit),
            };
            if width > MAX_COLUMNS {
                return Err(bad(format!("{width} columns are too many; is the array the right way round?")));
            }
            let places = (0..width).map(|k| place(number, start + k * step, stride)).collect();
            (events, (0..width).map(|k| format!("x{k}")).collect(), places, false)
        }
        (DType::Record(fields), &[events]) => {
            let (mut names, mut places, mut offset) = (Vec::new(), Vec::new(), 0);
            for field in fields {
                names.push(field.name.clone());
                places.push(match &field.dtype {
                    DType::Plain(number) => place(number, start + offset, unit),
                    DType::Array(..) | DType::Record(_) => Err("nested values"),
                });
                offset += field.dtype.num_bytes().unwrap_or(0) as u64;
            }
            (events, names, places, true)
        }
        _ => return Err(bad(format!("shape {shape:?} is not [events, columns]; save one row an event"))),
    };
    let events = usize::try_from(events).map_err(|_| bad(format!("{events} events are too many")))?;
    Ok(Layout { file, events, names, places, structured })
}

/// The header, parsed only if it is short and flat: its parser recurses.
fn header(file: &mut File) -> Result<NpyHeader, String> {
    let mut bytes = vec![0; 10];
    let mut reader = BufReader::new(&mut *file);
    reader.read_exact(&mut bytes).map_err(|_| "it is too short".to_owned())?;
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] >= 2 {
        let mut high = [0; 2];
        reader.read_exact(&mut high).map_err(|_| "it is too short".to_owned())?;
        bytes.extend(high);
        length |= usize::from(u16::from_le_bytes(high)) << 16;
    }
    if length > MAX_HEADER {
        return Err(format!("its header is longer than {MAX_HEADER} bytes"));
    }
    let before = bytes.len();
    bytes.resize(before + length, 0);
    reader.read_exact(&mut bytes[before..]).map_err(|_| "it ends within its header".to_owned())?;
    drop(reader);
    let deepest = bytes[before..].iter().scan(0_usize, |depth, byte| {
        match byte {
            b'(' | b'[' | b'{' => *depth += 1,
            b')' | b']' | b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    if deepest.max().unwrap_or(0) > MAX_DEPTH {
        return Err("its header is nested too deeply".to_owned());
    }
    file.seek(SeekFrom::Start(bytes.len() as u64)).map_err(|error| error.to_string())?;
    NpyHeader::from_reader(bytes.as_slice()).map_err(|error| error.to_string())
}

/// The place of a column of numbers; an error says what it holds instead.
fn place(number: &TypeStr, start: u64, stride: u64) -> Result<Place, &'static str> {
    let size = number.num_bytes().ok_or("values without a size")?;
    let stride = usize::try_from(stride).map_err(|_| "values that lie too far apart")?;
    let decoder = decoder(number, size).ok_or(match number.type_char() {
        TypeChar::Complex => "complex numbers",
        TypeChar::TimeDelta => "lengths of time",
        TypeChar::DateTime => "dates",
        TypeChar::ByteStr | TypeChar::UnicodeStr => "text",
        TypeChar::Float | TypeChar::Int | TypeChar::Uint => "numbers of more than 64 bits",
        _ => "values that are no numbers",
    })?;
    Ok(Place { start, stride, size, number: decoder })
}

// `as` and `into` take every width; the lossless ones have no need of their own spelling.
#[allow(clippy::cast_lossless)]
fn decoder(number: &TypeStr, size: usize) -> Option<Decoder> {
    macro_rules! decode {
        ($type:ty, |$x:ident, $precision:pat_param| $single:expr) => {{
            fn single($x: $type, $precision: &mut Precision) -> f32 {
                $single
            }
            match number.endianness() {
                Endianness::Big => |bytes, precision| {
                    bytes.try_into().map_or(f32::NAN, |b| single(<$type>::from_be_bytes(b), precision))
                },
                _ => |bytes, precision| {
                    bytes.try_into().map_or(f32::NAN, |b| single(<$type>::from_le_bytes(b), precision))
                },
            }
        }};
        ($type:ty) => {
            decode!($type, |x, _| x as f32)
        };
        ($type:ty, $exact:ident) => {
            decode!($type, |x, precision| precision.single(x as f32, || Exact::$exact(x.into())))
        };
    }
    Some(match (number.type_char(), size) {
        (TypeChar::Bool, 1) => decode!(u8, |x, _| f32::from(u8::from(x != 0))),
        (TypeChar::Float, 2) => decode!(f16, |x, _| x.to_f32()),
        (TypeChar::Float, 4) => decode!(f32),
        (TypeChar::Float, 8) => decode!(f64, Real),
        (TypeChar::Int, 1) => decode!(i8),
        (TypeChar::Int, 2) => decode!(i16),
        (TypeChar::Int, 4) => decode!(i32, Whole),
        (TypeChar::Int, 8) => decode!(i64, Whole),
        (TypeChar::Uint, 1) => decode!(u8),
        (TypeChar::Uint, 2) => decode!(u16),
        (TypeChar::Uint, 4) => decode!(u32, Whole),
        (TypeChar::Uint, 8) => decode!(u64, Whole),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::data::Table;
    use proptest::prelude::*;

    use super::*;

    fn bytes(header: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{header}\n");
        [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes(), data].concat()
    }

    fn table(bytes: &[u8], wanted: Option<&[&str]>) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.npy");
        std::fs::write(&path, bytes).unwrap();
        let wanted: Option<Vec<String>> = wanted.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        crate::data::read_table(&path, wanted.as_deref())
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    const C: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";

    #[test]
    fn both_orders_of_a_plain_array_give_the_same_columns() {
        let c = table(&bytes(C, &floats(&[1., 2., 3., 4., 5., 6.])), None).unwrap();
        assert_eq!(c.names(), ["x0", "x1", "x2"]);
        assert_eq!(c.columns(), [[1., 4.], [2., 5.], [3., 6.]]);
        let fortran = bytes(&C.replace("False", "True"), &floats(&[1., 4., 2., 5., 3., 6.]));
        assert_eq!(table(&fortran, None).unwrap(), c);
    }

    #[test]
    fn as_many_names_as_columns_name_them_and_default_names_select() {
        let array = bytes(C, &floats(&[1., 2., 3., 4., 5., 6.]));
        assert_eq!(table(&array, Some(&["a", "b", "c"])).unwrap().column("b").unwrap(), [2., 5.]);
        assert_eq!(table(&array, Some(&["x2", "x0"])).unwrap().columns(), [[3., 6.], [1., 4.]]);
        assert_eq!(table(&array, Some(&["x2", "x1", "x0"])).unwrap().columns()[0], [3., 6.]);
        assert!(matches!(table(&array, Some(&["a", "b"])), Err(DataError::NoColumnInFile { .. })));
    }

    #[test]
    fn fields_of_a_structured_array_are_columns_of_their_own_type() {
        let header = "{'descr': [('s', '|S2'), ('a', '>i2'), ('b', '<f8'), ('t', '|S1')], 'fortran_order': False, 'shape': (2,), }";
        let data =
            [b"xx\x00\x01".as_slice(), &2.5f64.to_le_bytes(), b"tyy\xff\xfe", &3.5f64.to_le_bytes(), b"t"].concat();
        let events = table(&bytes(header, &data), None).unwrap();
        assert_eq!(events.names(), ["a", "b"]);
        assert_eq!(events.columns(), [[1., -2.], [2.5, 3.5]]);
        assert_eq!(table(&bytes(header, &data), Some(&["b"])).unwrap().columns(), [[2.5, 3.5]]);
    }

    #[test]
    fn truth_values_and_half_floats_are_numbers_and_what_is_none_is_listed() {
        let header = "{'descr': [('index', '<i8'), ('ok', '|b1'), ('h', '<f2'), ('H', '>f2'), ('z', '<c8'), ('d', '<M8[s]'), \
                      ('p', '<f4', (2,)), ('t', '<U1'), ('e', '|V2')], 'fortran_order': False, 'shape': (2,), }";
        let half = |x| f16::from_f32(x);
        let row = |ok: u8, h: f16| {
            [&[9; 8][..], &[ok], &h.to_le_bytes(), &h.to_be_bytes(), &[0; 8], &[0; 8], &[0; 8], &[0; 4], &[0; 2]]
                .concat()
        };
        let array = bytes(header, &[row(1, half(0.5)), row(0, half(-4.0))].concat());
        let events = table(&array, None).unwrap();
        assert_eq!(events.names(), ["ok", "h", "H"]);
        assert_eq!(events.columns(), [[1., 0.], [0.5, -4.], [0.5, -4.]]);
        assert_eq!(table(&array, Some(&["index"])).unwrap().len(), 2);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.npy");
        std::fs::write(&path, &array).unwrap();
        let columns = crate::data::read::columns(&path, None).unwrap();
        assert_eq!(
            columns.left_out().unwrap(),
            "`index` (an index of pandas), `z` (complex numbers), `d` (dates), `p` (nested values), \
             `t` (text), `e` (values that are no numbers)"
        );
        let text = table(&array, Some(&["t"])).unwrap_err().to_string();
        assert!(text.contains("the column `t` does not hold numbers but text"), "{text}");
        let plain = |kind: &str| C.replace("<f4", kind);
        let truths = table(&bytes(&plain("|b1"), &[1, 0, 1, 0, 0, 1]), None).unwrap();
        assert_eq!(truths.columns(), [[1., 0.], [0., 0.], [1., 1.]]);
    }

    #[test]
    fn two_fields_of_one_name_are_ambiguous_where_they_are_read() {
        let header = "{'descr': [('a', '<f4'), ('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,), }";
        let array = bytes(header, &floats(&[1., 2., 3.]));
        let message = table(&array, None).unwrap_err().to_string();
        assert!(message.contains("the column `a` occurs twice"), "{message}");
        assert_eq!(table(&array, Some(&["b"])).unwrap().columns(), [[3.]]);
    }

    #[test]
    fn headers_that_do_not_fit_the_file_are_errors() {
        for (header, says) in [
            (C.replace("(2, 3)", "(2000000000, 3000000000, 4000000000)"), "the header promises"),
            (C.replace("(2, 3)", "(2, 4)"), "the header promises"),
            (C.replace("(2, 3)", "(1, 2, 3)"), "is not [events, columns]"),
            (C.replace("<f4", "|O"), "Python objects"),
            (C.replace("<f4", "<U1"), "no column holds numbers"),
            ("{".to_owned() + &"(".repeat(60_000), "nested too deeply"),
            ("nonsense".to_owned(), "not an npy file"),
        ] {
            let message = table(&bytes(&header, &floats(&[0.; 6])), None).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
        let message = table(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", None).unwrap_err().to_string();
        assert!(message.contains("longer than"), "{message}");
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_a_table_or_an_error_and_never_a_panic(at: prop::sample::Index, byte: u8) {
            let mut array = bytes(C, &floats(&[1., 2., 3., 4., 5., 6.]));
            let at = at.index(array.len());
            array[at] = byte;
            if let Ok(table) = table(&array, None) {
                prop_assert!(table.len() <= 24);
            }
        }
    }
}
