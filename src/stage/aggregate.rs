//! `aggregate`: brings evaluations of several seeds together, as means with intervals and comparisons paired by seed.
//!
//! `replicas: N` puts it in the place of each `evaluate` stage.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use schemars::JsonSchema;
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

/// Brings evaluations of several seeds together, as means with intervals and comparisons paired by seed. `replicas: N` puts it in the
/// place of each `evaluate` stage.
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
///
/// ```yaml
/// study:
///   kind: aggregate
///   evaluations: [evaluation, evaluation_of_seed_2]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// The evaluations, one a seed, all of the same models in the same order.
    pub evaluations: Vec<String>,
    /// The loss that decides whether the last model beats the first one.
    #[serde(default)]
    pub primary: Loss,
    /// By how much the mean χ²/NDF of the last model may exceed the first one's, on the log of their ratio, for the bulk to count
    /// as no worse.
    #[serde(default = "margin")]
    pub margin: NonNegative,
}

/// All numbers by evaluation, for programs.
#[derive(Serialize)]
struct Seeds<'a> {
    format: u32,
    evaluations: &'a [Metrics],
}

impl Aggregate {
    /// The file of the metrics of each seed.
    pub const FILE: &'static str = "seeds.json";
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
        let path = context.out.join(Self::FILE);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        device::DeviceName,
        metrics::Binning,
        report::evaluation::{Events, Histograms},
        rng::Streams,
        stage::Progress,
    };

    /// Writes the artifact of an evaluation with these numbers and test events.
    fn evaluation(folder: &Path, seed: usize, metrics: &[(&str, f64)], test: Vec<u64>) -> Artifact {
        let folder = folder.join(seed.to_string());
        fs::create_dir(&folder).unwrap();
        let events = Events { test: 10, generated: 10, floor: 10 };
        let binning = Binning::uniform(2, 0.0, 2.0).unwrap();
        let models = vec![vec![seed as u64, 1]];
        let observables = vec![Histograms { observable: "x".into(), binning, test, floor: vec![5, 5], models }];
        let evaluation = Evaluation {
            format: Evaluation::FORMAT,
            events,
            tail: None,
            observables,
            spectra: Vec::new(),
            quantiles: None,
            joint: None,
        };
        evaluation.save(&folder).unwrap();
        let metrics: Metrics = metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        fs::write(folder.join(Evaluate::METRICS_FILE), serde_json::to_vec(&metrics).unwrap()).unwrap();
        let files = [Evaluation::FILE, Evaluate::METRICS_FILE].map(|name| (name.to_owned(), folder.join(name)));
        Artifact { kind: ArtifactKind::Evaluation, files: files.into() }
    }

    /// The numbers of a seed, and its test events in bins.
    type Seed<'a> = (&'a [(&'a str, f64)], [u64; 2]);

    fn aggregate(seeds: &[Seed<'_>]) -> (Result<Metrics, StageError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let artifact =
            |(i, (metrics, test)): (usize, &Seed<'_>)| evaluation(folder.path(), i + 1, metrics, test.to_vec());
        let evaluations: Vec<Artifact> = seeds.iter().enumerate().map(artifact).collect();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut notices = Vec::new();
        let mut context = Context {
            inputs: [("evaluations".to_owned(), evaluations)].into(),
            sources: BTreeMap::new(),
            streams: Streams::new(1, "aggregate"),
            device: DeviceName::Cpu,
            out: out.clone(),
            scratch: crate::data::Scratch::memory(),
            checkpoints: crate::train::checkpoint::Checkpoints::none(),
            recorder: crate::train::history::Recorder::default(),
            progress: &mut |progress| {
                if let Progress::Notice { message } = progress {
                    notices.push(message);
                }
            },
        };
        let stage: Aggregate = serde_json::from_value(serde_json::json!({ "evaluations": ["a", "b"] })).unwrap();
        let metrics = stage.run(&mut context);
        if metrics.is_ok() {
            let kept = Evaluation::load(&out.join(Evaluation::FILE)).unwrap();
            assert_eq!(kept.observables[0].models[0][0], 1, "the histograms of the first");
            assert!(fs::read_to_string(out.join(Aggregate::FILE)).unwrap().contains("\"evaluations\":[{"));
        }
        (metrics, notices)
    }

    #[test]
    fn means_and_log_ratios_are_taken_seed_by_seed() {
        let one: &[(&str, f64)] = &[("models[0].tail_w1", 0.2), ("models[1].tail_w1", 0.1), ("events.test", 10.0)];
        let two: &[(&str, f64)] = &[("models[0].tail_w1", 0.4), ("models[1].tail_w1", 0.1), ("events.test", 10.0)];
        let (metrics, notices) = aggregate(&[(one, [4, 6]), (two, [4, 6])]);
        let metrics = metrics.unwrap();
        let near = |name: &str, value: f64| assert!((metrics[name] - value).abs() < 1e-12, "{name}: {metrics:?}");
        near("models[0].tail_w1", 0.3);
        near("models[0].tail_w1_sd", 0.02_f64.sqrt());
        near("models[1].tail_w1_low", 0.1);
        near("models[1].log_ratio.tail_w1.models[0]", f64::midpoint(0.5_f64.ln(), 0.25_f64.ln()));
        near("models[1].log_ratio_wilcoxon_p.tail_w1.models[0]", 0.5);
        near("models[1].log_ratio_bootstrap_low.tail_w1.models[0]", 0.25_f64.ln());
        near("events.test", 10.0);
        near("seeds", 2.0);
        assert!(notices.is_empty() && !metrics.contains_key("events.test_low"));
    }

    #[test]
    fn a_number_that_a_seed_lacks_is_left_out_and_named_and_errors_within_a_seed_are_not_averaged() {
        let one: &[(&str, f64)] = &[("models[0].ks.x", 0.2), ("models[0].auc", 0.6), ("models[0].auc_low", 0.5)];
        let two: &[(&str, f64)] = &[("models[0].auc", 0.6), ("models[0].auc_low", 0.4)];
        let (metrics, notices) = aggregate(&[(one, [4, 6]), (two, [4, 6])]);
        let metrics = metrics.unwrap();
        assert!(!metrics.contains_key("models[0].ks.x"));
        assert!((metrics["models[0].auc_low"] - 0.6).abs() < 1e-12, "the interval of the mean");
        assert_eq!(notices, ["not every seed has models[0].ks.x: left out"]);
    }

    #[test]
    fn evaluations_on_other_test_events_are_not_paired() {
        let metrics: &[(&str, f64)] = &[("models[0].auc", 0.6)];
        let error = aggregate(&[(metrics, [4, 6]), (metrics, [5, 5])]).0.unwrap_err().to_string();
        assert!(error.starts_with("evaluation 2 was judged on other test events"), "{error}");
    }
}
