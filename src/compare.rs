//! Comparison of two states of a pipeline: what its stages are made of, what they gave, and how metrics differ.
//!
//! A state is a pipeline as it stands with what is cached, a lock, or a run of the past: each gives the same [`State`]. Nothing runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    digest::Digest,
    key::{CacheKey, KeyMaterial},
    pipeline::Pipeline,
    plan::{Lock, Locked, Made, Plan, PlanError, Reason, StageState, changes, declared_material, named_metric},
    stage::Metrics,
    store::{Found, LoggedRun, Output, Record, Store, StoreError, artifact},
};

mod metrics;

pub use metrics::{Change, Value};

/// A state of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Its stages by name.
    pub stages: BTreeMap<String, StageAt>,
    /// Stages of which nothing is known any more: their results were taken away.
    pub lost: Vec<String>,
}

/// A stage in a state of a pipeline.
#[derive(Clone, Debug)]
pub struct StageAt {
    material: KeyMaterial,
    /// Whether the material lacks inputs that have no result yet.
    partial: bool,
    inputs: BTreeMap<String, Vec<String>>,
    sources: BTreeMap<String, PathBuf>,
    /// What it gave, if it has run.
    pub result: Option<Outcome>,
}

/// The result of a stage.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its key.
    pub key: CacheKey,
    /// The digest of its files.
    pub artifact: Digest,
    /// Its metrics, by position.
    metrics: Metrics,
}

impl Outcome {
    fn new(key: CacheKey, outputs: &BTreeMap<String, Output>, metrics: &Metrics) -> Self {
        Self { key, artifact: artifact(outputs), metrics: metrics.clone() }
    }
}

impl StageAt {
    fn made(&self) -> Made<'_> {
        Made { material: &self.material, inputs: &self.inputs, sources: &self.sources }
    }

    /// Gives its key, if all that it is made of is known.
    fn key(&self) -> Option<CacheKey> {
        let of_result = self.result.as_ref().map(|result| result.key);
        of_result.or_else(|| if self.partial { None } else { self.material.key().ok() })
    }

    /// Its kind, as in `kind:`.
    pub fn kind(&self) -> &str {
        &self.material.kind
    }
}

impl From<&Locked> for StageAt {
    fn from(locked: &Locked) -> Self {
        Self {
            material: locked.material.clone(),
            partial: false,
            inputs: locked.inputs.clone(),
            sources: locked.sources.clone(),
            result: Some(Outcome::new(locked.key, &locked.outputs, &locked.metrics)),
        }
    }
}

impl State {
    /// The pipeline as it stands, with the results that are stored.
    pub fn of_pipeline(pipeline: &Pipeline, store: &Store) -> Result<Self, PlanError> {
        let plan = Plan::make(pipeline, store, &[], &[])?;
        let mut artifacts: BTreeMap<usize, Digest> = BTreeMap::new();
        let mut stages = BTreeMap::new();
        for stage in &plan.stages {
            let declared = &pipeline.stages[stage.index];
            let (material, partial, result) = if let StageState::Cached { key, record } = &stage.state {
                artifacts.insert(stage.index, record.artifact());
                (record.material.clone(), false, Some(Outcome::new(*key, &record.outputs, &record.metrics)))
            } else {
                let mut inputs: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
                for (role, index) in &stage.inputs {
                    inputs.entry((*role).to_owned()).or_default().extend(artifacts.get(index));
                }
                let known = |role: &String| {
                    let of_role = stage.inputs.iter().filter(|(other, _)| other == role);
                    of_role.into_iter().all(|(_, index)| artifacts.contains_key(index))
                };
                inputs.retain(|role, _| known(role));
                let partial = stage.inputs.iter().any(|(role, _)| !inputs.contains_key(*role));
                (declared_material(pipeline, store, declared, inputs)?, partial, None)
            };
            let (inputs, sources) = (declared.input_names(), declared.source_paths());
            stages.insert(stage.name.clone(), StageAt { material, partial, inputs, sources, result });
        }
        Ok(Self { stages, lost: Vec::new() })
    }

