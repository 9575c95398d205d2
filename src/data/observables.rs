//! Observables: physical quantities derived from an event's features.

use serde::{Deserialize, Serialize};

use super::{DataError, Table};

/// A ready set of derived observables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observables {
    /// None beside the features themselves.
    #[default]
    None,
    /// `jj_pt`, `jj_eta`, `jj_M` of the jet pair.
    Dijet,
}

impl Observables {
    /// Names of the derived observables.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Dijet => &["jj_pt", "jj_eta", "jj_M"],
        }
    }

    /// The values of a feature or derived observable, one an event.
    pub fn values(self, _events: &Table, _name: &str) -> Result<Vec<f64>, DataError> {
        todo!()
    }
}
