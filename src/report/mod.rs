//! What a person reads after a run: tables, plots and a page, made from recorded numbers.
//!
//! Nothing is computed from events here: tables come from a record's metrics, plots from the [`Evaluation`] file. [`Report`] brings all of it
//! together in a page.

pub mod evaluation;
mod graph;
pub mod page;
pub mod plot;
pub mod study;
mod sweep;
pub mod table;
pub mod text;
mod verdict;

pub use evaluation::{Evaluation, EvaluationError};
pub use graph::{Dag, Mark};
pub use page::Report;
pub use study::study;
pub use table::summary;
