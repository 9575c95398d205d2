//! Parquet: flat columns of numbers of any width, without nulls; truth values are 0 and 1.

use std::{collections::HashSet, fs::File, path::Path};

use half::f16;
use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    errors::ParquetError,
    file::{
        metadata::FileMetaData,
        reader::{FileReader, RowGroupReader, SerializedFileReader},
    },
    schema::types::ColumnDescriptor,
};

use super::{Columns, DataError, Exact, Holds, Merged, Precision, Sink, at_once, merged, named, open, precisions};

pub(super) fn columns(path: &Path) -> Result<Columns, DataError> {
    Ok(columns_of(reader(path)?.metadata().file_metadata()).0)
}

/// The columns of the schema, one for each field at its top, with the places of their first leaves.
fn columns_of(file: &FileMetaData) -> (Columns, Vec<usize>) {
    let schema = file.schema_descr();
    let index = pandas_index(file);
    let (mut columns, mut places, mut before) = (Vec::new(), Vec::new(), None);
    for place in 0..schema.num_columns() {
        let root = Some(schema.get_column_root_idx(place));
        if root == before {
            continue;
        }
        before = root;
        let name = schema.get_column_root(place).name();
        let holds = match Numbers::of(&schema.column(place)) {
            Err(what) => Holds::Other(what.to_owned()),
            Ok(_) if index.contains(name) || name.starts_with("__index_level_") => Holds::Index,
            Ok(_) => Holds::Numbers,
        };
        columns.push((name.to_owned(), holds));
        places.push(place);
    }
    (Columns::new(columns), places)
}

/// The columns that hold the index of a pandas table.
fn pandas_index(file: &FileMetaData) -> HashSet<String> {
    let pandas = file.key_value_metadata().into_iter().flatten().find(|pair| pair.key == "pandas");
    let pandas: serde_json::Value =
        pandas.and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok()).unwrap_or_default();
    // An index that is a range has no column: it is described by an object.
    let index = pandas["index_columns"].as_array().into_iter().flatten();
    index.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

pub(super) fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<Vec<Merged>, DataError> {
    let reader = reader(path)?;
    let file = reader.metadata().file_metadata();
    let (known, leaves) = columns_of(file);
    let (places, names) = known.choose(path, wanted)?;
    let columns = names.iter().zip(places).map(|(name, place)| {
        let descriptor = file.schema_descr().column(leaves[place]);
        Column::of(path, name, leaves[place], &descriptor)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let mut precisions = precisions(columns.len());
    let (mut events, at_once) = (0, at_once(columns.len()));
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(explain(path))?;
        let mut pages = columns.iter().map(|column| column.open(&*group)).collect::<Result<Vec<_>, _>>()?;
        loop {
            let parts = columns.iter().zip(&mut pages).zip(&mut precisions);
            let read = parts.map(|((column, pages), precision)| column.read(pages, precision, events, at_once));
            let read = read.collect::<Result<Vec<_>, _>>()?;
            let count = read.first().map_or(0, Vec::len);
            if let Some(other) = read.iter().find(|values| values.len() != count) {
                let message = format!(
                    "from row {} on a column has {} values where another has {count}; write it again",
                    events + 1,
                    other.len()
                );
                return Err(DataError::format(path, message));
            }
            if count == 0 {
                break;
            }
            events += count;
            if sink(named(path, names.clone(), read)?)?.is_break() {
                return Ok(merged(&names, &precisions));
            }
        }
    }
    let rows = file.num_rows();
    if i64::try_from(events) != Ok(rows) {
        let message = format!("the columns have {events} values where the file promises {rows} rows; write it again");
        return Err(DataError::format(path, message));
    }
    Ok(merged(&names, &precisions))
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>, DataError> {
    let (file, _) = open(path)?;
    SerializedFileReader::new(file).map_err(explain(path))
}

/// The way in which a column's values are numbers.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    Plain,
    Unsigned,
    Half,
    /// Whole numbers, to be divided by this power of ten.
    Decimal(i32),
}

impl Numbers {
    /// An error says what a column holds instead.
    fn of(column: &ColumnDescriptor) -> Result<Self, &'static str> {
        use ConvertedType as Converted;
        use LogicalType as Logical;
        if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
            return Err("nested values");
        }
        let bytes = matches!(column.physical_type(), Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(Logical::Decimal(decimal)), _) => return Ok(Self::Decimal(decimal.scale)),
            (None, Converted::DECIMAL) => return Ok(Self::Decimal(column.type_scale())),
            (Some(Logical::Float16), _) if column.type_length() == 2 => return Ok(Self::Half),
            (Some(Logical::Integer(integer)), _) if !bytes && !integer.is_signed => return Ok(Self::Unsigned),
            (None, Converted::UINT_8 | Converted::UINT_16 | Converted::UINT_32 | Converted::UINT_64) if !bytes => {
                return Ok(Self::Unsigned);
            }
            (Some(Logical::Date), _) | (_, Converted::DATE) => return Err("dates"),
            (Some(Logical::Timestamp(_)), _) | (_, Converted::TIMESTAMP_MILLIS | Converted::TIMESTAMP_MICROS) => {
                return Err("dates and times");
            }
            (Some(Logical::Time(_)), _) | (_, Converted::TIME_MILLIS | Converted::TIME_MICROS) => {
                return Err("times of day");
            }
            (_, Converted::INTERVAL) => return Err("lengths of time"),
            (Some(Logical::Unknown), _) => return Err("missing values alone"),
            (Some(Logical::String | Logical::Enum | Logical::Json), _)
            | (_, Converted::UTF8 | Converted::ENUM | Converted::JSON) => return Err("text"),
            (None | Some(Logical::Integer(_)), _) => {}
            _ => return Err("values of a type that is not known"),
        }
        match column.physical_type() {
            Type::BOOLEAN | Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE => Ok(Self::Plain),
            Type::INT96 => Err("dates and times"),
            Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => Err("bytes or text"),
        }
    }
}

