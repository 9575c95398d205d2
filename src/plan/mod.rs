//! The plan: the DAG of stages, their cache keys as far as records reach, and why each runs.
//!
//! Reads the store and the source files, changes nothing. The invariant: a stage is [`Cached`](StageState::Cached) only if
//! its key is known from the content of all its inputs and a complete record of that key exists.

use std::{io, path::PathBuf};

use petgraph::graph::DiGraph;

use crate::{
    key::{CacheKey, KeyError},
    pipeline::Pipeline,
    stage::{Metrics, Stage},
    store::{Record, Store, StoreError},
};

mod reason;

pub use reason::Reason;

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
        record: Box<Record>,
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
    pub fn make(
        _pipeline: &Pipeline,
        _store: &Store,
        _targets: &[String],
        _force: &[String],
    ) -> Result<Self, PlanError> {
        todo!()
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

/// Metrics under the names of the pipeline: `models[0].chi2` becomes `frozen.chi2` if the first of the stage's `models` is `frozen`.
pub fn named_metrics(_stage: &Stage, _metrics: &Metrics) -> Metrics {
    todo!()
}
