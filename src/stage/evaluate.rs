//! `evaluate`: judges models against test events, each number beside its real-vs-real floor.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use rand::seq::index;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use self::{
    judge::{Judge, Judged},
    truth::TruthChoice,
};
use super::{ArtifactKind, Context, Metrics, Port, Problem, Source, StageError, StageKind, Upstream};
use crate::{
    data::{DataError, Dataset, Events as TrainEvents, Table},
    metrics::{Effort, METRICS, Metric, paired::Loss},
    model::Model,
    report::evaluation::{EvaluationError, Events},
    value::{EventCount, NonNegative, Resamples},
};

mod judge;
mod shape;
mod truth;

/// Judges models against test events, each number beside what a perfect model would score.
///
/// Metrics are named `models[i].METRIC[.OBSERVABLE]` and `floor.METRIC[.OBSERVABLE]`: by position, so that the name of a
/// stage is no part of the result. Whoever shows them puts the names in.
///
/// The floor is what a perfect model would score: a draw of as many training events as are generated from each model (all of
/// them, if they are fewer), judged in a model's place.
///
/// With `truth`, the tail is also held to a weighted sample that reaches further up than the test events. Its floor is the
/// test events, too.
///
/// Of synthetic events the density is known: `truth_quantile_ratio_U` is the quantile of x0 that the share U exceeds over the
/// exact one. Its floor is the ratio of the test events.
///
/// ```yaml
/// evaluation:
///   kind: evaluate
///   data: events
///   models: [frozen, boosted]
///   metrics: [chi2, tail, in_tail, classifier]
///   primary: tail_w1
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The dataset whose test events judge.
    pub data: String,
    /// The models to judge, each beside the others.
    pub models: Vec<String>,
    /// Events generated from each model. Absent: as many as there are test events.
    #[serde(default)]
    pub events: Option<EventCount>,
    /// What to measure, by the names of the metrics. Absent: all of it. `classifier` costs most.
    #[serde(default)]
    #[schemars(schema_with = "metric_names")]
    pub metrics: Option<Vec<String>>,
    /// Most events of either sample that the classifier sees, a half of them to train on.
    #[serde(default = "classifier_events")]
    pub classifier_events: EventCount,
    /// Bootstrap samples behind the tail's intervals; 0 for no intervals.
    #[serde(default = "bootstrap")]
    pub bootstrap: Resamples,
    /// A weighted sample of the truth in the tail. Absent: the test events alone judge.
    #[serde(default)]
    pub truth: Option<TruthChoice>,
    /// With `replicas`: the loss that decides whether the last model beats the first one. It is to be named before the result
    /// is known, and is no part of the result itself.
    #[serde(default)]
    pub primary: Loss,
    /// With `replicas`: by how much the mean χ²/NDF of the last model may exceed the first one's, on the log of their ratio,
    /// for the bulk to count as no worse.
    #[serde(default = "margin")]
    pub margin: NonNegative,
}

fn metric_names(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    json_schema!({ "type": ["array", "null"], "items": { "enum": names } })
}

/// A tenth.
pub(super) fn margin() -> NonNegative {
    NonNegative::try_from(0.1).unwrap_or_else(|_| unreachable!())
}

fn classifier_events() -> EventCount {
    EventCount::try_from(200_000).unwrap_or_else(|_| unreachable!())
}

fn bootstrap() -> Resamples {
    Resamples::try_from(200).unwrap_or_else(|_| unreachable!())
}

impl Evaluate {
    /// The file that the metrics are in, for stages that take evaluations.
    pub const METRICS_FILE: &'static str = "metrics.json";

