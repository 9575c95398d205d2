//! Observables: physical quantities derived from an event's features.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataError, Table, dijet, single};

/// A ready set of derived observables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    /// The columns that the derived observables are computed from.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Dijet => &dijet::FEATURES,
        }
    }

    /// The values of a feature or derived observable, one an event.
    pub fn values(self, events: &Table, name: &str) -> Result<Vec<f64>, DataError> {
        if let Ok(column) = events.column(name) {
            return Ok(column.iter().copied().map(f64::from).collect());
        }
        let Some(index) = self.names().iter().position(|known| *known == name) else {
            let derived = self.names().iter().map(|&name| name.to_owned());
            let known = events.names().iter().cloned().chain(derived).collect();
            return Err(DataError::NoColumn { name: name.to_owned(), known });
        };
        let columns = dijet::Columns::of(events)?;
        Ok((0..events.len()).into_par_iter().map(|event| dijet::pair(columns.event(event))[index]).collect())
    }

    /// The events with the derived observables as further columns.
    pub fn append_to(self, events: &Table) -> Result<Table, DataError> {
        let mut names = events.names().to_vec();
        let mut columns = events.columns().to_vec();
        let missing: Vec<usize> =
            (0..self.names().len()).filter(|&index| events.column(self.names()[index]).is_err()).collect();
        if !missing.is_empty() {
            let jets = dijet::Columns::of(events)?;
            let pairs: Vec<_> = (0..events.len()).into_par_iter().map(|event| dijet::pair(jets.event(event))).collect();
            for index in missing {
                columns.push(pairs.iter().map(|pair| single(pair[index])).collect());
                names.push(self.names()[index].to_owned());
            }
        }
        Table::new(names, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Table {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/data_observables.csv");
        crate::data::read_table(path.as_ref(), None).unwrap()
    }

    #[test]
    fn pair_observables_agree_with_the_generator_of_the_events() {
        let events = reference();
        let features = events.select(&dijet::FEATURES.map(str::to_owned)).unwrap();
        assert!(events.len() >= 300);
        for (name, scale) in [("jj_pt", 300.0), ("jj_eta", 1.0), ("jj_M", 500.0)] {
            let values = Observables::Dijet.values(&features, name).unwrap();
            for (value, &expected) in values.iter().zip(events.column(name).unwrap()) {
                let expected = f64::from(expected);
                let tolerance = 2e-6 * (scale + expected.abs());
                assert!((value - expected).abs() < tolerance, "{name}: {value} for {expected}");
            }
        }
    }

    #[test]
    fn a_column_of_the_table_goes_before_a_derived_one() {
        let events = Table::new(vec!["jj_M".into()], vec![vec![91.0]]).unwrap();
        assert_eq!(Observables::Dijet.values(&events, "jj_M").unwrap(), [91.0]);
    }

    #[test]
    fn an_unknown_observable_is_an_error_that_lists_the_known_ones() {
        let events = reference().select(&dijet::FEATURES.map(str::to_owned)).unwrap();
        let message = Observables::Dijet.values(&events, "jj_m").unwrap_err().to_string();
        assert!(message.contains("`jj_m`") && message.contains("ljet2_M, jj_pt, jj_eta, jj_M"), "{message}");
        assert!(Observables::None.values(&events, "jj_M").is_err());
    }

    #[test]
    fn appending_keeps_the_features_and_adds_the_derived_columns() {
        let events = reference().select(&dijet::FEATURES.map(str::to_owned)).unwrap();
        let all = Observables::Dijet.append_to(&events).unwrap();
        assert_eq!(&all.names()[7..], Observables::Dijet.names());
        assert_eq!(Observables::Dijet.append_to(&all).unwrap(), all);
    }

    #[test]
    fn pair_observables_of_wild_events_are_finite() {
        for wild in [0.0, f32::MAX, -f32::MAX, f32::MIN_POSITIVE] {
            let events = Table::new(dijet::FEATURES.map(str::to_owned).to_vec(), vec![vec![wild]; 7]).unwrap();
            for name in Observables::Dijet.names() {
                let value = Observables::Dijet.values(&events, name).unwrap()[0];
                assert!(value.is_finite(), "{name} of {wild} is {value}");
            }
        }
    }
}
