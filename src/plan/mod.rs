//! The plan: the DAG of stages, their cache keys as far as records reach, and why each runs.
//!
//! Reads the store and the source files, changes nothing. The invariant: a stage is [`Cached`](StageState::Cached) only if
//! its key is known from the content of all its inputs and a complete record of that key exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
};

use petgraph::graph::DiGraph;
use rayon::prelude::*;

use crate::{
    digest::Digest,
    key::{CacheKey, KeyError, KeyMaterial},
    pipeline::{Declared, Pipeline},
    stage::Metrics,
    store::{Found, Record, Store, StoreError},
};

mod lock;
mod material;
mod order;
mod reason;
mod recipe;
mod why;

use order::{Order, Ordered};

pub use lock::{Difference, Lock, LockError, Locked};
pub(crate) use material::material;
pub use reason::{Change, Reason};
pub use recipe::recipes;
pub(crate) use why::{History, Made, changes, damaged};

/// The stages of a run in the order in which they can run.
#[derive(Debug)]
pub struct Plan {
    /// The stages that take part: topological, and in the order of the file where that leaves a choice.
    pub stages: Vec<PlannedStage>,
    graph: DiGraph<usize, &'static str>,
}

/// A stage that takes part in a run.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Its index in `pipeline.stages`.
    pub index: usize,
    /// Its name in the pipeline.
    pub name: String,
    /// Its kind, as in `kind:`.
    pub kind: &'static str,
    /// Its inputs in the order of its ports: the role, and the index in `pipeline.stages` of the stage that it takes.
    pub inputs: Vec<(&'static str, usize)>,
    /// Whether it runs even if its result is in the store.
    pub forced: bool,
    /// What will become of it.
    pub state: StageState,
}

/// What a run will do with a stage.
#[derive(Clone, Debug)]
pub enum StageState {
    /// Its result is in the store.
    Cached {
        /// Its key.
        key: CacheKey,
        /// The record of its result.
        record: Arc<Record>,
    },
    /// Its result is not in the store, but a record of it is elsewhere, from where a run takes it.
    Elsewhere {
        /// Its key.
        key: CacheKey,
        /// The record there.
        record: Arc<Record>,
    },
    /// It runs.
    Run {
        /// Its key.
        key: CacheKey,
        /// Why there is no result.
        why: Vec<Reason>,
    },
    /// Its key is not known before other stages have run; should they reproduce their results, it may be cached.
    DependsOn {
        /// The names of those of its inputs that are not cached.
        stages: Vec<String>,
        /// Why it runs in any case; empty if only the inputs decide.
        why: Vec<Reason>,
    },
}

/// Results that lie elsewhere: gives the records of those of the keys that are there.
pub type Elsewhere<'a> = dyn FnMut(&[CacheKey]) -> BTreeMap<CacheKey, Arc<Record>> + 'a;

