//! `aggregate`: brings evaluations of several seeds together, as means with intervals and comparisons paired by seed.
//!
//! `replicas: N` puts it in the place of each `evaluate` stage.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde::{Deserialize, Serialize};

use super::{
    Artifact, ArtifactKind, Context, Metrics, Port, Problem, Stage, StageError, StageKind, Upstream,
    evaluate::{Evaluate, margin},
};
use crate::{
    metrics::paired::{self, Loss},
    report::{Evaluation, study},
    value::NonNegative,
};

/// Resamples of a bootstrap over seeds.
const RESAMPLES: usize = 100_000;

/// The YAML of an `aggregate` stage.
///
/// A metric's mean over the evaluations has the metric's name; beside it stand `_low` and `_high`, the 95 % interval of the mean
/// by Student's t, and `_sd`, the deviation of a single evaluation. A metric that some evaluation lacks is left out.
///
/// Each later model is compared with the first, and the last with each: `models[1].log_ratio.LOSS.models[0]` is the mean log
/// of the ratio of their losses, seed by seed (below 0 the later one is better). Beside it stand `log_ratio_low`, `_high` and
/// `_sd`, the percentile bootstrap's `log_ratio_bootstrap_low` and `_high`, and `log_ratio_wilcoxon_p`, the exact p of
/// Wilcoxon's signed-rank test.
///
/// Its histograms are those of the first evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// The evaluations, one a seed, all of the same models in the same order.
    pub evaluations: Vec<String>,
    /// The loss that decides whether the last model beats the first one.
    #[serde(default)]
    pub primary: Loss,
    /// By how much the mean χ²/NDF of the last model may exceed the first one's, on the log of their ratio.
    #[serde(default = "margin")]
    pub margin: NonNegative,
}

/// All numbers by evaluation, for programs.
#[derive(Serialize)]
struct Seeds<'a> {
    format: u32,
    evaluations: &'a [Metrics],
}

impl StageKind for Aggregate {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Study;