/// The number of a decimal's digits.
fn decimal(digits: i128, scale: i32) -> (f32, Exact) {
    if scale == 0 { (digits as f32, Exact::Whole(digits)) } else { scaled(digits as f64, scale) }
}

fn scaled(digits: f64, scale: i32) -> (f32, Exact) {
    let number = digits / 10_f64.powi(scale);
    (number as f32, Exact::Real(number))
}

/// The number of a decimal's digits in big-endian bytes, two's complement.
fn decimal_of_bytes(bytes: &[u8], scale: i32) -> (f32, Exact) {
    let Some((first, rest)) = bytes.split_first() else { return scaled(f64::NAN, scale) };
    let first = first.cast_signed();
    if rest.len() < 16 {
        decimal(rest.iter().fold(first.into(), |digits, &byte| (digits << 8) | i128::from(byte)), scale)
    } else {
        scaled(rest.iter().fold(first.into(), |digits, &byte| digits * 256.0 + f64::from(byte)), scale)
    }
}

/// A column of the file. What the metadata promise of it is never believed.
struct Column<'a> {
    path: &'a Path,
    name: String,
    place: usize,
    numbers: Numbers,
    nullable: bool,
}

impl<'a> Column<'a> {
    fn of(path: &'a Path, name: &str, place: usize, descriptor: &ColumnDescriptor) -> Result<Self, DataError> {
        let numbers = Numbers::of(descriptor);
        let numbers = numbers.map_err(|what| DataError::format(path, format!("the column `{name}` holds {what}")))?;
        let nullable = descriptor.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
        Ok(Self { path, name: name.to_owned(), place, numbers, nullable })
    }

    /// Its part in a row group.
    fn open(&self, group: &dyn RowGroupReader) -> Result<ColumnReader, DataError> {
        // The crate asserts this.
        let chunk = group.metadata().column(self.place);
        let first_page = chunk.dictionary_page_offset().unwrap_or(0).min(chunk.data_page_offset());
        if first_page.min(chunk.compressed_size()) < 0 {
            let message = format!("the column `{}` lies before the file's start; write it again", self.name);
            return Err(DataError::format(self.path, message));
        }
        group.get_column_reader(self.place).map_err(explain(self.path))
    }

