//! A table of named columns of equal length.

use super::DataError;

/// Events as columns: `f32`, equal lengths, distinct names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    names: Vec<String>,
    columns: Vec<Vec<f32>>,
}

impl Table {
    /// Makes a table; refuses columns of different lengths, and names that repeat.
    pub fn new(names: Vec<String>, columns: Vec<Vec<f32>>) -> Result<Self, DataError> {
        if names.len() != columns.len() || columns.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
            return Err(DataError::Unusable("the columns of a table must be named and of one length".into()));
        }
        if let Some(name) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
            return Err(DataError::Unusable(format!("the column `{name}` occurs twice")));
        }
        Ok(Self { names, columns })
    }

    /// Makes a table of rows, `[events × names]` in row-major order.
    pub fn from_rows(names: Vec<String>, rows: &[f32]) -> Result<Self, DataError> {
        let width = names.len();
        if width == 0 || !rows.len().is_multiple_of(width) {
            return Err(DataError::Unusable(format!("{} numbers do not make rows of {width}", rows.len())));
        }
        let columns = (0..width).map(|start| rows.iter().skip(start).step_by(width).copied().collect()).collect();
        Self::new(names, columns)
    }

    /// The events of tables with these columns, one after the other.
    pub fn concat(names: &[String], tables: &[Self]) -> Result<Self, DataError> {
        if tables.iter().any(|table| table.names != names) {
            return Err(DataError::Unusable("tables of different columns make no table".into()));
        }
        let column = |index: usize| tables.iter().flat_map(|table| &table.columns[index]).copied().collect();
        Self::new(names.to_vec(), (0..names.len()).map(column).collect())
    }

    /// The events as rows, `[events × columns]` in row-major order.
    pub fn to_rows(&self) -> Vec<f32> {
        (0..self.len()).flat_map(|event| self.columns.iter().map(move |column| column[event])).collect()
    }

    /// Events.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Column names in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Columns in the order of the names.
    pub fn columns(&self) -> &[Vec<f32>] {
        &self.columns
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Result<&[f32], DataError> {
        match self.names.iter().position(|known| known == name) {
            Some(index) => Ok(&self.columns[index]),
            None => Err(DataError::NoColumn { name: name.to_owned(), known: self.names.clone() }),
        }
    }

    /// The events of these indices, in this order.
    #[must_use]
    pub fn rows(&self, indices: &[usize]) -> Self {
        let columns = self.columns.iter().map(|column| indices.iter().map(|&i| column[i]).collect()).collect();
        Self { names: self.names.clone(), columns }
    }

    /// These columns, in this order.
    pub fn select(&self, names: &[String]) -> Result<Self, DataError> {
        let columns = names.iter().map(|name| self.column(name).map(<[f32]>::to_vec)).collect::<Result<_, _>>()?;
        Self::new(names.to_vec(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_are_transposes() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let table = Table::from_rows(names.clone(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(table.columns(), [vec![1.0, 3.0, 5.0], vec![2.0, 4.0, 6.0]]);
        assert_eq!(table.to_rows(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(Table::from_rows(names, &[1.0, 2.0, 3.0]).is_err());
    }

    #[test]
    fn columns_of_different_length_or_of_one_name_are_refused() {
        assert!(Table::new(vec!["a".into(), "b".into()], vec![vec![1.0], vec![]]).is_err());
        assert!(Table::new(vec!["a".into(), "a".into()], vec![vec![1.0], vec![1.0]]).is_err());
    }
}