    fn ports(&self) -> Vec<Port<'_>> {
        let evaluations = self.evaluations.iter().enumerate().map(|(i, name)| Port {
            role: "evaluations",
            field: format!("evaluations.{i}"),
            reference: name,
            accepts: &[ArtifactKind::Evaluation],
        });
        evaluations.collect()
    }

    fn problems(&self) -> Vec<Problem> {
        if self.evaluations.len() > 1 {
            return Vec::new();
        }
        let problem = Problem::new("evaluations", "one evaluation has no interval: name two or more");
        vec![problem.help("or leave this stage out and set `replicas: 5` at the top of the pipeline")]
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        let evaluations = upstream.get("evaluations").map(Vec::as_slice).unwrap_or_default();
        let judged = |stage: &Stage| match stage {
            Stage::Evaluate(evaluate) => Some((evaluate.data.clone(), evaluate.models.len())),
            _ => None,
        };
        let first = evaluations.first().and_then(|stage| judged(stage));
        let other = |(i, stage): (usize, &&Stage)| {
            let message = "it judges other data, or another number of models, than the first evaluation";
            (judged(stage) != first).then(|| Problem::new(format!("evaluations.{i}"), message))
        };
        evaluations.iter().enumerate().filter_map(other).collect()
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let artifacts = context.inputs.get("evaluations").cloned().unwrap_or_default();
        let seeds: Vec<Metrics> = artifacts.iter().map(read).collect::<Result<_, _>>()?;
        let evaluations: Vec<Evaluation> = artifacts
            .iter()
            .map(|artifact| Ok(Evaluation::load(artifact.file(Evaluation::FILE)?)?))
            .collect::<Result<_, StageError>>()?;
        let Some(first) = evaluations.first() else {
            return Err(StageError::Unusable("there is no evaluation to bring together".into()));
        };
        if let Some(other) = evaluations.iter().position(|evaluation| !same_events(evaluation, first)) {
            let message = format!(
                "evaluation {} was judged on other test events than the first, so they cannot be paired",
                other + 1
            );
            return Err(StageError::Unusable(message));
        }
        let incomplete = incomplete(&seeds);
        if !incomplete.is_empty() {
            context.notice(format!(
                "not every seed has {}: left out",
                incomplete.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        let mut metrics = means(&seeds);
        metrics.insert(study::SEEDS.to_owned(), seeds.len() as f64);
        compare(&seeds, context, &mut metrics);

        first.save(&context.out)?;
        let path = context.out.join("seeds.json");
        let text = serde_json::to_vec(&Seeds { format: 1, evaluations: &seeds });
        let written = text.map_err(std::io::Error::from).and_then(|bytes| fs::write(&path, bytes));
        written.map_err(StageError::io(&path))?;
        Ok(metrics)
    }
}

/// The metrics of an evaluation, by position.
fn read(artifact: &Artifact) -> Result<Metrics, StageError> {
    let path = artifact.file(Evaluate::METRICS_FILE)?;
    let bytes = fs::read(path).map_err(StageError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| StageError::Artifact(format!("{}: {error}", path.display())))
}

/// Whether two evaluations have the same test events, as far as their histograms tell.
fn same_events(one: &Evaluation, other: &Evaluation) -> bool {
    let pairs = one.observables.iter().zip(&other.observables);
    one.events.test == other.events.test
        && one.observables.len() == other.observables.len()
        && pairs.into_iter().all(|(a, b)| a.observable == b.observable && (a.binning != b.binning || a.test == b.test))
}

/// The metrics that are worth a mean: not the errors and intervals that stand beside others within one evaluation.
fn primary(metrics: &Metrics) -> impl Iterator<Item = &String> {
    metrics.keys().filter(|name| study::stem(name).is_none_or(|stem| !metrics.contains_key(&stem)))
}

/// Metrics that some evaluations have and others lack.
fn incomplete(seeds: &[Metrics]) -> BTreeSet<String> {
    let all: BTreeSet<&String> = seeds.iter().flat_map(primary).collect();
    all.into_iter().filter(|name| seeds.iter().any(|metrics| !metrics.contains_key(*name))).cloned().collect()
}

fn of_each(seeds: &[Metrics], name: &str) -> Option<Vec<f64>> {
    seeds.iter().map(|metrics| metrics.get(name).copied()).collect()
}

fn means(seeds: &[Metrics]) -> Metrics {
    let mut means = BTreeMap::new();
    for name in seeds.first().into_iter().flat_map(primary) {
        let Some(found) = of_each(seeds, name).and_then(|values| paired::mean(&values)) else { continue };
        means.insert(name.clone(), found.mean);
        if !name.starts_with("events.") {
            put(&mut means, name, &[("_low", found.low), ("_high", found.high), ("_sd", found.sd)]);
        }
    }
    means
}

fn put(metrics: &mut Metrics, name: &str, beside: &[(&str, f64)]) {
    metrics.extend(beside.iter().map(|(suffix, value)| (study::beside(name, suffix), *value)));
}

/// Adds the comparisons between models.
fn compare(seeds: &[Metrics], context: &Context<'_>, metrics: &mut Metrics) {
    let models = study::models(&seeds[0]);
    for (later, earlier) in study::pairs(models) {
        for loss in Loss::ALL {
            let losses = |model: usize| {
                let values = of_each(seeds, &format!("models[{model}].{}", loss.metric()))?;
                Some(values.into_iter().map(|value| loss.of(value)).collect::<Vec<_>>())
            };
            let (Some(ours), Some(theirs)) = (losses(later), losses(earlier)) else { continue };
            let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(our, their)| (our / their).ln()).collect();
            let Some(found) = paired::mean(&ratios) else { continue };
            let name = study::log_ratio(later, earlier, loss);
            put(metrics, &name, &[("_low", found.low), ("_high", found.high), ("_sd", found.sd)]);
            // The same resamples for all: comparisons differ by their values alone.
            if let Some((low, high)) = paired::bootstrap(&ratios, RESAMPLES, &mut context.streams.stream("bootstrap")) {
                put(metrics, &name, &[("_bootstrap_low", low), ("_bootstrap_high", high)]);
            }
            if let Some(p) = paired::wilcoxon(&ratios) {
                put(metrics, &name, &[("_wilcoxon_p", p)]);
            }
            metrics.insert(name, found.mean);
        }
    }
}