    /// What a lock holds.
    pub fn of_lock(lock: &Lock) -> Self {
        let stages = lock.stages.iter().map(|(name, locked)| (name.clone(), locked.into()));
        Self { stages: stages.collect(), lost: Vec::new() }
    }

    /// What a run had at its end, as far as it is stored.
    pub fn of_run(run: &LoggedRun, store: &Store) -> Result<Self, StoreError> {
        let (mut records, mut lost) = (BTreeMap::new(), Vec::new());
        for (name, key) in &run.stages {
            match store.find(*key)? {
                Found::Complete(record) | Found::Damaged(record, _) => {
                    records.insert(name.as_str(), record);
                }
                Found::Absent => lost.push(name.clone()),
            }
        }
        let mut makers: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
        for (name, record) in &records {
            makers.entry(record.artifact()).or_default().push(name);
        }
        // A record says what the pipeline that made it called its inputs; this run may have called them otherwise.
        let called = |record: &Record, role: &String, digests: &[Digest]| -> Vec<String> {
            let names = record.provenance.inputs.get(role);
            let name = |(at, digest): (usize, &Digest)| {
                let recorded = names.and_then(|names| names.get(at)).map_or("?", String::as_str);
                let known = makers.get(digest).map_or(&[][..], Vec::as_slice);
                known.iter().find(|name| **name == recorded).or(known.first()).map_or(recorded, |name| *name).to_owned()
            };
            digests.iter().enumerate().map(name).collect()
        };
        let stage = |record: &Record| StageAt {
            material: record.material.clone(),
            partial: false,
            inputs: record
                .material
                .inputs
                .iter()
                .map(|(role, digests)| (role.clone(), called(record, role, digests)))
                .collect(),
            sources: record.provenance.sources.clone(),
            result: Some(Outcome::new(record.key, &record.outputs, &record.metrics)),
        };
        let stages = records.iter().map(|(name, record)| ((*name).to_owned(), stage(record))).collect();
        Ok(Self { stages, lost })
    }

    /// Gives the same state with stages under other names: each pair is a new name and the one that it replaces.
    fn under(&self, names: &[[String; 2]]) -> Self {
        let mut state = self.clone();
        for [new, old] in names {
            if let Some(stage) = state.stages.remove(old) {
                state.stages.insert(new.clone(), stage);
            }
        }
        let inputs = state.stages.values_mut().flat_map(|stage| stage.inputs.values_mut()).flatten();
        for input in inputs {
            if let Some([new, _]) = names.iter().find(|[_, old]| old == input) {
                input.clone_from(new);
            }
        }
        state
    }

    /// The metrics of a stage under the names of models; nothing if it has not run.
    fn metrics(&self, name: &str) -> BTreeMap<String, Value> {
        let Some(stage) = self.stages.get(name) else { return BTreeMap::new() };
        let Some(result) = &stage.result else { return BTreeMap::new() };
        // Those of a study are the models of its first evaluation.
        let evaluation =
            stage.inputs.get("evaluations").and_then(|names| self.stages.get(names.first()?)).unwrap_or(stage);
        let models = evaluation.inputs.get("models").map_or(&[][..], Vec::as_slice);
        metrics::values(&result.metrics).map(|(name, value)| (named_metric(models, name), value)).collect()
    }
}

/// How a stage that two states have differs between them.
#[derive(Clone, Debug, PartialEq)]
pub struct StageDifference {
    /// Its name.
    pub stage: String,
    /// Its kind in one and in the other.
    pub kinds: [String; 2],
    /// What differs in itself.
    pub why: Vec<Reason>,
    /// Which of its inputs differ, or are not known to be the same, by the names of their stages.
    pub inputs: Vec<String>,
    /// Its key in one and in the other, where it has a result.
    pub keys: [Option<CacheKey>; 2],
    /// The digest of its files in one and in the other, where it has a result.
    pub artifacts: [Option<Digest>; 2],
}

