//! CSV: a header line of names, then one event a line.

use std::{ops::ControlFlow, path::Path};

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder, Trim};

use super::{DataError, Sink, at_once, named, open, resolve};

/// The names whose first value is a number.
pub(super) fn columns(path: &Path) -> Result<Vec<String>, DataError> {
    let (mut reader, names) = header(path)?;
    let mut first = ByteRecord::new();
    if !reader.read_byte_record(&mut first).map_err(explain(path))? {
        return Ok(names);
    }
    Ok(names.into_iter().zip(&first).filter_map(|(name, field)| number(field).is_some().then_some(name)).collect())
}

pub(super) fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let (mut reader, names) = header(path)?;
    let wanted = wanted.map_or_else(|| columns(path), |wanted| Ok(wanted.to_vec()))?;
    if wanted.is_empty() {
        return Err(DataError::format(path, "no column holds numbers"));
    }
    let places = resolve(path, &wanted, &names)?;
    if let Some(place) = places.iter().find(|&&place| names.iter().filter(|name| **name == names[place]).count() > 1) {
        return Err(DataError::format(path, format!("the column `{}` occurs twice in the header", names[*place])));
    }
    let mut columns = vec![Vec::new(); places.len()];
    let at_once = at_once(columns.len());
    let (mut record, mut events) = (ByteRecord::new(), 0_u64);
    while reader.read_byte_record(&mut record).map_err(explain(path))? {
        events += 1;
        for (column, &place) in columns.iter_mut().zip(&places) {
            let field = record.get(place).unwrap_or_default();
            column.push(number(field).ok_or_else(|| not_a_number(path, &names[place], events, field))?);
        }
        if columns[0].len() == at_once {
            let piece = columns.iter_mut().map(std::mem::take).collect();
            if sink(named(path, wanted.clone(), piece)?)?.is_break() {
                return Ok(());
            }
        }
    }
    sink(named(path, wanted, columns)?).map(|_: ControlFlow<()>| ())
}

fn header(path: &Path) -> Result<(Reader<std::fs::File>, Vec<String>), DataError> {
    let (file, _) = open(path)?;
    let mut reader = ReaderBuilder::new().trim(Trim::Headers).buffer_capacity(1 << 18).from_reader(file);
    let names: Vec<String> = reader.headers().map_err(explain(path))?.iter().map(str::to_owned).collect();
    if !names.is_empty() && names.iter().all(|name| number(name.as_bytes()).is_some()) {
        return Err(DataError::format(path, "the first line holds numbers; it must name the columns"));
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

fn not_a_number(path: &Path, name: &str, row: u64, field: &[u8]) -> DataError {
    let text = String::from_utf8_lossy(field.trim_ascii());
    let what = if text.is_empty() { "a missing value".to_owned() } else { format!("`{text:.40}`") };
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
            ("a;b\n1;2\n", "separate columns by `,` and not by ';'"),
            ("a,a\n1,2\n", "`a` occurs twice"),
        ] {
            let message = table(content, Some(&["a", "b"][..if content.starts_with("a,a") { 1 } else { 2 }]));
            let message = message.unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
        assert!(table("a\nx\n", None).unwrap_err().to_string().contains("no column holds numbers"));
    }
}
