//! Running a plan: the executor, the worker process and its protocol, and the events that both report.
//!
//! Each stage runs in a process of its own, so that a crash fails one stage and not the run. The executor owns the order,
//! the number of workers and the commit to the store; a worker only reads objects and writes files into its folder.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::{
    device::DeviceName,
    key::CacheKey,
    pipeline::{ByteSize, Pipeline, PipelineError},
    plan::{Difference, Lock, Plan, PlanError, PlannedStage, StageState},
    stage::Problem,
    store::{Holder, Record, Store, StoreError},
};

mod budget;
mod event;
mod executor;
mod mps;
mod process;
mod protocol;
mod sharing;
mod stage;
mod worker;

pub use budget::Capacity;
pub(crate) use budget::Demand;
pub use event::{Event, Origin};
pub use process::{last_lines, this_image};
pub use sharing::Sharing;
pub use worker::{WorkerEnd, worker};

/// How to run a pipeline.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The stages to bring up to date, with all that they need; everything if empty.
    pub targets: Vec<String>,
    /// Run none but the targets: what they need must be in the store.
    pub only_targets: bool,
    /// Stages that run even if cached.
    pub force: Vec<String>,
    /// After a failure, go on with the stages that do not need the failed one.
    pub keep_going: bool,
    /// What its stages may use of the machine together.
    pub capacity: Capacity,
    /// Where tensors live, unless a stage says otherwise.
    pub device: DeviceName,
    /// The program that runs a stage when called as `PROGRAM worker`.
    pub worker: PathBuf,
    /// What the pipeline and its results must be, or else the run fails.
    pub lock: Option<Lock>,
    /// Results that lie elsewhere and need not come, for no stage that runs takes them.
    pub known: BTreeMap<CacheKey, Arc<Record>>,
    /// Where results are taken from before stages run, and given to afterwards.
    pub sharing: Option<Sharing>,
    /// The time between two checkpoints of a stage that trains.
    pub checkpoint_every: Duration,
    /// The number of the signal that asks the run to stop; 0 for none.
    pub stop: Arc<AtomicUsize>,
    /// The command line, for the provenance.
    pub argv: Vec<String>,
}

/// What a run did, by names of stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Stages that ran and whose results are stored.
    pub ran: Vec<String>,
    /// Stages whose results were in the store.
    pub cached: Vec<String>,
    /// Stages that failed; the exit code is 1 if there are any.
    pub failed: Vec<String>,
    /// Stages that did not start because of a failure.
    pub cancelled: Vec<String>,
    /// The results of all stages that have one.
    pub results: BTreeMap<String, Arc<Record>>,
    /// How long it took.
    pub seconds: f64,
}

