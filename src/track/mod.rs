//! Results for programs that show experiments: a stage that has run becomes a run of theirs.
//!
//! What is told is what was recorded: parameters, metrics, the curves of a training, and how the result came about.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    pipeline::Pipeline,
    plan::named_metrics,
    stage::Metrics,
    store::{Record, Store},
    train::history::{History, HistoryError, Series},
};

pub mod mlflow;
pub mod tensorboard;

/// A stage that has run.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The stage's name.
    pub name: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its record.
    pub record: Arc<Record>,
    /// Its metrics, under the names of the pipeline.
    pub metrics: Metrics,
    /// The curves of its loops, if it trains.
    pub series: Vec<Series>,
}

impl Tracked {
    /// The stage of this index in the pipeline, with its record. Its curves are read from the store, whose files must be intact.
    pub fn new(pipeline: &Pipeline, index: usize, record: &Arc<Record>, store: &Store) -> Result<Self, HistoryError> {
        let declared = &pipeline.stages[index];
        let file = record.outputs.get(History::FILE);
        let history = file.map(|file| History::load(&store.object(file.digest))).transpose()?;
        Ok(Self {
            name: declared.name.clone(),
            pipeline: pipeline.name.clone(),
            record: record.clone(),
            metrics: named_metrics(&declared.models, &record.metrics),
            series: history.map_or_else(Vec::new, |history| history.series),
        })
    }

    /// Its parameters with their defaults, by dotted paths, and the seed. What is not set is left out.
    pub fn parameters(&self) -> BTreeMap<String, Value> {
        let mut flat = BTreeMap::from([("seed".to_owned(), Value::from(self.record.material.seed))]);
        flatten("", &self.record.material.parameters, &mut flat);
        flat
    }

    /// Points of all its curves: the loops' one after the other, steps ascending in each. Where there are several loops, a name begins
    /// with its loop's: `ratio/loss`.
    pub fn points(&self) -> impl Iterator<Item = Point<'_>> {
        let several = self.series.len() > 1;
        self.series.iter().flat_map(move |series| {
            (0..series.step.len()).map(move |row| Point { step: series.step[row], row, series, several })
        })
    }

    /// The last step of its training; 0 where nothing is trained.
    pub fn last_step(&self) -> u64 {
        self.points().map(|point| point.step).max().unwrap_or(0)
    }

    /// When it started, in seconds since 1970.
    pub fn started(&self) -> f64 {
        self.record.provenance.started.parse().map_or(0.0, |time: Timestamp| time.as_millisecond() as f64 / 1e3)
    }

    /// About when a training was at this step: what was recorded is when it began and how long it took.
    pub fn time_of(&self, step: u64) -> f64 {
        let share = if self.last_step() == 0 { 1.0 } else { step as f64 / self.last_step() as f64 };
        self.started() + share * self.record.provenance.seconds
    }
}

/// The values of the curves of a loop at a step.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The step.
    pub step: u64,
    row: usize,
    series: &'a Series,
    several: bool,
}

impl<'a> Point<'a> {
    /// The values by name.
    pub fn values(self) -> impl Iterator<Item = (String, f64)> + 'a {
        let name =
            move |name: &String| if self.several { format!("{}/{name}", self.series.name) } else { name.clone() };
        self.series.values.iter().filter_map(move |(of, values)| Some((name(of), values.get(self.row).copied()??)))
    }
}

/// Numbers, texts and truth values by the paths that lead to them; a list as it would be written.
fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, flat);
            }
        }
        Value::Null => {}
        Value::Array(_) => {
            flat.insert(path.to_owned(), Value::String(value.to_string()));
        }
        value => {
            flat.insert(path.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests;
