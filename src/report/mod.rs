//! What a person reads after a run: tables and plots, made from recorded numbers.
//!
//! Nothing is computed from events here: tables come from a record's metrics, plots from the [`Evaluation`] file.

pub mod evaluation;
pub mod plot;
pub mod study;
mod sweep;
pub mod table;
mod verdict;

pub use evaluation::Evaluation;
pub use study::study;
pub use table::summary;
