//! From a plan to jobs in the engine's queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Apart, EngineName, EngineOption, Event, JobRequest, SubmitError,
    apart::Depot,
    standing::{Standing, track},
};
use crate::{
    device::DeviceName,
    digest::Digest,
    pipeline::{Declared, Pipeline, PipelineError},
    plan::{Plan, PlannedStage, StageState, recipes},
    remote::{RemoteError, Settings},
    run::Demand,
    stage::Problem,
    store::{Job, Output, Store, Submission, Submitted},
};

/// What an engine adds to a stage's `timeout`: reading inputs, storing results, pauses between attempts.
const SLACK: Duration = Duration::from_mins(10);

/// How to submit a pipeline.
#[derive(Clone, Debug)]
pub struct SubmitOptions {
    /// The stages to bring up to date, with all that they need; everything if empty.
    pub targets: Vec<String>,
    /// The engine.
    pub engine: EngineName,
    /// Options of the engine's own.
    pub engine_options: Vec<EngineOption>,
    /// Where tensors live, unless a stage says otherwise.
    pub device: DeviceName,
    /// This program, as jobs find it: an absolute path.
    pub program: PathBuf,
    /// The program that runs stages, as jobs find it.
    pub worker: PathBuf,
    /// The time between two checkpoints of a stage that trains.
    pub checkpoint_every: Duration,
    /// The command line.
    pub argv: Vec<String>,
    /// The remote that jobs share results by.
    pub remote: Option<Settings>,
    /// The cache of each machine, in the words of its shell, if they share nothing but the remote.
    pub node_cache: Option<String>,
}

impl SubmitOptions {
    /// What stands in the place of a shared store, if there is none.
    fn depot(&self) -> Result<Option<Depot>, SubmitError> {
        match (&self.remote, &self.node_cache) {
            (_, None) => Ok(None),
            (None, Some(_)) => Err(SubmitError::NoRemote),
            (Some(Settings { address, .. }), Some(_)) if !address.is_writable() => {
                Err(RemoteError::ReadOnly { address: address.clone() }.into())
            }
            (Some(settings), Some(_)) if !settings.push => Err(SubmitError::NoPush),
            (Some(settings), Some(_)) => Ok(Some(Depot::new(settings.clone(), Arc::default()))),
        }
    }

