//! `matrix:` of a stage: axes with values. The stage stands for one stage at each point of their product.
//!
//! A point's stage is read from the tree in which `${matrix.AXIS}` is replaced, so it is checked, and has the key, as if it had
//! been written out. [`join`] then carries the points along to the stages that take it, and gives each its name.

use std::collections::HashMap;

use super::{
    diagnostics::{Diagnostic, Place},
    fault::suggest,
    node::{Entry, Node, Scalar, Value, shorten},
};

pub(super) mod join;

/// Points of one stage's own axes.
const MAX_POINTS: usize = 1000;
/// Longest text of a value in the name of a stage.
const MAX_LABEL: usize = 40;
/// The entry beside the axes that takes points out.
const EXCLUDE: &str = "exclude";

/// An axis and one of its values, as they stand in the name of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coordinate {
    pub(super) axis: String,
    pub(super) label: String,
}

/// The axes of a stage.
pub(super) struct Matrix {
    pub(super) axes: Vec<Axis>,
    /// The points, each an index into the values of every axis; the first axis varies slowest.
    points: Vec<Vec<usize>>,
}

/// An axis with its values.
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) place: Place,
    values: Vec<(String, Node)>,
}

impl Matrix {
    /// Reads the axes; `None`, with mistakes, if there is none that can be used.
    pub(super) fn read(matrix: &Entry, mistakes: &mut Vec<Diagnostic>) -> Option<Self> {
        let told = mistakes.len();
        let Some(entries) = matrix.value.entries() else {
            if !matches!(matrix.value.value, Value::StandIn) {
                let message = format!("`matrix` is {}, not a map of axes", matrix.value.in_words());
                let help = "write `matrix: { AXIS: [VALUE, …] }`, and `${matrix.AXIS}` where the value goes";
                mistakes.push(Diagnostic::new(message, matrix.place).help(help));
            }
            return None;
        };
        let axes = entries.iter().filter(|entry| entry.key != EXCLUDE).map(|entry| Axis::read(entry, mistakes));
        let axes: Vec<Option<Axis>> = axes.collect();
        let axes: Vec<Axis> = axes.into_iter().collect::<Option<_>>()?;
        if mistakes.len() > told {
            return None;
        }
        if axes.is_empty() {
            mistakes.push(Diagnostic::new("`matrix` has no axis", matrix.place).help("write `AXIS: [VALUE, …]`"));
            return None;
        }
        let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
        let Some(count) = count.filter(|&count| count <= MAX_POINTS) else {
            let count = count.map_or_else(|| "too many".to_owned(), |count| count.to_string());
            let message = format!("the axes have {count} points, and {MAX_POINTS} is the most");
            mistakes.push(Diagnostic::new(message, matrix.place).help("take values out, or split the sweep"));
            return None;
        };
        let mut points: Vec<Vec<usize>> = (0..count).map(|nth| axes_at(&axes, nth)).collect();
        if let Some(exclude) = matrix.value.entry(EXCLUDE) {
            let excluded = excluded(exclude, &axes, mistakes);
            let is_out =
                |point: &Vec<usize>| excluded.iter().any(|out| out.iter().all(|&(axis, value)| point[axis] == value));
            points.retain(|point| !is_out(point));
            if points.is_empty() && mistakes.len() == told {
                mistakes.push(Diagnostic::new("`exclude` leaves no point", exclude.place));
            }
        }
        (mistakes.len() == told).then_some(Self { axes, points })
    }

    /// The points: each axis with its value, and what they are called.
    pub(super) fn points(&self) -> impl Iterator<Item = (Vec<(String, Node)>, Vec<Coordinate>)> {
        self.points.iter().map(|point| {
            let at = || self.axes.iter().zip(point).map(|(axis, &value)| (axis.name.clone(), &axis.values[value]));
            let values = at().map(|(axis, (_, node))| (axis, node.clone())).collect();
            (values, at().map(|(axis, (label, _))| Coordinate { axis, label: label.clone() }).collect())
        })
    }
}

/// The n-th point of the product.
fn axes_at(axes: &[Axis], mut nth: usize) -> Vec<usize> {
    let mut point: Vec<usize> = axes
        .iter()
        .rev()
        .map(|axis| {
            let at = nth % axis.values.len();
            nth /= axis.values.len();
            at
        })
        .collect();
    point.reverse();
    point
}