/// How two states of a pipeline differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Stages that only one of them has.
    pub only: [Vec<String>; 2],
    /// Stages that have the same key under another name: the name in one and in the other. Elsewhere they go by the former.
    pub renamed: Vec<[String; 2]>,
    /// Stages without a result in one of them.
    pub without_result: [Vec<String>; 2],
    /// Stages of both that differ.
    pub stages: Vec<StageDifference>,
    /// Stages of both that have the same key and the same files.
    pub same: usize,
    /// Metrics that differ, those that differ by more than their uncertainty first, and the tail before the rest.
    pub metrics: Vec<Change>,
}

impl Comparison {
    /// Compares two states.
    pub fn of(one: &State, other: &State) -> Self {
        let renamed = renamed(one, other);
        let other = &other.under(&renamed);
        let sides = [one, other];
        let names: [BTreeSet<&String>; 2] = sides.map(|side| side.stages.keys().chain(&side.lost).collect());
        let only = |side: usize| names[side].difference(&names[1 - side]).map(|name| (*name).clone()).collect();
        let without = |side: usize| {
            let open = sides[side].stages.iter().filter(|(_, stage)| stage.result.is_none()).map(|(name, _)| name);
            open.chain(&sides[side].lost).cloned().collect()
        };
        let mut comparison =
            Self { only: [only(0), only(1)], without_result: [without(0), without(1)], ..Self::default() };
        for (name, stage) in &one.stages {
            let Some(now) = other.stages.get(name) else { continue };
            match difference(name, stage, now) {
                Some(difference) => comparison.stages.push(difference),
                None => comparison.same += 1,
            }
            let metrics = sides.map(|side| side.metrics(name));
            comparison.metrics.extend(metrics::changes(name, now.kind(), &metrics));
        }
        comparison.metrics.sort_by(|one, other| one.order().cmp(&other.order()));
        comparison.renamed = renamed;
        comparison
    }

    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.only.iter().all(Vec::is_empty)
            && self.renamed.is_empty()
            && self.stages.is_empty()
            && self.metrics.is_empty()
    }
}

/// Finds the stages that only one of the states has by this name, and the other by another.
fn renamed(one: &State, other: &State) -> Vec<[String; 2]> {
    let alone = |side: &State, there: &State| -> Vec<(CacheKey, String)> {
        let alone =
            side.stages.iter().filter(|(name, _)| !there.stages.contains_key(*name) && !there.lost.contains(name));
        alone.filter_map(|(name, stage)| Some((stage.key()?, name.clone()))).collect()
    };
    let mut there = alone(other, one);
    let pair = |(key, name): (CacheKey, String)| {
        let at = there.iter().position(|(other, _)| *other == key)?;
        Some([name, there.remove(at).1])
    };
    alone(one, other).into_iter().filter_map(pair).collect()
}

fn difference(name: &str, then: &StageAt, now: &StageAt) -> Option<StageDifference> {
    let partial = then.partial || now.partial;
    let reasons = if then.kind() == now.kind() { changes(Some(then.made()), now.made(), partial) } else { Vec::new() };
    let (inputs, why): (Vec<Reason>, Vec<Reason>) =
        reasons.into_iter().partition(|reason| matches!(reason, Reason::Input { .. }));
    let mut inputs: Vec<String> = inputs
        .into_iter()
        .filter_map(|reason| if let Reason::Input { stage, .. } = reason { Some(stage) } else { None })
        .collect();
    inputs.dedup();
    let both = [then, now];
    let keys = both.map(|stage| stage.result.as_ref().map(|result| result.key));
    let artifacts = both.map(|stage| stage.result.as_ref().map(|result| result.artifact));
    let differs = |pair: bool, known: bool| known && pair;
    let other_result = differs(artifacts[0] != artifacts[1], artifacts.iter().all(Option::is_some));
    let other_key = differs(keys[0] != keys[1], keys.iter().all(Option::is_some));
    if then.kind() == now.kind() && why.is_empty() && inputs.is_empty() && !other_result && !other_key {
        return None;
    }
    let kinds = both.map(|stage| stage.kind().to_owned());
    Some(StageDifference { stage: name.to_owned(), kinds, why, inputs, keys, artifacts })
}
