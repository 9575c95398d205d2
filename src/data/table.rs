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