    /// The metrics to run, in the order of the registry.
    fn chosen(&self) -> Vec<&'static Metric> {
        let chosen =
            |metric: &&Metric| self.metrics.as_ref().is_none_or(|names| names.iter().any(|name| name == metric.name));
        METRICS.iter().filter(chosen).collect()
    }

    fn effort(&self) -> Effort {
        Effort { classifier_events: self.classifier_events.get(), replicas: self.bootstrap.get(), ..Effort::default() }
    }

    fn wrong_models(&self) -> Vec<Problem> {
        if self.models.is_empty() {
            let problem = Problem::new("models", "there is no model to judge");
            return vec![problem.help("name at least one stage that makes a model: `models: [base]`")];
        }
        let repeated = |(i, name): (usize, &String)| {
            let first = self.models[..i].iter().position(|earlier| earlier == name)?;
            let message = format!("`{name}` is judged already, as model {}", first + 1);
            Some(Problem::new(format!("models.{i}"), message).help("name each model once"))
        };
        self.models.iter().enumerate().filter_map(repeated).collect()
    }

    fn wrong_metrics(&self) -> Vec<Problem> {
        let names = self.metrics.iter().flatten().enumerate();
        let unknown = names.filter(|(_, name)| METRICS.iter().all(|metric| metric.name != name.as_str()));
        let problem = |(i, name): (usize, &String)| {
            let problem = Problem::new(format!("metrics.{i}"), format!("there is no metric `{name}`"));
            problem.suggest(name, METRICS.iter().map(|metric| metric.name))
        };
        unknown.map(problem).collect()
    }
}

impl StageKind for Evaluate {
    const VERSION: u32 = 7;
    const PRODUCES: ArtifactKind = ArtifactKind::Evaluation;

    fn unhashed(&self) -> &'static [&'static str] {
        &["primary", "margin"]
    }

    fn ports(&self) -> Vec<Port<'_>> {
        let models = self.models.iter().enumerate().map(|(i, name)| Port {
            role: "models",
            field: format!("models.{i}"),
            reference: name,
            accepts: &[ArtifactKind::Model, ArtifactKind::FrozenModel],
        });
        std::iter::once(Port::one("data", &self.data, &[ArtifactKind::Dataset])).chain(models).collect()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.truth.iter().map(|truth| Source { field: truth::FIELD, path: &truth.file }).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let truth = self.truth.iter().filter_map(TruthChoice::problem);
        self.wrong_models().into_iter().chain(self.wrong_metrics()).chain(truth).collect()
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        self.truth.iter().filter_map(|truth| truth.mismatch(upstream)).collect()
    }

    fn preflight(&self, sources: &BTreeMap<String, PathBuf>) -> Vec<Problem> {
        let read = |truth: &TruthChoice| truth.preflight(sources.get(truth::FIELD)?);
        self.truth.iter().filter_map(read).collect()
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let data = Dataset::load(context.input("data")?, &context.scratch)?;
        let artifacts = context.inputs.get("models").cloned().unwrap_or_default();
        let steps = artifacts.len() as u64 + 1;

        let generated = self.events.map_or(data.test.len(), EventCount::get);
        let reference = floor_sample(&data.train, generated, context)?;
        let test = data.test.table()?;
        let truth = self.truth.as_ref().map(|truth| truth.read(&data.description, context)).transpose()?;
        let (metrics, streams) = (self.chosen(), context.streams.clone());
        let judge =
            Judge::new(&data.description, &test, &reference, metrics, self.effort(), &streams, artifacts.len())?;
        let judge = judge.with_truth(truth);
        let floor = judge.floor();
        context.step(1, steps, &[]);

        // One model at a time: only its histograms and numbers stay.
        let mut models = Vec::with_capacity(artifacts.len());
        for (artifact, position) in artifacts.iter().zip(1..) {
            let model = Model::load(artifact, context.device)?;
            if model.description().features != data.description.features {
                return Err(StageError::Unusable(format!(
                    "model {position} makes the columns {}, but the dataset has {}; judge it with the dataset that it was trained on",
                    model.description().features.join(", "),
                    data.description.features.join(", "),
                )));
            }
            // The same stream for every model, so that arms are paired.
            let events = model.sample(generated, &mut context.streams.stream("sample"))?;
            let judged = judge.judge(&events)?;
            if judged.dropped > 0 {
                context.notice(format!(
                    "model {position} made {} values that are not finite; they were left out",
                    judged.dropped
                ));
            }
            models.push(judged);
            context.step(position + 1, steps, &[]);
        }

        let events = Events { test: data.test.len(), generated, floor: reference.len() };
        judge.evaluation(events, &floor, &models).save(&context.out)?;
        let metrics = named(events, &floor, &models);
        let path = context.out.join(Self::METRICS_FILE);
        let written = serde_json::to_vec(&metrics).map_err(io::Error::from).and_then(|bytes| fs::write(&path, bytes));
        written.map_err(StageError::io(&path))?;
        Ok(metrics)
    }
}

