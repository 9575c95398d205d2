//! The columns of a file: which hold numbers, what the others hold, and which of them are read.

use std::path::Path;

use super::DataError;
use crate::printable::{acts, one_line};

/// Columns that a message lists at most.
const LISTED: usize = 12;

/// The content of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Numbers.
    Numbers,
    /// Row numbers that pandas has written: a feature only where `features` names the column.
    Index,
    /// Numbers under a name that holds a line break or another control character: a feature only where `features` names the column.
    Nameless,
    /// No numbers, but this: "text: `abc` in row 1", "dates".
    Other(String),
}

/// The columns of a file in its order, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(Vec<(String, Holds)>);

/// Why a column cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The file has none of this name.
    Absent,
    /// Its name or its content forbid it, as this sentence says.
    Unfit(String),
}

impl Columns {
    /// Columns by their names. One whose name would break the lines of tables and messages is not read unasked.
    pub(super) fn new(mut columns: Vec<(String, Holds)>) -> Self {
        for (name, holds) in &mut columns {
            if *holds == Holds::Numbers && name.contains(acts) {
                *holds = Holds::Nameless;
            }
        }
        Self(columns)
    }

    /// The columns that are read where none are named.
    pub fn numeric(&self) -> Vec<String> {
        self.names_of(|holds| *holds == Holds::Numbers)
    }

    /// The columns that can be read if they are named.
    pub fn readable(&self) -> Vec<String> {
        self.names_of(|holds| !matches!(holds, Holds::Other(_)))
    }

    fn names_of(&self, test: impl Fn(&Holds) -> bool) -> Vec<String> {
        self.0.iter().filter(|(_, holds)| test(holds)).map(|(name, _)| name.clone()).collect()
    }

    /// Lists the columns that are not read where none are named, each with its reason; `None` if there are none.
    pub fn left_out(&self) -> Option<String> {
        let reason = |(name, holds): &(String, Holds)| match holds {
            Holds::Numbers => None,
            Holds::Nameless => Some(format!("`{}` (a control character in its name)", one_line(name))),
            Holds::Index => Some(format!("`{}` (an index of pandas)", one_line(name))),
            Holds::Other(what) => Some(format!("`{}` ({})", one_line(name), one_line(what))),
        };
        let mut listed: Vec<String> = self.0.iter().filter_map(reason).collect();
        let more = listed.len().saturating_sub(LISTED);
        listed.truncate(LISTED);
        if more > 0 {
            listed.push(format!("and {more} more"));
        }
        (!listed.is_empty()).then(|| listed.join(", "))
    }

    /// The place of the column of this name.
    pub fn place(&self, name: &str) -> Result<usize, Unreadable> {
        let mut places = (0..self.0.len()).filter(|&place| self.0[place].0 == name);
        let first = places.next().ok_or(Unreadable::Absent)?;
        if places.next().is_some() {
            let message =
                format!("the column `{name}` occurs twice: which one is meant is not known; rename one of them");
            return Err(Unreadable::Unfit(message));
        }
        match &self.0[first].1 {
            Holds::Other(what) => {
                Err(Unreadable::Unfit(format!("the column `{name}` does not hold numbers but {what}")))
            }
            Holds::Numbers | Holds::Index | Holds::Nameless => Ok(first),
        }
    }

    /// The places and names of the wanted columns of a file, or of all that hold numbers.
    pub(super) fn choose(
        &self,
        path: &Path,
        wanted: Option<&[String]>,
    ) -> Result<(Vec<usize>, Vec<String>), DataError> {
        let names = wanted.map_or_else(|| self.numeric(), <[String]>::to_vec);
        if names.is_empty() {
            let others = self.left_out().map_or_else(String::new, |others| format!(": {others}"));
            return Err(DataError::format(path, format!("no column holds numbers{others}")));
        }
        let place = |name: &String| {
            self.place(name).map_err(|why| match why {
                Unreadable::Unfit(message) => DataError::format(path, message),
                Unreadable::Absent => {
                    DataError::NoColumnInFile { path: path.to_owned(), name: name.clone(), known: self.readable() }
                }
            })
        };
        Ok((names.iter().map(place).collect::<Result<_, _>>()?, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_not_read_are_listed_with_their_reasons_and_long_lists_are_cut() {
        let other = |name: &str| (name.to_owned(), Holds::Other("dates".to_owned()));
        let few = Columns::new(vec![("a".to_owned(), Holds::Numbers), other("b"), (String::new(), Holds::Index)]);
        assert_eq!(few.left_out().unwrap(), "`b` (dates), `` (an index of pandas)");
        assert_eq!((few.numeric(), few.readable()), (vec!["a".to_owned()], vec!["a".to_owned(), String::new()]));
        let many = Columns::new((0..15).map(|k| other(&format!("c{k}"))).collect());
        assert!(many.left_out().unwrap().ends_with("`c11` (dates), and 3 more"), "{many:?}");
        assert_eq!(Columns::default().left_out(), None);
    }
}
