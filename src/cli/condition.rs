//! Conditions on events, as in `--where 'jj_M > 1500'`.

use std::str::FromStr;

use pgan_pipe::data::{DataError, Table};

/// A column compared with a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    /// A feature or derived observable.
    pub(super) column: String,
    comparison: Comparison,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// The longer ones first: `>` begins `>=`, too.
const COMPARISONS: [(&str, Comparison); 4] =
    [(">=", Comparison::AtLeast), ("<=", Comparison::AtMost), (">", Comparison::Above), ("<", Comparison::Below)];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || {
            "write COLUMN > NUMBER (or >=, <, <=), as in 'jj_M > 1500'; repeat the option for more conditions"
                .to_owned()
        };
        let (at, (sign, comparison)) = (0..text.len())
            .find_map(|at| {
                Some((
                    at,
                    *COMPARISONS.iter().find(|(sign, _)| text.get(at..).is_some_and(|rest| rest.starts_with(sign)))?,
                ))
            })
            .ok_or_else(help)?;
        let (column, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        let value: f64 = value.parse().map_err(|_| help())?;
        if column.is_empty() || !value.is_finite() {
            return Err(help());
        }
        Ok(Self { column: column.to_owned(), comparison, value })
    }
}

impl Condition {
    fn holds(&self, value: f32) -> bool {
        let value = f64::from(value);
        match self.comparison {
            Comparison::Above => value > self.value,
            Comparison::AtLeast => value >= self.value,
            Comparison::Below => value < self.value,
            Comparison::AtMost => value <= self.value,
        }
    }
}

/// The events for which all conditions hold, at most so many.
pub(super) fn kept(events: Table, conditions: &[Condition], most: usize) -> Result<Table, DataError> {
    let mut kept: Vec<usize> = (0..events.len()).collect();
    for condition in conditions {
        let column = events.column(&condition.column)?;
        kept.retain(|&event| condition.holds(column[event]));
    }
    kept.truncate(most);
    Ok(if kept.len() == events.len() { events } else { events.rows(&kept) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold() {
        let table = Table::from_rows(vec!["a".into(), "b_c".into()], &[1.0, 5.0, 2.0, 6.0, 3.0, 7.0]).unwrap();
        let rows = |conditions: &[&str], most| {
            let conditions: Vec<Condition> = conditions.iter().map(|text| text.parse().unwrap()).collect();
            kept(table.clone(), &conditions, most).unwrap().columns()[0].clone()
        };
        assert_eq!(rows(&["a > 1"], 9), [2.0, 3.0]);
        assert_eq!(rows(&["a>=2", "b_c <= 6e0"], 9), [2.0]);
        assert_eq!(rows(&["a < 3"], 1), [1.0]);
        assert_eq!(rows(&[], 9), [1.0, 2.0, 3.0]);
        let unknown: Condition = "x > 1".parse().unwrap();
        assert!(matches!(kept(table, &[unknown], 1), Err(DataError::NoColumn { .. })));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_an_example() {
        for text in ["", "a", "a = 1", "> 1", "a > b", "a > inf", "a > 1 > 2", "é≥1"] {
            assert!(text.parse::<Condition>().unwrap_err().contains("jj_M > 1500"), "{text}");
        }
    }
}
