//! Events: tables of physical columns, how they are read, split, encoded for a generator and decoded again.
//!
//! Nothing here knows of tensors or stages. Physical columns are `f32` in the units of their source; derived observables are
//! computed in `f64`.

use std::path::PathBuf;

pub mod coordinates;
pub mod dataset;
pub mod observables;
pub mod table;

pub use coordinates::{Coordinates, CoordinatesChoice};
pub use dataset::{Dataset, Description, Tail};
pub use observables::Observables;
pub use table::Table;

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