impl From<EvaluationError> for StageError {
    fn from(error: EvaluationError) -> Self {
        match error {
            EvaluationError::Io { path, source } => Self::Io { path, source },
            EvaluationError::Format { .. } => Self::Artifact(error.to_string()),
        }
    }
}

/// A draw without replacement from the training events, of as many as asked for or all.
fn floor_sample(train: &TrainEvents, events: usize, context: &Context<'_>) -> Result<Table, DataError> {
    let mut rng = context.streams.stream("floor");
    train.rows(&index::sample(&mut rng, train.len(), events.min(train.len())).into_vec())
}

/// All numbers under their names by position; those that are not finite are left out.
fn named(events: Events, floor: &Judged, models: &[Judged]) -> Metrics {
    let sizes = [("events.test", events.test), ("events.generated", events.generated), ("events.floor", events.floor)];
    let sizes = sizes.map(|(name, size)| (name.to_owned(), size as f64));
    let under = |prefix: String, judged: &Judged| {
        judged.metrics.iter().map(move |(name, &value)| (format!("{prefix}.{name}"), value)).collect::<Vec<_>>()
    };
    let models = models.iter().enumerate().flat_map(|(i, judged)| under(format!("models[{i}]"), judged));
    let all = sizes.into_iter().chain(under("floor".to_owned(), floor)).chain(models);
    all.filter(|(_, value)| value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(models: &[&str]) -> Evaluate {
        serde_json::from_value(serde_json::json!({ "data": "events", "models": models })).unwrap()
    }

    #[test]
    fn an_evaluation_without_models_is_a_problem() {
        assert_eq!(stage(&[]).problems()[0].field, "models");
        assert!(stage(&["frozen", "boosted"]).problems().is_empty());
    }

    #[test]
    fn a_model_that_is_named_twice_is_a_problem_at_its_second_place() {
        let problems = stage(&["frozen", "boosted", "frozen"]).problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].field, "models.2");
        assert_eq!(problems[0].message, "`frozen` is judged already, as model 1");
    }

    #[test]
    fn a_misspelt_metric_is_a_problem_at_its_place() {
        let chosen = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            Evaluate { metrics: Some(names), ..stage(&["frozen"]) }
        };
        let problems = chosen(&["ks", "clasifier"]).problems();
        assert_eq!(problems[0].field, "metrics.1");
        assert_eq!(problems[0].help.as_deref(), Some("did you mean `classifier`?"));
        let names: Vec<&str> = chosen(&["tail", "ks"]).chosen().iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["ks", "tail"]);
        assert_eq!(stage(&["frozen"]).chosen().len(), METRICS.len());
    }

    #[test]
    fn metrics_stand_by_position_and_hold_no_number_that_is_not_finite() {
        let judged = |ks| {
            let mut judged = Judged::default();
            judged.metrics.insert("ks.x".into(), ks);
            judged
        };
        let events = Events { test: 10, generated: 20, floor: 5 };
        let all = named(events, &judged(0.1), &[judged(0.2), judged(f64::NAN)]);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["events.floor", "events.generated", "events.test", "floor.ks.x", "models[0].ks.x"]);
        assert!((all["models[0].ks.x"] - 0.2).abs() < 1e-15);
    }
}