    fn remote(&self) -> Option<String> {
        self.remote.as_ref().map(Settings::hand_over)
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its name; `None` if there was nothing to queue.
    pub submission: Option<String>,
    /// Its jobs, those of earlier submissions that it waits for among them.
    pub jobs: Vec<Job>,
}

/// The jobs that [`submit`] would queue, were nothing in flight. In the place of the engine's names for jobs stands `ID-OF-STAGE`.
pub fn requests(
    pipeline: &Pipeline,
    store: &Store,
    options: &SubmitOptions,
) -> Result<Vec<(String, JobRequest)>, SubmitError> {
    let plan = plan(pipeline, store, options, options.depot()?.as_ref())?;
    check(pipeline, options, &plan.stages.iter().filter(|stage| runs(stage)).collect::<Vec<_>>())?;
    let plan: Vec<PlannedStage> = plan.stages.into_iter().filter(runs).collect();
    let queue = Queue { pipeline, store, options, id: "SUBMISSION".to_owned() };
    let open: BTreeMap<usize, String> =
        plan.iter().map(|stage| (stage.index, format!("ID-OF-{}", stage.name))).collect();
    Ok(plan.iter().enumerate().map(|(nth, stage)| (stage.name.clone(), queue.request(nth, stage, &open))).collect())
}

/// Queues a job for each stage that has no result and is not in flight. If the engine takes some jobs and then no more, those are
/// cancelled.
pub fn submit(
    pipeline: &Pipeline,
    store: &Store,
    options: &SubmitOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Queued, SubmitError> {
    let depot = options.depot()?;
    if depot.is_none() && options.worker.is_absolute() && !options.worker.is_file() {
        return Err(SubmitError::NoWorker(options.worker.clone()));
    }
    for path in [&options.program, &options.worker, store.root(), &*pipeline.absolute_path()] {
        path.to_str().ok_or_else(|| SubmitError::NotText(path.to_owned()))?;
    }
    let mut told = false;
    let _lock = store.lock_submissions(&mut |holder| {
        if !std::mem::replace(&mut told, true) {
            on_event(&Event::Waiting(holder.clone()));
        }
        true
    })?;
    // What ends between these two lines is found stored by the second.
    let mut in_flight = in_flight(store, options)?;
    let plan = plan(pipeline, store, options, depot.as_ref())?;
    let (mut needs, mut to_run) = (BTreeSet::new(), Vec::new());
    for stage in &plan.stages {
        match &stage.state {
            StageState::Cached { key, .. } | StageState::Elsewhere { key, .. } => {
                needs.insert(*key);
                on_event(&Event::Cached(stage.name.clone(), *key));
            }
            _ => to_run.push(stage),
        }
    }
    check(pipeline, options, &to_run)?;
    if to_run.is_empty() {
        return Ok(Queued { submission: None, jobs: Vec::new() });
    }
    let recipes = recipes(pipeline, store, &options.targets)?;
    let sources = match &depot {
        Some(depot) => depot.supply(pipeline, store, &plan, &to_run)?,
        None => carried(pipeline),
    };
    let now = jiff::Timestamp::now();
    let submission = Submission {
        id: store.new_submission(now)?,
        engine: options.engine.to_string(),
        pipeline: pipeline.name.clone(),
        file: pipeline.absolute_path(),
        set: pipeline.overrides().to_vec(),
        texts: pipeline.texts(),
        device: options.device,
        worker: options.worker.clone(),
        checkpoint_seconds: options.checkpoint_every.as_secs_f64(),
        argv: options.argv.clone(),
        time: format!("{now:.3}"),
        recipes: to_run.iter().filter_map(|stage| Some((stage.name.clone(), *recipes.get(&stage.name)?))).collect(),
        needs,
        remote: options.remote(),
        node_cache: options.node_cache.clone(),
        sources,
    };
    store.put_submission(&submission)?;
    if let Some(Err(error)) = depot.as_ref().map(|depot| depot.post(store, &submission.id)) {
        store.drop_submission(&submission.id);
        return Err(error);
    }
    let queue = Queue { pipeline, store, options, id: submission.id.clone() };
    let (mut jobs, mut ids) = (Vec::new(), BTreeMap::new());
    for (nth, stage) in to_run.into_iter().enumerate() {
        let Some(&recipe) = recipes.get(&stage.name) else { continue };
        let (job, event) = match in_flight.get(&recipe) {
            Some((job, standing)) => {
                let job = Job { stage: stage.name.clone(), ..job.clone() };
                (job.clone(), Event::InFlight(job, standing.clone()))
            }
            None => match queue.submit(nth, stage, recipe, &ids) {
                Ok(job) => {
                    // A stage that is the same but for its name waits for this job.
                    let standing = Standing::Queued { reason: String::new() };
                    in_flight.insert(recipe, (job.clone(), standing));
                    (job.clone(), Event::Submitted(job))
                }
                Err(error) => return Err(queue.undo(&jobs, &stage.name, error)),
            },
        };
        ids.insert(stage.index, job.id.clone());
        if let Err(error) = store.add_job(&submission.id, &job) {
            jobs.push(job);
            return Err(queue.undo(&jobs, &stage.name, error.into()));
        }
        on_event(&event);
        jobs.push(job);
    }
    if let Some(depot) = &depot {
        // A help for collections alone.
        let _ = depot.post_jobs(store, &submission.id);
    }
    Ok(Queued { submission: Some(submission.id), jobs })
}

/// Jobs in flight by recipe whose results come to where those of these options do; of several the latest.
fn in_flight(store: &Store, options: &SubmitOptions) -> Result<BTreeMap<Digest, (Job, Standing)>, SubmitError> {
    let mut submitted = store.submissions()?;
    let remote = options.remote();
    submitted.retain(|Submitted { submission, .. }| {
        let together = match submission.node_cache {
            None => options.node_cache.is_none(),
            Some(_) => options.node_cache.is_some() && submission.remote == remote,
        };
        together && submission.engine == options.engine.to_string()
    });
    let (tracked, errors) = track(store, submitted);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let jobs = tracked.into_iter().flat_map(|each| each.jobs);
    Ok(jobs.filter(|(_, standing)| standing.in_flight()).map(|(job, standing)| (job.recipe, (job, standing))).collect())
}

/// A plan with what jobs will find.
fn plan(
    pipeline: &Pipeline,
    store: &Store,
    options: &SubmitOptions,
    depot: Option<&Depot>,
) -> Result<Plan, SubmitError> {
    match depot {
        Some(depot) => Ok(depot.survey(pipeline, store, &options.targets)?.plan),
        None => Ok(Plan::make(pipeline, store, &options.targets, &[])?),
    }
}

/// The sources that lie in packs: the texts that jobs read do not tell what those are.
fn carried(pipeline: &Pipeline) -> BTreeMap<PathBuf, Output> {
    let sources = pipeline.stages.iter().flat_map(|declared| pipeline.sources(declared).into_values());
    let carried = |path: PathBuf| Some((path.clone(), Output { digest: pipeline.carried(&path)?, size: 0 }));
    sources.filter_map(carried).collect()
}

fn runs(stage: &PlannedStage) -> bool {
    !matches!(stage.state, StageState::Cached { .. } | StageState::Elsewhere { .. })
}

/// Looks for what would make jobs fail that can be known beforehand.
fn check(pipeline: &Pipeline, options: &SubmitOptions, to_run: &[&PlannedStage]) -> Result<(), SubmitError> {
    for option in options.engine_options.iter().filter(|option| option.stage.is_some()) {
        if !pipeline.stages.iter().any(|declared| option.names(declared)) {
            let stage = option.stage.clone().unwrap_or_default();
            return Err(SubmitError::NoSuchStage { option: option.option.clone(), stage });
        }
    }
    for stage in to_run {
        let declared = &pipeline.stages[stage.index];
        if let Some(DeviceName::LibtorchCuda(Some(1..))) = declared.execution.device {
            let problem = Problem::new("device", "a GPU by its number cannot be had of an engine, which gives any")
                .help("write `libtorch-cuda`: a job sees the GPUs that it was given, from 0 on");
            return Err(PipelineError::Invalid(pipeline.diagnose(stage.index, &[problem])).into());
        }
    }
    let with_sources = to_run.iter().map(|stage| stage.index);
    let with_sources: Vec<usize> = with_sources.filter(|&i| !pipeline.stages[i].stage.sources().is_empty()).collect();
    Ok(pipeline.preflight(&with_sources)?)
}

/// Makes jobs of stages.
struct Queue<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    options: &'a SubmitOptions,
    /// The submission's name.
    id: String,
}

impl Queue<'_> {
    fn submit(
        &self,
        nth: usize,
        stage: &PlannedStage,
        recipe: Digest,
        ids: &BTreeMap<usize, String>,
    ) -> Result<Job, SubmitError> {
        let request = self.request(nth, stage, ids);
        let id = self.options.engine.engine().submit(&request)?;
        let (submission, log) = (self.id.clone(), request.log);
        Ok(Job { stage: stage.name.clone(), recipe, id, after: request.after, submission, log })
    }

