//! CSV: a header line of names, then one event a line.

use std::{
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    path::Path,
};

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder, Trim};

use super::{Columns, DataError, Exact, Holds, Merged, Precision, Sink, at_once, merged, named, open, precisions};

/// So many rows tell what a column holds.
const LOOKED_AT: u64 = 1000;

/// Fields that stand for no value, as pandas reads and others write them.
const MISSING: [&str; 14] =
    ["", "NA", "N/A", "#N/A", "<NA>", "n/a", "nan", "NaN", "-nan", "-NaN", "null", "NULL", "Null", "None"];

/// The columns by the first rows: one whose values are numbers, at least half of them, holds numbers.
pub(super) fn columns(path: &Path, wanted: Option<&[String]>) -> Result<Columns, DataError> {
    let (mut reader, names) = header(path, wanted)?;
    let mut looks: Vec<Look> = names.iter().map(|_| Look::default()).collect();
    let (mut record, mut rows) = (ByteRecord::new(), 0);
    // What is wrong with a line is told by who reads it.
    while rows < LOOKED_AT && matches!(reader.read_byte_record(&mut record), Ok(true)) {
        rows += 1;
        looks.iter_mut().zip(&record).for_each(|(look, field)| look.at(field, rows));
    }
    let unnamed = names.iter().take_while(|name| name.is_empty()).count();
    let columns = names.into_iter().zip(looks).enumerate();
    let columns = columns.map(|(place, (name, look))| {
        let holds = match look.holds(rows) {
            Holds::Numbers if place < unnamed || is_unnamed_by_pandas(&name) => Holds::Index,
            holds => holds,
        };
        (name, holds)
    });
    Ok(Columns::new(columns.collect()))
}

/// The contents of a column's first rows.
#[derive(Default)]
struct Look {
    numbers: u64,
    others: u64,
    /// The first other, and its row.
    other: Option<(String, u64)>,
}

impl Look {
    fn at(&mut self, field: &[u8], row: u64) {
        if is_missing(field) {
            return;
        }
        if number(field).is_some() {
            self.numbers += 1;
        } else {
            self.others += 1;
            self.other.get_or_insert_with(|| (shown(field), row));
        }
    }

    fn holds(self, rows: u64) -> Holds {
        match self.other {
            Some((text, row)) if self.others > self.numbers => Holds::Other(format!("text: {text} in row {row}")),
            None if self.numbers == 0 && rows > 0 => {
                let rows = if rows < LOOKED_AT { "any row".to_owned() } else { format!("its first {rows} rows") };
                Holds::Other(format!("no value in {rows}"))
            }
            _ => Holds::Numbers,
        }
    }
}

/// A name that pandas gives to a column without one: the row numbers of a table that was written and read before.
fn is_unnamed_by_pandas(name: &str) -> bool {
    name.strip_prefix("Unnamed: 0").is_some_and(|rest| rest.split(".1").all(str::is_empty))
}

pub(super) fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<Vec<Merged>, DataError> {
    let (places, wanted) = columns(path, wanted)?.choose(path, wanted)?;
    let (mut reader, _) = header(path, Some(&wanted))?;
    let (mut columns, mut precisions) = (vec![Vec::new(); places.len()], precisions(places.len()));
    let at_once = at_once(columns.len());
    let (mut record, mut events) = (ByteRecord::new(), 0_u64);
    while reader.read_byte_record(&mut record).map_err(explain(path))? {
        events += 1;
        for (index, &place) in places.iter().enumerate() {
            let field = record.get(place).unwrap_or_default();
            let single = number(field).ok_or_else(|| not_a_number(path, &wanted[index], events, field))?;
            columns[index].push(watched(&mut precisions[index], single, field));
        }
        if columns[0].len() == at_once {
            let piece = columns.iter_mut().map(std::mem::take).collect();
            if sink(named(path, wanted.clone(), piece)?)?.is_break() {
                return Ok(merged(&wanted, &precisions));
            }
        }
    }
    sink(named(path, wanted.clone(), columns)?).map(|_: ControlFlow<()>| merged(&wanted, &precisions))
}

/// The number of a field, watched.
fn watched(precision: &mut Precision, single: f32, field: &[u8]) -> f32 {
    precision.single(single, || {
        let text = std::str::from_utf8(field.trim_ascii()).unwrap_or_default();
        text.parse().map_or_else(|_| Exact::Real(text.parse().unwrap_or_else(|_| single.into())), Exact::Whole)
    })
}

/// Bytes that a line may have: one that never ends would fill the memory.
const LONGEST_LINE: u64 = 16 << 20;

/// A text whose lines have a bounded length.
struct Lines {
    file: File,
    /// Bytes since the last line break.
    length: u64,
}