/// Why a run could not be carried to its end; a failed stage is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The sources do not fit the pipeline.
    #[error(transparent)]
    Invalid(#[from] PipelineError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pipeline or its sources are not what its lock says.
    #[error("the pipeline is not as its lock says:\n{}\n{advice}", lines(differences))]
    NotAsLocked {
        /// What differs.
        differences: Vec<Difference>,
        /// What to do.
        advice: String,
    },
    /// Stages that the targets need have no result, and only the targets may run.
    #[error("these stages are not in the cache: `{}`", stages.join("`, `"))]
    NotReady {
        /// Their names.
        stages: Vec<String>,
    },
    /// The worker cannot be started.
    #[error("cannot start the worker {}: {source}; set `--worker` or PGAN_WORKER to a pgan-pipe program", path.display())]
    Worker {
        /// The program.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A stage could not write its result, for the disk is full.
    #[error("`{stage}`: {message}; {}", crate::store::FULL)]
    Full {
        /// The stage.
        stage: String,
        /// The file that it could not write, and the system's reason.
        message: String,
    },
    /// A signal stopped the run.
    #[error("stopped by signal {0}; what is finished is kept, run again to continue")]
    Stopped(usize),
}

/// Brings the targets up to date, and reports on the calling thread.
pub fn run(
    pipeline: &Pipeline,
    store: &Store,
    options: &RunOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, RunError> {
    if let Some(lock) = &options.lock {
        let differences = lock.differences(pipeline, store)?;
        if !differences.is_empty() {
            return Err(RunError::NotAsLocked { differences, advice: advice(lock, pipeline) });
        }
    }
    let this = Holder::this_process();
    let head = json!({
        "event": "run_started", "pipeline": pipeline.name, "argv": options.argv, "version": env!("CARGO_PKG_VERSION"),
        "device": options.device, "process": this.pid, "host": this.host, "time": format!("{:.3}", jiff::Timestamp::now()),
    });
    let mut told = false;
    let mut waiting = |holder: &Holder| {
        if !std::mem::replace(&mut told, true) {
            on_event(&Event::RunNotice {
                message: format!("waits for a collection of the cache, by {holder}, to end"),
            });
        }
        options.stop.load(Ordering::Relaxed) == 0
    };
    let Some(mut log) = store.begin_run(&head, &mut waiting) else {
        return Err(RunError::Stopped(options.stop.load(Ordering::Relaxed)));
    };
    let known = |keys: &[CacheKey]| {
        keys.iter().filter_map(|key| Some((*key, Arc::clone(options.known.get(key)?)))).collect::<BTreeMap<_, _>>()
    };
    let plan = Plan::make_with(pipeline, store, &options.targets, &options.force, &mut |keys| known(keys))?;
    let stored = plan.stages.iter().filter_map(|stage| match &stage.state {
        StageState::Cached { record, .. } => Some((stage.name.as_str(), record.key)),
        _ => None,
    });
    let stored: BTreeMap<&str, CacheKey> = stored.collect();
    log.needs(&stored);
    if options.only_targets {
        let lacking = plan.stages.iter().filter(|stage| may_run(stage));
        let lacking = lacking.map(|stage| stage.name.clone()).filter(|name| !options.targets.contains(name));
        match lacking.collect::<Vec<_>>() {
            stages if stages.is_empty() => {}
            stages => return Err(RunError::NotReady { stages }),
        }
    }
    preflight(pipeline, &plan, &options.capacity)?;
    let device = |stage: &PlannedStage| pipeline.stages[stage.index].execution.device.unwrap_or(options.device);
    let auto = if plan.stages.iter().filter(|stage| may_run(stage)).any(|stage| device(stage) == DeviceName::Auto) {
        let found = process::best_device(&options.worker, &Vec::new(), &options.stop);
        found
            .map_err(|source| RunError::Worker { path: options.worker.clone(), source })?
            .ok_or_else(|| RunError::Stopped(options.stop.load(Ordering::Relaxed)))?
    } else {
        DeviceName::Cpu
    };
    let summary = executor::execute(pipeline, store, options, auto, &plan, &mut |event| {
        // What the plan found stored is in the log already, and progress is in the logs of the stages.
        let known = match event {
            Event::StageProgress { .. } => true,
            Event::StageCached { stage, key, .. } => stored.get(stage.as_str()) == Some(key),
            _ => false,
        };
        if !known {
            log.write(event);
        }
        on_event(event);
    });
    // Thousands of records take a while to be taken apart, and nobody needs to wait for that.
    rayon::spawn(move || drop(plan));
    summary
}

fn may_run(stage: &PlannedStage) -> bool {
    !matches!(stage.state, StageState::Cached { .. } | StageState::Elsewhere { .. })
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("  {difference}")).collect::<Vec<_>>().join("\n")
}

/// What to do about a lock that does not fit.
fn advice(lock: &Lock, pipeline: &Pipeline) -> String {
    let sets = match &*lock.set {
        set if set == pipeline.overrides() => String::new(),
        [] => "the lock was made without `--set`; ".to_owned(),
        set => format!("the lock was made with `--set {}`; ", set.join(" --set ")),
    };
    format!("{sets}undo what differs, or run with `--lock` to lock what is there now")
}

/// Looks at the needs and into the source files of stages that may run, before any does.
fn preflight(pipeline: &Pipeline, plan: &Plan, capacity: &Capacity) -> Result<(), PipelineError> {
    let may_run = plan.stages.iter().filter(|stage| may_run(stage));
    let may_run: Vec<usize> = may_run.map(|stage| stage.index).collect();
    for &index in &may_run {
        if let Some(memory) = pipeline.stages[index].execution.resources.memory.filter(|m| m.get() > capacity.memory) {
            let has = ByteSize::from(capacity.memory);
            let problem =
                Problem::new("resources.memory", format!("{memory} is more than the {has} that a run has here")).help(
                    "ask for less, or run it on a larger machine; `--memory SIZE` says what a run may take for granted",
                );
            return Err(PipelineError::Invalid(pipeline.diagnose(index, &[problem])));
        }
    }
    let with_sources = may_run.into_iter().filter(|&i| !pipeline.stages[i].stage.sources().is_empty());
    match with_sources.collect::<Vec<_>>() {
        stages if stages.is_empty() => Ok(()),
        stages => pipeline.preflight(&stages),
    }
}