    /// The job of a stage, after those of its inputs that have one.
    fn request(&self, nth: usize, stage: &PlannedStage, ids: &BTreeMap<usize, String>) -> JobRequest {
        let declared = &self.pipeline.stages[stage.index];
        let mut after: Vec<String> = Vec::new();
        for id in stage.inputs.iter().filter_map(|(_, producer)| ids.get(producer)) {
            if !after.contains(id) {
                after.push(id.clone());
            }
        }
        let demand = Demand::of(declared, self.options.device, DeviceName::Auto);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let cache = self.store.root().parent().unwrap_or(Path::new("")).to_owned();
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let store = Store::at(&cache);
        let options = |own: bool| {
            let options = self.options.engine_options.iter();
            let meant = options.filter(move |option| if own { option.names(declared) } else { option.stage.is_none() });
            meant.map(|option| option.option.clone()).collect()
        };
        let mut command = vec![text(&self.options.program), "job".to_owned(), self.id.clone(), stage.name.clone()];
        let log = store.job_log(&self.id, nth + 1, &stage.name);
        let apart = self.options.node_cache.clone().map(|cache| {
            let log = log.strip_prefix(store.root()).unwrap_or(&log);
            Apart { cache, log: format!("v1/{}", text(log)) }
        });
        match &apart {
            Some(_) => command.extend(self.options.remote().into_iter().flat_map(|it| ["--remote".to_owned(), it])),
            None => command.extend(["--cache".to_owned(), text(&cache)]),
        }
        JobRequest {
            name: format!("pgan:{}:{}", self.pipeline.name, stage.name),
            command,
            after,
            threads: demand.threads(),
            memory: declared.execution.resources.memory.map(crate::pipeline::ByteSize::get),
            gpus: demand.gpus(declared),
            time: time(declared),
            options: options(false),
            own_options: options(true),
            log,
            apart,
        }
    }

    /// Cancels what was queued before a job that could not be.
    fn undo(&self, jobs: &[Job], stage: &str, source: SubmitError) -> SubmitError {
        let own: Vec<String> = jobs.iter().filter(|job| job.submission == self.id).map(|job| job.id.clone()).collect();
        if own.is_empty() {
            self.store.drop_submission(&self.id);
            return source;
        }
        let undone = match self.options.engine.engine().cancel(&own) {
            Ok(()) => format!("and those of its submission that were were cancelled ({})", own.join(", ")),
            Err(error) => format!("and those that were could not be cancelled ({error}): cancel {}", own.join(", ")),
        };
        SubmitError::Halfway { stage: stage.to_owned(), undone, source: Box::new(source) }
    }
}

/// The longest that a stage with a `timeout` can take, with all its attempts.
fn time(declared: &Declared) -> Option<Duration> {
    let timeout = declared.execution.timeout?.get();
    Some(timeout.saturating_mul(u32::from(declared.execution.retries) + 1).saturating_add(SLACK))
}
