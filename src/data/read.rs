//! Reading tables: parquet, CSV and npy, by the file's extension.
//!
//! Files are not trusted: whatever they hold, reading ends in a table of finite numbers or in an error that names the file and
//! what to do, and memory stays below [`MAX_VALUES`] numbers. Rows count from 1, a header line not counted. [`stream`] reads files of any
//! size, a piece at a time.

use std::{
    fs::File,
    io,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::{DataError, Table, at_once};
use crate::files;

mod columns;
mod csv;
mod npy;
mod parquet;
mod precision;

pub use columns::{Columns, Holds, Unreadable};
pub use precision::Merged;
use precision::{Exact, Precision};

/// The most numbers of a file that become one table: 4 GiB in single precision.
pub const MAX_VALUES: usize = 1 << 30;

/// Receives the events of a file piece by piece, and says whether it wants more.
type Sink<'a> = dyn FnMut(Table) -> Result<ControlFlow<()>, DataError> + 'a;

/// File formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Npy,
}

impl Format {
    /// The format that the extension names.
    pub(super) fn of(path: &Path) -> Result<Self, DataError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("npy") => Ok(Self::Npy),
            other => {
                let what = other.map_or("no extension".to_owned(), |other| format!("the extension `.{other}`"));
                let message = format!(
                    "tables are `.parquet`, `.csv` or `.npy` files, and this one has {what}; convert it first (ROOT and HDF5 \
                     files: with uproot or h5py)"
                );
                Err(DataError::format(path, message))
            }
        }
    }
}

/// The columns of a file, as [`read_table`] would name them for these features; reads no more than it must.
pub fn columns(path: &Path, features: Option<&[String]>) -> Result<Columns, DataError> {
    guarded(path, || match Format::of(path)? {
        Format::Parquet => parquet::columns(path),
        Format::Csv => csv::columns(path, features),
        Format::Npy => npy::columns(path, features),
    })
}

/// Reads these columns of a file, or all that hold numbers, in the file's order. Without names, a column of row numbers that pandas has written
/// is left out; [`columns()`] tells what else is.
///
/// An npy file of shape `[events, columns]` has columns named by `wanted` if there are as many, else `x0`, `x1`, …
pub fn read_table(path: &Path, wanted: Option<&[String]>) -> Result<Table, DataError> {
    let (mut pieces, mut values) = (Vec::new(), 0);
    stream(path, wanted, &mut |piece| {
        values += piece.len() * piece.names().len();
        if values > MAX_VALUES {
            let message = format!("more than {MAX_VALUES} numbers; choose fewer columns, or split the file");
            return Err(DataError::format(path, message));
        }
        pieces.push(piece);
        Ok(ControlFlow::Continue(()))
    })?;
    let names = pieces.first().map(|piece| piece.names().to_vec()).unwrap_or_default();
    Table::concat(&names, &pieces)
}

/// Reads as [`read_table`] does, but hands the events on piece by piece, in order. At least one event comes, or an error. Returns the columns of which
/// single precision merges values.
pub fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<Vec<Merged>, DataError> {
    let mut events = 0;
    let mut checked = |piece: Table| {
        check_finite(path, &piece, events)?;
        events += piece.len();
        if piece.is_empty() { Ok(ControlFlow::Continue(())) } else { sink(piece) }
    };
    let merged = guarded(path, || match Format::of(path)? {
        Format::Parquet => parquet::stream(path, wanted, &mut checked),
        Format::Csv => csv::stream(path, wanted, &mut checked),
        Format::Npy => npy::stream(path, wanted, &mut checked),
    })?;
    if events == 0 {
        return Err(DataError::format(path, "there are no events in it"));
    }
    Ok(merged)
}

/// The columns, in their order, of which single precision merges values.
fn merged(names: &[String], precisions: &[Precision]) -> Vec<Merged> {
    names.iter().zip(precisions).filter_map(|(name, precision)| precision.merged(name)).collect()
}

/// A watch on each of so many columns.
fn precisions(columns: usize) -> Vec<Precision> {
    std::iter::repeat_with(Precision::default).take(columns).collect()
}

/// Refuses the first number, row by row, that is not finite; `before` events came before these.
fn check_finite(path: &Path, table: &Table, before: usize) -> Result<(), DataError> {
    let first = |column: &[f32]| column.iter().position(|x| !x.is_finite());
    let found =
        table.names().iter().zip(table.columns()).filter_map(|(name, column)| Some((first(column)?, name, column)));
    let Some((row, name, column)) = found.min_by_key(|(row, ..)| *row) else { return Ok(()) };
    let message = format!(
        "column `{name}`, row {}: {} is not a finite number in single precision; repair or remove such events in the file",
        before + row + 1,
        column[row]
    );
    Err(DataError::format(path, message))
}

/// Opens a file that is not empty, with its length.
fn open(path: &Path) -> Result<(File, u64), DataError> {
    let opened = files::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = opened.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => DataError::format(path, error.to_string()),
        _ => DataError::io(path)(error),
    })?;
    if length == 0 {
        return Err(DataError::format(path, "the file is empty"));
    }
    Ok((file, length))
}

/// Names a table's columns; names that repeat are the file's fault.
fn named(path: &Path, names: Vec<String>, columns: Vec<Vec<f32>>) -> Result<Table, DataError> {
    Table::new(names, columns).map_err(|error| DataError::format(path, error.to_string()))
}

/// Turns a panic of a format's parser on malformed bytes into an error.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(DataError::format(path, "the file is malformed; write it again")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, content: &[u8], wanted: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let message = read_table(&path, (!wanted.is_empty()).then_some(wanted.as_slice())).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
        message
    }

    #[test]
    fn an_unknown_extension_is_an_error_that_lists_the_known_ones() {
        assert!(error("events.root", b"root", &[]).contains("`.parquet`, `.csv` or `.npy`"));
        assert!(error("events", b"", &[]).contains("no extension"));
    }

    #[test]
    fn empty_files_and_folders_are_errors() {
        for name in ["e.csv", "e.npy", "e.parquet"] {
            assert!(error(name, b"", &[]).contains("the file is empty"));
        }
        assert!(error("e.csv", b"a,b\n", &["a"]).contains("no events"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder.csv");
        std::fs::create_dir(&path).unwrap();
        assert!(read_table(&path, None).unwrap_err().to_string().contains("not a regular file"));
        assert!(matches!(read_table(&folder.path().join("none.csv"), None), Err(DataError::Io { .. })));
    }

    #[test]
    fn numbers_that_are_not_finite_are_named_by_column_and_row() {
        let message = error("e.csv", b"a,b\n1,2\n3,nan\n", &[]);
        assert!(message.contains("column `b`, row 2: NaN"), "{message}");
        assert!(error("e.csv", b"a,b\n1,2\n1e99,3\n", &[]).contains("column `a`, row 2: inf"));
    }

    #[test]
    fn a_missing_column_is_an_error_that_lists_the_others() {
        let message = error("e.csv", b"a,b\n1,2\n", &["a", "c"]);
        assert!(message.contains("no column `c`; the numeric columns are a, b"), "{message}");
    }
}
