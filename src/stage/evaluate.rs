//! `evaluate`: judges models against test events, each number beside its real-vs-real floor.

use std::{fs, io};

use rand::seq::index;
use serde::{Deserialize, Serialize};

use self::judge::{Judge, Judged};
use super::{ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind};
use crate::{
    data::{Dataset, Table},
    metrics::paired::Loss,
    model::Model,
    report::evaluation::{EvaluationError, Events},
    value::{EventCount, NonNegative},
};

mod judge;

/// The YAML of an `evaluate` stage.
///
/// Metrics are named `models[i].METRIC[.OBSERVABLE]` and `floor.METRIC[.OBSERVABLE]`: by position, so that the name of a
/// stage is no part of the result. Whoever shows them puts the names in (`plan::named_metrics`).
///
/// The floor is what a perfect model would score: a draw of as many training events as are generated from each model (all of
/// them, if they are fewer), judged in a model's place.
///
/// Of synthetic events the density is known: `truth_quantile_ratio_U` is the quantile of x0 that the share U exceeds over the
/// exact one. Its floor is the ratio of the test events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The dataset whose test events judge.
    pub data: String,
    /// The models to judge.
    pub models: Vec<String>,
    /// Events generated from each model; as many as there are test events if absent.
    #[serde(default)]
    pub events: Option<EventCount>,
    /// With `replicas`: the loss that decides whether the last model beats the first one. It is to be named before the result
    /// is known, and is no part of the result itself.
    #[serde(default)]
    pub primary: Loss,
    /// With `replicas`: by how much the mean χ²/NDF of the last model may exceed the first one's, on the log of their ratio,
    /// for the bulk to count as no worse.
    #[serde(default = "margin")]
    pub margin: NonNegative,
}

impl Evaluate {
    /// The file that the metrics are in, for stages that take evaluations.
    pub const METRICS: &'static str = "metrics.json";
}

/// A tenth.
pub(super) fn margin() -> NonNegative {
    NonNegative::try_from(0.1).unwrap_or_else(|_| unreachable!())
}

impl StageKind for Evaluate {
    const VERSION: u32 = 3;
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

    fn problems(&self) -> Vec<Problem> {
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

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let data = Dataset::load(context.input("data")?)?;
        let artifacts = context.inputs.get("models").cloned().unwrap_or_default();
        let steps = artifacts.len() as u64 + 1;

        let generated = self.events.map_or(data.test.len(), EventCount::get);
        let reference = floor_sample(&data.train, generated, context);
        let judge = Judge::new(&data.description, &data.test, &reference)?;
        let floor = judge.floor(&reference)?;
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
        let metrics = metrics(events, &floor, &models);
        let path = context.out.join(Self::METRICS);
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
fn floor_sample(train: &Table, events: usize, context: &Context<'_>) -> Table {
    let mut rng = context.streams.stream("floor");
    train.rows(&index::sample(&mut rng, train.len(), events.min(train.len())).into_vec())
}

/// All numbers under their names by position; those that are not finite are left out.
fn metrics(events: Events, floor: &Judged, models: &[Judged]) -> Metrics {
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
    fn metrics_stand_by_position_and_hold_no_number_that_is_not_finite() {
        let judged = |ks| {
            let mut judged = Judged::default();
            judged.metrics.insert("ks.x".into(), ks);
            judged
        };
        let events = Events { test: 10, generated: 20, floor: 5 };
        let all = metrics(events, &judged(0.1), &[judged(0.2), judged(f64::NAN)]);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["events.floor", "events.generated", "events.test", "floor.ks.x", "models[0].ks.x"]);
        assert!((all["models[0].ks.x"] - 0.2).abs() < 1e-15);
    }
}
