//! Events: tables of physical columns, how they are read, split, encoded for a generator and decoded again.
//!
//! Nothing here knows of tensors or stages. Physical columns are `f32` in the units of their source; derived observables are
//! computed in `f64`.

use std::path::{Path, PathBuf};

mod column;
pub mod coordinates;
pub mod dataset;
pub mod dijet;
pub mod events;
pub mod normal;
pub mod observables;
pub mod pareto;
pub mod read;
pub mod split;
pub mod synthetic;
pub mod table;
pub mod values;
pub mod write;

pub(crate) use column::interpolate as interpolated_quantile;
pub use coordinates::{Coordinates, CoordinatesChoice};
pub use dataset::{Dataset, Description, Tail};
pub use events::Events;
pub use observables::Observables;
pub use read::read_table;
pub use synthetic::Truth;
pub use table::Table;
pub use values::{Scratch, Values};
pub use write::{TableWriter, write_table};

/// Why events cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file's content is not what its format promises.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the row or column where known.
        message: String,
    },
    /// A column that is needed is not in the file.
    #[error("{}: there is no column `{name}`; the numeric columns are {}", path.display(), known.join(", "))]
    NoColumnInFile {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A column that is needed is not there.
    #[error("there is no column `{name}`; the columns are {}", known.join(", "))]
    NoColumn {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The events do not fit what is asked of them.
    #[error("{0}")]
    Unusable(String),
}

impl DataError {
    /// A malformed file.
    fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), message: message.into() }
    }

    /// Wraps an I/O error with its path.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Events of so many columns that are in hand at once where there may be more than memory holds.
fn at_once(columns: usize) -> usize {
    ((1 << 22) / columns.max(1)).clamp(1, 1 << 16)
}

/// The nearest single-precision number, never infinite.
fn single(value: f64) -> f32 {
    value.clamp(f64::from(-f32::MAX), f64::from(f32::MAX)) as f32
}