    /// The next values, `most` at most and none at the end; `before` values came before them.
    fn read(
        &self,
        pages: &mut ColumnReader,
        precision: &mut Precision,
        before: usize,
        most: usize,
    ) -> Result<Vec<f32>, DataError> {
        let mut watched = |(single, exact): (f32, Exact)| precision.single(single, || exact);
        match (pages, self.numbers) {
            (ColumnReader::BoolColumnReader(pages), _) => self.values(pages, before, most, |x| f32::from(u8::from(x))),
            (ColumnReader::FloatColumnReader(pages), _) => self.values(pages, before, most, |x| x),
            (ColumnReader::DoubleColumnReader(pages), _) => {
                self.values(pages, before, most, |x| precision.single(x as f32, || Exact::Real(x)))
            }
            (ColumnReader::FixedLenByteArrayColumnReader(pages), Numbers::Half) => {
                let half = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, |bytes| f16::from_le_bytes(bytes).to_f32());
                self.values(pages, before, most, |x| half(x.data()))
            }
            (ColumnReader::Int32ColumnReader(pages), Numbers::Decimal(scale)) => {
                self.values(pages, before, most, |x| watched(decimal(x.into(), scale)))
            }
            (ColumnReader::Int64ColumnReader(pages), Numbers::Decimal(scale)) => {
                self.values(pages, before, most, |x| watched(decimal(x.into(), scale)))
            }
            (ColumnReader::ByteArrayColumnReader(pages), Numbers::Decimal(scale)) => {
                self.values(pages, before, most, |x| watched(decimal_of_bytes(x.data(), scale)))
            }
            (ColumnReader::FixedLenByteArrayColumnReader(pages), Numbers::Decimal(scale)) => {
                self.values(pages, before, most, |x| watched(decimal_of_bytes(x.data(), scale)))
            }
            (ColumnReader::Int32ColumnReader(pages), Numbers::Unsigned) => self.values(pages, before, most, |x| {
                let x = x.cast_unsigned();
                precision.single(x as f32, || Exact::Whole(x.into()))
            }),
            (ColumnReader::Int32ColumnReader(pages), _) => {
                self.values(pages, before, most, |x| precision.single(x as f32, || Exact::Whole(x.into())))
            }
            (ColumnReader::Int64ColumnReader(pages), Numbers::Unsigned) => self.values(pages, before, most, |x| {
                let x = x.cast_unsigned();
                precision.single(x as f32, || Exact::Whole(x.into()))
            }),
            (ColumnReader::Int64ColumnReader(pages), _) => {
                self.values(pages, before, most, |x| precision.single(x as f32, || Exact::Whole(x.into())))
            }
            _ => Err(DataError::format(self.path, format!("the column `{}` is not what the schema says", self.name))),
        }
    }

    fn values<T: DataType>(
        &self,
        pages: &mut ColumnReaderImpl<T>,
        before: usize,
        most: usize,
        mut convert: impl FnMut(T::T) -> f32,
    ) -> Result<Vec<f32>, DataError> {
        let (mut values, mut batch, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        while values.len() < most {
            batch.clear();
            levels.clear();
            let wanted = self.nullable.then_some(&mut levels);
            let read = pages.read_records(most - values.len(), wanted, None, &mut batch);
            read.map_err(explain(self.path))?;
            if let Some(null) = levels.iter().position(|&level| level == 0) {
                let row = before + values.len() + null + 1;
                let message = format!(
                    "column `{}`, row {row}: the value is missing; remove such events from the file",
                    self.name
                );
                return Err(DataError::format(self.path, message));
            }
            if batch.is_empty() {
                break;
            }
            values.extend(batch.drain(..).map(&mut convert));
        }
        Ok(values)
    }
}

fn explain(path: &Path) -> impl Fn(ParquetError) -> DataError {
    move |error| DataError::format(path, format!("this is not a parquet file that can be read: {error}"))
}

#[cfg(test)]
mod tests;