impl Axis {
    fn read(entry: &Entry, mistakes: &mut Vec<Diagnostic>) -> Option<Self> {
        let name = &entry.key;
        let refused = |message: String, place: Place, help: &str| Diagnostic::new(message, place).help(help);
        if !is_axis_name(name) {
            let message = format!("`{}` cannot name an axis", shorten(name));
            let help = format!(
                "a name holds letters, digits, `-` and `_`, starts with a letter, and has at most {MAX_LABEL} characters"
            );
            mistakes.push(refused(message, entry.place, &help));
            return None;
        }
        let items = match &entry.value.value {
            Value::Sequence(items) => items,
            Value::StandIn => return None,
            _ => {
                let message = format!("the axis `{name}` is {}, not a list of values", entry.value.in_words());
                mistakes.push(refused(message, entry.value.place, "write the values in brackets: `[1, 2]`"));
                return None;
            }
        };
        if items.is_empty() {
            let message = format!("the axis `{name}` has no values");
            mistakes.push(refused(message, entry.place, "give it some, or take it out"));
            return None;
        }
        let mut values: Vec<(String, Node)> = Vec::with_capacity(items.len());
        let mut seen = HashMap::with_capacity(items.len());
        if items.iter().any(|item| matches!(item.value, Value::StandIn)) {
            return None;
        }
        for item in items {
            let Some(label) = label(&item.value) else {
                let message = format!("a value of the axis `{name}` is {}", item.in_words());
                let help = "an axis takes finite numbers, texts, `true` and `false`";
                mistakes.push(refused(message, item.place, help));
                continue;
            };
            match seen.insert(label.clone(), item.place) {
                None => values.push((label, item.clone())),
                Some(first) => mistakes.push(
                    refused(format!("the axis `{name}` has `{label}` twice"), item.place, "keep one of them")
                        .label("again here")
                        .also(first, "first here"),
                ),
            }
        }
        Some(Self { name: name.clone(), place: entry.place, values })
    }
}

/// A point as it stands in the name of a stage.
pub(super) fn in_words(point: &[Coordinate]) -> String {
    point.iter().map(|Coordinate { axis, label }| format!("{axis}={label}")).collect::<Vec<_>>().join(",")
}

fn is_axis_name(name: &str) -> bool {
    name.len() <= MAX_LABEL
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A value as it stands in the name of a stage: numbers in their shortest form, texts without what cannot stand in the name of a
/// file or a stage. `None` for what is no scalar.
fn label(value: &Value) -> Option<String> {
    let number = |value: f64| {
        let plain = value.to_string();
        if plain.len() > 12 { format!("{value:e}") } else { plain }
    };
    match value {
        Value::Scalar(_, Scalar::Bool(value)) => Some(value.to_string()),
        Value::Scalar(_, Scalar::Integer(value)) => Some(value.to_string()),
        Value::Scalar(_, Scalar::Float(value)) => value.is_finite().then(|| number(*value)),
        Value::Scalar(text, Scalar::Text) if !text.is_empty() => {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
            Some(text.chars().take(MAX_LABEL).map(|c| if fits(c) { c } else { '-' }).collect())
        }
        _ => None,
    }
}

/// The points that `exclude` takes out, each by some axes and the index of their value.
fn excluded(exclude: &Entry, axes: &[Axis], mistakes: &mut Vec<Diagnostic>) -> Vec<Vec<(usize, usize)>> {
    let help = "write `exclude: [{ AXIS: VALUE, … }, …]`: a point is left out where all of these hold";
    let Value::Sequence(items) = &exclude.value.value else {
        let message = format!("`exclude` is {}, not a list of points", exclude.value.in_words());
        mistakes.push(Diagnostic::new(message, exclude.value.place).help(help));
        return Vec::new();
    };
    let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
    let mut excluded = Vec::with_capacity(items.len());
    for item in items {
        let entries = item.entries().unwrap_or_default();
        if entries.is_empty() {
            let message = format!(
                "`exclude` holds {}, not a point",
                if item.entries().is_some() { "an empty map".to_owned() } else { item.in_words() }
            );
            mistakes.push(Diagnostic::new(message, item.place).help(help));
        }
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(axis) = names.iter().position(|name| *name == entry.key) else {
                let message = format!("there is no axis `{}`", shorten(&entry.key));
                mistakes.push(suggest(Diagnostic::new(message, entry.place), &entry.key, &names));
                continue;
            };
            let label = label(&entry.value.value).unwrap_or_default();
            let known: Vec<&str> = axes[axis].values.iter().map(|(label, _)| label.as_str()).collect();
            if let Some(value) = known.iter().position(|known| *known == label) {
                out.push((axis, value));
                continue;
            }
            let message = format!("the axis `{}` has no value {}", entry.key, entry.value.in_words());
            let help = format!("its values are `{}`", known.join("`, `"));
            mistakes.push(Diagnostic::new(message, entry.value.place).help(help));
        }
        excluded.push(out);
    }
    excluded
}

#[cfg(test)]
mod tests;
