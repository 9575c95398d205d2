//! Events as rows, one after the other: what a dataset holds, in memory or in a mapped file.

use std::ops::Range;

use super::{DataError, Observables, Table, Values, at_once, values::Scratch};

/// Rows of named columns, `[events × names]` in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    names: Vec<String>,
    values: Values,
}

impl Events {
    /// Refuses numbers that do not make whole rows.
    pub fn new(names: Vec<String>, values: Values) -> Result<Self, DataError> {
        if names.is_empty() || !values.len().is_multiple_of(names.len()) {
            return Err(DataError::Unusable(format!("{} numbers do not make rows of {}", values.len(), names.len())));
        }
        Ok(Self { names, values })
    }

    /// The events of a table.
    pub fn of(table: &Table) -> Result<Self, DataError> {
        Self::new(table.names().to_vec(), table.to_rows().into())
    }

    /// Events.
    pub fn len(&self) -> usize {
        self.values.len() / self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Column names in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The rows.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The events piece by piece, as tables.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Table, DataError>> {
        self.pieces().map(|rows| Table::from_rows(self.names.clone(), rows))
    }

    fn pieces(&self) -> std::slice::Chunks<'_, f32> {
        self.values.chunks(at_once(self.names.len()) * self.names.len())
    }

    /// All events as a table, in memory.
    pub fn table(&self) -> Result<Table, DataError> {
        Table::from_rows(self.names.clone(), &self.values)
    }

    /// The events of these indices as a table, in this order.
    pub fn rows(&self, indices: &[usize]) -> Result<Table, DataError> {
        let width = self.names.len();
        let place = |&index: &usize| index * width..(index + 1) * width;
        self.values.will_need(indices.iter().map(place));
        let rows: Vec<f32> = indices.iter().flat_map(|index| &self.values[place(index)]).copied().collect();
        Table::from_rows(self.names.clone(), &rows)
    }

    /// The events of these indices, in this order.
    pub fn select(&self, order: &[u32], scratch: &Scratch) -> Result<Self, DataError> {
        Self::new(self.names.clone(), self.values.gather(self.names.len(), order, scratch)?)
    }

    /// All events in another order, each once.
    pub fn permuted(&self, order: Vec<u32>, scratch: &Scratch) -> Result<Self, DataError> {
        Self::new(self.names.clone(), self.values.permuted(self.names.len(), order, scratch)?)
    }

    /// The events of a range, which share what they are a part of.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let width = self.names.len();
        Self { names: self.names.clone(), values: self.values.slice(range.start * width..range.end * width) }
    }

    /// A column by its place.
    pub fn column(&self, place: usize, scratch: &Scratch) -> Result<Values, DataError> {
        let mut collector = scratch.collector();
        for rows in self.pieces() {
            let column: Vec<f32> = rows.iter().skip(place).step_by(self.names.len()).copied().collect();
            collector.extend(&column)?;
        }
        collector.finish()
    }

    /// The values of a feature or derived observable, one an event, computed as they are asked for.
    pub fn observable(
        &self,
        observables: Observables,
        name: &str,
    ) -> Result<impl Iterator<Item = f64> + Clone, DataError> {
        // A name that is not there is all that can go wrong, and shows without events, too.
        observables.values(&Table::from_rows(self.names.clone(), &[])?, name)?;
        let values = move |rows: &[f32]| {
            let table = Table::from_rows(self.names.clone(), rows);
            table.and_then(|table| observables.values(&table, name)).unwrap_or_default()
        };
        Ok(self.pieces().flat_map(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{dijet, read_table};

    #[test]
    fn events_are_the_table_that_they_are_made_of() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dijet/train.parquet");
        let table = read_table(path.as_ref(), Some(&dijet::FEATURES.map(str::to_owned))).unwrap();
        let events = Events::of(&table).unwrap();
        assert_eq!((events.len(), events.table().unwrap()), (table.len(), table.clone()));
        assert_eq!(&*events.column(2, &Scratch::memory()).unwrap(), table.columns()[2].as_slice());
        assert_eq!(events.rows(&[7, 3, 3]).unwrap(), table.rows(&[7, 3, 3]));
        let selected = events.select(&[9, 0], &Scratch::memory()).unwrap();
        assert_eq!(selected.table().unwrap(), table.rows(&[9, 0]));
        for name in ["jj_M", "ljet2_pt"] {
            let values: Vec<f64> = events.observable(Observables::Dijet, name).unwrap().collect();
            assert_eq!(values, Observables::Dijet.values(&table, name).unwrap());
        }
        assert!(matches!(events.observable(Observables::None, "jj_M").err(), Some(DataError::NoColumn { .. })));
    }

    #[test]
    fn half_a_row_is_refused() {
        assert!(Events::new(vec!["a".into(), "b".into()], vec![1.0, 2.0, 3.0].into()).is_err());
        assert!(Events::new(Vec::new(), Values::default()).is_err());
    }
}