/// Why a plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A target or a forced stage does not exist.
    #[error("there is no stage `{name}` in this pipeline; {help}")]
    UnknownStage {
        /// The name that was asked for.
        name: String,
        /// "did you mean `x`?", or the list of names.
        help: String,
    },
    /// A port refers to a stage that does not exist.
    #[error("the stage `{stage}` refers to a stage `{reference}`, which does not exist")]
    UnknownReference {
        /// The stage with the port.
        stage: String,
        /// The name that does not exist.
        reference: String,
    },
    /// Stages need each other's results.
    #[error("the stages `{}` depend on each other in a cycle", stages.join("`, `"))]
    Cycle {
        /// The stages that cannot be ordered.
        stages: Vec<String>,
    },
    /// A source file cannot be read.
    #[error("the stage `{stage}` cannot read its `{field}` {}: {source}", path.display())]
    Source {
        /// The stage.
        stage: String,
        /// The field that holds the path.
        field: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The parameters of a stage have no canonical form.
    #[error("the stage `{stage}`: {source}")]
    Key {
        /// The stage.
        stage: String,
        /// What is wrong.
        source: KeyError,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Plan {
    /// Plans the targets and all that they need; everything if `targets` is empty. The stages in `force` run even if cached.
    pub fn make(pipeline: &Pipeline, store: &Store, targets: &[String], force: &[String]) -> Result<Self, PlanError> {
        Self::make_with(pipeline, store, targets, force, &mut |_| BTreeMap::new())
    }

    /// Plans as [`make`](Self::make) does, with results that lie elsewhere. What is there is asked for several times: some keys depend
    /// on what was given before.
    pub fn make_with(
        pipeline: &Pipeline,
        store: &Store,
        targets: &[String],
        force: &[String],
        elsewhere: &mut Elsewhere<'_>,
    ) -> Result<Self, PlanError> {
        let order = order::order(pipeline, targets, force)?;
        let history = History::new(store, &pipeline.name);
        let mut planner = Planner { pipeline, store, forced: &order.forced, history, artifacts: BTreeMap::new() };
        let mut states: Vec<Option<StageState>> = order.stages.iter().map(|_| None).collect();
        // What a stage takes stands in an earlier generation: the stages of one are looked up side by side.
        for generation in generations(&order) {
            let find = |&position: &usize| planner.state(&order.stages[position]);
            let found: Vec<Result<StageState, PlanError>> = if generation.len() < SIDE_BY_SIDE {
                generation.iter().map(find).collect()
            } else {
                generation.par_iter().with_min_len(SIDE_BY_SIDE).map(find).collect()
            };
            let mut found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
            look_elsewhere(&mut found, elsewhere);
            for (position, state) in generation.into_iter().zip(found) {
                if let StageState::Cached { record, .. } | StageState::Elsewhere { record, .. } = &state {
                    planner.artifacts.insert(order.stages[position].index, record.artifact());
                }
                states[position] = Some(state);
            }
        }
        let stage = |(Ordered { index, inputs }, state): (Ordered, Option<StageState>)| {
            let declared = &pipeline.stages[index];
            Some(PlannedStage {
                index,
                name: declared.name.clone(),
                kind: declared.stage.kind(),
                inputs,
                forced: order.forced.contains(&index),
                state: state?,
            })
        };
        let stages = order.stages.into_iter().zip(states).filter_map(stage).collect();
        Ok(Self { stages, graph: order.graph })
    }

    /// The DAG: node `i` is `stages[i]` (and weighs `i`), an edge leads from a stage to one that takes its result, in this role.
    pub fn graph(&self) -> &DiGraph<usize, &'static str> {
        &self.graph
    }

    /// Whether every stage is cached.
    pub fn up_to_date(&self) -> bool {
        self.stages.iter().all(|stage| matches!(stage.state, StageState::Cached { .. }))
    }
}

/// Fewer stages are looked up sooner by one thread than by several.
const SIDE_BY_SIDE: usize = 16;

/// The stages by position, those first that take nothing, then those that take from them alone, and so on.
fn generations(order: &Order) -> Vec<Vec<usize>> {
    let mut ages: BTreeMap<usize, usize> = BTreeMap::new();
    let mut generations: Vec<Vec<usize>> = Vec::new();
    for (position, Ordered { index, inputs }) in order.stages.iter().enumerate() {
        let age = inputs.iter().filter_map(|(_, input)| ages.get(input)).map(|age| age + 1).max().unwrap_or(0);
        ages.insert(*index, age);
        if generations.len() == age {
            generations.push(Vec::new());
        }
        generations[age].push(position);
    }
    generations
}

/// Finds the states of stages whose inputs have theirs.
struct Planner<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    forced: &'a BTreeSet<usize>,
    history: History,
    /// The artifacts of cached stages, by index in `pipeline.stages`.
    artifacts: BTreeMap<usize, Digest>,
}

