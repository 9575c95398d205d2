//! Training curves: what loops report now and then, as means over a stride of steps, in the file `history.json` of an artifact.
//!
//! A loop has at most [`ROWS`] rows: where there would be more, each two become one. So a file is bounded, and what is in it depends
//! on what was reported and on nothing else: not on interruptions, nor on whether a training went on from one of fewer steps.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::LOG_EVERY;

/// The most rows of a loop.
const ROWS: usize = 1000;
/// Version of the file that this build writes and reads.
const FORMAT: u32 = 1;

/// The curves of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    format: u32,
    /// One for each loop, in the order in which they ran.
    pub series: Vec<Series>,
}

/// The curves of a loop, over the same steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Which loop: `gan`, `boost`, `ratio`, `moments`, `vae` or `invert`.
    #[serde(rename = "loop")]
    pub name: String,
    /// The steps that a row stands for: values are means of what was reported in them.
    pub stride: u64,
    /// The last step of each row, ascending.
    pub step: Vec<u64>,
    /// Values by name, one a row; `None` where nothing was reported.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

/// Why curves cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: no training curves: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl History {
    /// The name of the file in an artifact.
    pub const FILE: &str = "history.json";

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, HistoryError> {
        let bytes = fs::read(path).map_err(|source| HistoryError::Io { path: path.to_owned(), source })?;
        let wrong = |message: String| HistoryError::Format { path: path.to_owned(), message };
        let history: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if history.format != FORMAT {
            return Err(wrong(format!("format {} is not {FORMAT}", history.format)));
        }
        for Series { name, step, values, .. } in &history.series {
            if !step.is_sorted_by(|a, b| a < b) {
                return Err(wrong(format!("the steps of `{name}` do not ascend")));
            }
            if let Some((column, _)) = values.iter().find(|(_, values)| values.len() != step.len()) {
                return Err(wrong(format!("`{column}` of `{name}` has not as many values as there are steps")));
            }
        }
        Ok(history)
    }

    /// Writes the file into the folder of an artifact.
    pub fn save(&self, folder: &Path) -> Result<(), HistoryError> {
        let path = folder.join(Self::FILE);
        let json = serde_json::to_string(self)
            .map_err(|error| HistoryError::Format { path: path.clone(), message: error.to_string() })?;
        fs::write(&path, json + "\n").map_err(|source| HistoryError::Io { path, source })
    }
}

impl Series {
    /// The points of a curve: steps and values.
    pub fn points(&self, name: &str) -> impl Iterator<Item = (u64, f64)> {
        let values = self.values.get(name).into_iter().flatten();
        self.step.iter().zip(values).filter_map(|(&step, value)| value.map(|value| (step, value)))
    }
}

/// Takes down what the loops of a stage report.
#[derive(Debug, Default)]
pub struct Recorder {
    /// By loop, in the order in which they began.
    curves: Vec<(&'static str, Curves)>,
}

/// What a loop has reported, as a part of its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Curves {
    stride: u64,
    /// The last step that is in a row.
    reached: u64,
    rows: BTreeMap<String, Vec<Mean>>,
    /// The last step of the loop where that is none at which all loops report: one that goes on from here must not know of it.
    end: Option<(u64, BTreeMap<String, f64>)>,
}

/// A mean on the way: a sum, and of how many.
type Mean = (f64, u64);

impl Recorder {
    /// The curves of a loop, which are empty if it begins.
    pub(super) fn of(&mut self, name: &'static str) -> &mut Curves {
        let at = self.curves.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.curves.push((name, Curves::new()));
            self.curves.len() - 1
        });
        &mut self.curves[at].1
    }

    /// What was taken down; `None` if that is nothing.
    pub fn history(&self) -> Option<History> {
        let series: Vec<Series> = self.curves.iter().map(|(name, curves)| curves.series(name)).collect();
        series.iter().any(|series| !series.step.is_empty()).then_some(History { format: FORMAT, series })
    }
}

impl Curves {
    fn new() -> Self {
        Self { stride: LOG_EVERY, reached: 0, rows: BTreeMap::new(), end: None }
    }

    /// Takes a step's values down, those that are finite, in a loop of these steps.
    pub(super) fn record(&mut self, step: u64, steps: u64, values: &[(&'static str, f64)]) {
        let finite = values.iter().filter(|(_, value)| value.is_finite());
        if step == steps && !step.is_multiple_of(LOG_EVERY) {
            self.end = Some((step, finite.map(|&(name, value)| (name.to_owned(), value)).collect()));
            return;
        }
        while step > ROWS as u64 * self.stride {
            self.halve();
        }
        let row = (step.max(1) - 1) / self.stride;
        for &(name, value) in finite {
            let column = self.rows.entry(name.to_owned()).or_default();
            column.resize(column.len().max(row as usize + 1), (0.0, 0));
            let (sum, count) = &mut column[row as usize];
            *sum += value;
            *count += 1;
        }
        self.reached = step;
    }

    /// Goes on in a loop of these steps.
    pub(super) fn resume(&mut self, steps: u64) {
        self.end.take_if(|(step, _)| *step < steps);
    }

    /// Makes one row of each two.
    fn halve(&mut self) {
        self.stride *= 2;
        for column in self.rows.values_mut() {
            *column = column.chunks(2).map(|pair| pair.iter().fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1))).collect();
        }
    }

    fn series(&self, name: &str) -> Series {
        let filled = |row: usize| self.rows.values().any(|column| column.get(row).is_some_and(|mean| mean.1 > 0));
        let rows: Vec<usize> = (0..self.reached.div_ceil(self.stride) as usize).filter(|&row| filled(row)).collect();
        let end = self.end.as_ref();
        let last_of = |&row: &usize| ((row as u64 + 1) * self.stride).min(self.reached);
        let step = rows.iter().map(last_of).chain(end.map(|(step, _)| *step)).collect();
        let mean = |&(sum, count): &Mean| (count > 0).then(|| rounded(sum / count as f64));
        let values = |name: &String| {
            let column = self.rows.get(name);
            let at = |&row: &usize| column.and_then(|column| column.get(row)).and_then(mean);
            rows.iter().map(at).chain(end.map(|(_, values)| values.get(name).copied().map(rounded))).collect()
        };
        let names = self.rows.keys().chain(end.iter().flat_map(|(_, values)| values.keys()));
        let values = names.map(|name| (name.clone(), values(name))).collect();
        Series { name: name.to_owned(), stride: self.stride, step, values }
    }
}

/// A number with seven significant digits, which is as much as a loss has.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests;