impl Read for Lines {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        self.length = match bytes[..read].iter().rposition(is_break) {
            Some(last) => (read - 1 - last) as u64,
            None => self.length + read as u64,
        };
        if self.length > LONGEST_LINE {
            let message = format!("a line is longer than {} MiB; is this a CSV file?", LONGEST_LINE >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

fn header(path: &Path, wanted: Option<&[String]>) -> Result<(Reader<Lines>, Vec<String>), DataError> {
    let (file, _) = open(path)?;
    let lines = Lines { file, length: 0 };
    let mut reader = ReaderBuilder::new().trim(Trim::Headers).buffer_capacity(1 << 18).from_reader(lines);
    let names: Vec<String> = reader.headers().map_err(explain(path))?.iter().map(str::to_owned).collect();
    // Who names a column of the first line knows that it is a header.
    let known = wanted.is_some_and(|wanted| wanted.iter().any(|name| names.contains(name)));
    let number = names.iter().find(|name| name.parse().is_ok_and(f64::is_finite)).filter(|_| !known);
    if let Some(number) = number {
        let message = format!(
            "the first line holds the number `{number}`; it must name the columns: add such a line, or if this is it, list columns of it in \
             `features`"
        );
        return Err(DataError::format(path, message));
    }
    if let [name] = &*names
        && let Some(separator) = name.chars().find(|c| matches!(c, ';' | '\t'))
    {
        let message = format!("the header is one name, {name:?}; separate columns by `,` and not by {separator:?}");
        return Err(DataError::format(path, message));
    }
    Ok((reader, names))
}

fn number(field: &[u8]) -> Option<f32> {
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}

fn is_missing(field: &[u8]) -> bool {
    MISSING.iter().any(|missing| missing.as_bytes() == field.trim_ascii())
}

/// A field as messages show it.
fn shown(field: &[u8]) -> String {
    format!("`{:.40}`", String::from_utf8_lossy(field.trim_ascii()))
}

fn not_a_number(path: &Path, name: &str, row: u64, field: &[u8]) -> DataError {
    let what = match shown(field) {
        empty if empty == "``" => "a missing value".to_owned(),
        text if is_missing(field) => format!("a missing value ({text})"),
        text => text,
    };
    let message = format!("column `{name}`, row {row}: {what} is not a number; mend the file or choose other features");
    DataError::format(path, message)
}

fn explain(path: &Path) -> impl Fn(csv::Error) -> DataError {
    move |error| match error.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            DataError::format(path, format!("line {line} has {len} fields, the header has {expected_len}"))
        }
        ErrorKind::Utf8 { .. } => DataError::format(path, "the header is not UTF-8 text; is this a CSV file?"),
        ErrorKind::Io(_) => match error.into_kind() {
            ErrorKind::Io(source) => DataError::Io { path: path.to_owned(), source },
            other => DataError::format(path, format!("{other:?}")),
        },
        _ => DataError::format(path, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Table;

    fn table(content: &str, wanted: Option<&[&str]>) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.csv");
        std::fs::write(&path, content).unwrap();
        let wanted: Option<Vec<String>> = wanted.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        crate::data::read_table(&path, wanted.as_deref())
    }

    #[test]
    fn columns_are_taken_by_name_and_spaces_do_not_matter() {
        let table = table("\u{feff}a, b ,c\n1, 2.5,x\r\n-3e2,4,y\n", Some(&["b", "a"])).unwrap();
        assert_eq!(table.names(), ["b", "a"]);
        assert_eq!(table.columns(), [vec![2.5, 4.0], vec![1.0, -300.0]]);
    }

    #[test]
    fn all_numeric_columns_are_read_if_none_are_named() {
        let table = table("id,a,b\nx1,1,2\nx2,3,4\n", None).unwrap();
        assert_eq!(table.names(), ["a", "b"]);
    }

    #[test]
    fn bad_lines_are_errors_that_say_where() {
        for (content, says) in [
            ("a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2"),
            ("a,b\n1,2\n3,four\n", "column `b`, row 2: `four` is not a number"),
            ("a,b\n1,2\n3,\n", "column `b`, row 2: a missing value is not a number"),
            ("1,2\n3,4\n", "it must name the columns"),
            ("jet,1.5,2.5\njet,3,4\n", "the first line holds the number `1.5`; it must name the columns"),
            ("a;b\n1;2\n", "separate columns by `,` and not by ';'"),
            ("a,a\n1,2\n", "`a` occurs twice"),
        ] {
            let message = table(content, Some(&["a", "b"][..if content.starts_with("a,a") { 1 } else { 2 }]));
            let message = message.unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
        assert!(table("a\nx\n", None).unwrap_err().to_string().contains("no column holds numbers"));
    }
    #[test]
    fn a_column_whose_first_value_is_missing_is_an_error_and_no_less_a_column() {
        for (content, says) in [
            ("a,b\n1,\n2,3\n", "column `b`, row 1: a missing value is not a number"),
            ("a,b\n1,NA\n2,3\n", "column `b`, row 1: a missing value (`NA`) is not a number"),
            ("a,b\n1, null \n2,3\n", "column `b`, row 1: a missing value (`null`) is not a number"),
            ("a,b\n1,NaN\n2,3\n", "column `b`, row 1: NaN is not a finite number"),
            // A line of units, a dash for nothing.
            ("a,b\n0,GeV\n2,3\n1,2\n", "column `b`, row 1: `GeV` is not a number"),
            ("a,b\n0,1\n2,-\n1,2\n", "column `b`, row 2: `-` is not a number"),
        ] {
            let message = table(content, None).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    fn looked_at(content: &str, wanted: Option<&[String]>) -> Result<Columns, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.csv");
        std::fs::write(&path, content).unwrap();
        crate::data::read::columns(&path, wanted)
    }

    #[test]
    fn what_is_left_out_is_listed_with_what_it_holds() {
        let content = ",id,a,ok,none,Unnamed: 0,Unnamed: 0.1,hash\n0,abc,1,True,,0,0,12\n1,def,2,False,NA,1,1,f3\n2,,3,True,,2,2,ab\n";
        let columns = looked_at(content, None).unwrap();
        assert_eq!(columns.numeric(), ["a"]);
        assert_eq!(
            columns.left_out().unwrap(),
            "`` (an index of pandas), `id` (text: `abc` in row 1), `ok` (text: `True` in row 1), `none` (no value in any row), \
             `Unnamed: 0` (an index of pandas), `Unnamed: 0.1` (an index of pandas), `hash` (text: `f3` in row 2)"
        );
        assert_eq!(table(content, None).unwrap().names(), ["a"]);
        assert_eq!(table(content, Some(&["", "a"])).unwrap().columns()[0], [0., 1., 2.]);
        let error = |name| table(content, Some(&[name])).unwrap_err().to_string();
        assert!(
            error("id").contains("the column `id` does not hold numbers but text: `abc` in row 1"),
            "{}",
            error("id")
        );
        assert!(error("none").contains("no value in any row"));
        assert!(
            error("ID").contains("there is no column `ID`; the numeric columns are , a, Unnamed: 0"),
            "{}",
            error("ID")
        );
    }

    #[test]
    fn two_columns_of_one_name_are_ambiguous_where_they_are_read() {
        let content = "a,b,a\n1,2,3\n";
        for wanted in [None, Some(&["b", "a"][..])] {
            let message = table(content, wanted).unwrap_err().to_string();
            assert!(message.contains("the column `a` occurs twice"), "{message}");
        }
        assert_eq!(table(content, Some(&["b"])).unwrap().columns(), [[2.]]);
    }

    #[test]
    fn a_line_that_does_not_end_is_an_error_and_does_not_fill_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.csv");
        for begin in ["", "a,b\n1,2\n"] {
            std::fs::write(&path, begin).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(200 << 30).unwrap();
            let message = crate::data::read_table(&path, None).unwrap_err().to_string();
            assert!(message.contains("longer than 16 MiB"), "{message}");
        }
    }

    #[test]
    fn a_column_whose_name_would_break_a_line_is_left_out_unless_it_is_named() {
        let content = "x,\"t\nerror: forged\"\n1,2\n3,4\n";
        assert_eq!(table(content, None).unwrap().names(), ["x"]);
        assert_eq!(table(content, Some(&["t\nerror: forged"])).unwrap().columns(), [vec![2.0, 4.0]]);
    }

    #[test]
    fn a_header_of_numbers_is_one_if_features_are_listed() {
        assert!(looked_at("x,0,1\n5,6,7\n", None).is_err());
        assert_eq!(table("x,0,1\n5,6,7\n", Some(&["1", "x"])).unwrap().columns(), [[7.], [5.]]);
        assert!(
            table("jet,0,1\njet,6,7\n", Some(&["pt", "eta"]))
                .unwrap_err()
                .to_string()
                .contains("it must name the columns")
        );
        assert!(table("x,0,1\n5,6,7\n", Some(&["x", "y"])).unwrap_err().to_string().contains("there is no column `y`"));
        // Words that Rust would parse as numbers.
        assert_eq!(table("e,inf,nan\n5,6,7\n", None).unwrap().names(), ["e", "inf", "nan"]);
    }
}