impl Planner<'_> {
    fn state(&self, Ordered { index, inputs: ports }: &Ordered) -> Result<StageState, PlanError> {
        let declared = &self.pipeline.stages[*index];
        let forced = self.forced.contains(index);
        let (mut inputs, mut waits_for) = (BTreeMap::<String, Vec<Digest>>::new(), Vec::new());
        for (role, index) in ports {
            match self.artifacts.get(index) {
                Some(artifact) => inputs.entry((*role).to_owned()).or_default().push(*artifact),
                None => waits_for.push((*role, self.pipeline.stages[*index].name.clone())),
            }
        }
        // A role is compared as a whole: one input that is not known hides it.
        inputs.retain(|role, _| waits_for.iter().all(|(other, _)| other != role));
        let material = declared_material(self.pipeline, self.store, declared, inputs)?;
        if !waits_for.is_empty() {
            let last = self.history.last(&declared.name, declared.stage.kind());
            let (names, sources) = (declared.input_names(), declared.source_paths());
            let why = changes(last, Made { material: &material, inputs: &names, sources: &sources }, true);
            let mut stages: Vec<String> = Vec::new();
            for (_, stage) in waits_for {
                if !stages.contains(&stage) {
                    stages.push(stage);
                }
            }
            return Ok(StageState::DependsOn { stages, why: with_force(forced, why) });
        }
        let key = key_of(declared, &material)?;
        let why = match self.store.find(key)? {
            Found::Complete(record) if !forced => return Ok(StageState::Cached { key, record }),
            Found::Complete(_) => Vec::new(),
            Found::Damaged(_, damage) => damaged(damage),
            Found::Absent => self.history.why(declared, key, &material),
        };
        Ok(StageState::Run { key, why: with_force(forced, why) })
    }
}

/// Takes the place of those stages' states that run although their results lie elsewhere.
fn look_elsewhere(states: &mut [StageState], elsewhere: &mut Elsewhere<'_>) {
    let wanted = |state: &StageState| match state {
        StageState::Run { key, why } if !why.contains(&Reason::Forced) => Some(*key),
        _ => None,
    };
    let keys: Vec<CacheKey> = states.iter().filter_map(wanted).collect();
    if keys.is_empty() {
        return;
    }
    let records = elsewhere(&keys);
    for state in states {
        if let Some((key, record)) = wanted(state).and_then(|key| Some((key, records.get(&key)?))) {
            *state = StageState::Elsewhere { key, record: Arc::clone(record) };
        }
    }
}

fn with_force(forced: bool, mut why: Vec<Reason>) -> Vec<Reason> {
    if forced {
        why.push(Reason::Forced);
    }
    why
}

/// The key material of a stage with these inputs; reads its source files or what is remembered of them.
pub(crate) fn declared_material(
    pipeline: &Pipeline,
    store: &Store,
    declared: &Declared,
    inputs: BTreeMap<String, Vec<Digest>>,
) -> Result<KeyMaterial, PlanError> {
    let mut sources = BTreeMap::new();
    for (field, path) in pipeline.sources(declared) {
        let found = pipeline.carried(&path).map_or_else(|| store.source(&path), Ok);
        let digest = found.map_err(|error| PlanError::Source {
            stage: declared.name.clone(),
            field: field.clone(),
            path,
            source: error,
        })?;
        sources.insert(field, digest);
    }
    material(&declared.stage, declared.seed, inputs, sources)
        .map_err(|source| PlanError::Key { stage: declared.name.clone(), source })
}

/// The key of a stage.
pub(crate) fn key_of(declared: &Declared, material: &KeyMaterial) -> Result<CacheKey, PlanError> {
    material.key().map_err(|source| PlanError::Key { stage: declared.name.clone(), source })
}

/// Metrics under the names of models (those of a [`Declared`]): `models[0].chi2` becomes `frozen.chi2` if the first is `frozen`.
/// A model that is listed twice keeps its positions: one name must not hide two numbers.
pub fn named_metrics(models: &[String], metrics: &Metrics) -> Metrics {
    metrics.iter().map(|(name, &value)| (named_metric(models, name), value)).collect()
}

/// The name of one metric, as in [`named_metrics`].
pub(crate) fn named_metric(models: &[String], name: &str) -> String {
    let named = || -> Option<String> {
        let mut pieces = name.split("models[");
        let mut whole = pieces.next()?.to_owned();
        for piece in pieces {
            let (position, rest) = piece.split_once(']')?;
            let model = models.get(position.parse::<usize>().ok()?)?;
            if models.iter().filter(|other| *other == model).count() > 1 {
                return None;
            }
            whole.push_str(model);
            whole.push_str(rest);
        }
        Some(whole)
    };
    named().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests;
