//! The body of a job: one stage of a submission, run as any run does it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    EngineName, SubmitError,
    node::{Node, NodeOptions, carried},
};
use crate::{
    key::CacheKey,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState, recipes},
    remote::{Patience, Remote, Settings},
    run::{Capacity, Event, RunError, RunOptions, Sharing, Summary, run},
    store::{JobEnd, JobOutcome, Store, Submission},
};

/// How long results of other jobs are waited for: network file systems show what another machine wrote after some seconds.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The signal by which the engine tells that the job's time is nearly up.
const TIME_IS_UP: usize = signal_hook::consts::SIGUSR1 as usize;

/// A job.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// The submission.
    pub submission: String,
    /// The stage.
    pub stage: String,
    /// Threads that it may use.
    pub threads: usize,
    /// The number of the signal that asks it to stop; 0 for none.
    pub stop: Arc<AtomicUsize>,
    /// Where it takes from and gives to on a machine that shares no store with others.
    pub node: Option<NodeOptions>,
}

/// Runs the stage of a job, and leaves word of how it ended. A job whose time is up goes back into the queue if it has come further than
/// it was, and goes on from its checkpoint then: `Ok(None)`.
pub fn perform(
    store: &Store,
    options: &JobOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Option<Summary>, SubmitError> {
    let id = &options.submission;
    let place = || match &options.node {
        Some(node) => node.remote.address.to_string().into(),
        None => store.root().to_owned(),
    };
    let absent = || SubmitError::NoSubmission { id: id.clone(), place: place() };
    let node = options.node.as_ref().map(|node| Node::new(node, store, id, &options.stop)).transpose()?;
    let submission = node.as_ref().map_or_else(|| Ok(store.submission(id)?), Node::fetch)?.ok_or_else(absent)?;
    let recipe = *submission.recipes.get(&options.stage).ok_or_else(absent)?;
    store.clear_end(id, recipe);
    node.as_ref().map_or(Ok(()), |node| node.clear_end(recipe))?;
    let mut course = Course::default();
    let mut result = attempt(store, options, &submission, node.as_ref(), &mut |event| {
        course.note(event);
        on_event(event);
    });
    // Where the checkpoint stays behind, a job that is queued again would stand where this one stood.
    if let Err(SubmitError::Run(RunError::Stopped(TIME_IS_UP))) = &result
        && node.is_none()
        && course.came_further(&submission)
        && requeue(&submission).is_ok()
    {
        return Ok(None);
    }
    let (outcome, message) = match &result {
        Ok(summary) if summary.failed.is_empty() => (JobOutcome::Done, String::new()),
        Ok(_) => (JobOutcome::Failed, course.failure.unwrap_or_default()),
        Err(SubmitError::Run(RunError::Stopped(TIME_IS_UP))) => {
            let advice = match node {
                None => "its last checkpoint is kept, and another job goes on from there",
                Some(_) => {
                    "its checkpoint stays on its machine: give it more time, by `timeout` or an option of the engine"
                }
            };
            (JobOutcome::Failed, format!("its time was up; {advice}"))
        }
        Err(SubmitError::Run(RunError::Stopped(signal))) => {
            (JobOutcome::Stopped, format!("stopped by signal {signal}"))
        }
        Err(error) => (JobOutcome::Failed, error.to_string()),
    };
    let end = JobEnd { outcome, message, key: course.key, time: format!("{:.3}", jiff::Timestamp::now()) };
    let told = store.put_end(id, recipe, &end).map_err(SubmitError::from);
    let told = told.and_then(|()| node.as_ref().map_or(Ok(()), |node| node.leave(recipe)));
    if let (Err(error), Ok(_)) = (told, &result) {
        result = Err(error);
    }
    result.map(Some)
}

fn attempt(
    store: &Store,
    options: &JobOptions,
    submission: &Submission,
    node: Option<&Node<'_>>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, SubmitError> {
    let set: Vec<(String, String)> = submission
        .set
        .iter()
        .filter_map(|set| set.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let mut pipeline = Pipeline::of_texts(&submission.file, &submission.texts, &set)?;
    pipeline.carry(carried(&submission.sources));
    let targets = vec![options.stage.clone()];
    let recipe = recipes(&pipeline, store, &targets)?.remove(&options.stage);
    if recipe != submission.recipes.get(&options.stage).copied() {
        return Err(SubmitError::Changed { stage: options.stage.clone() });
    }
    let known = match node {
        None => {
            await_inputs(&pipeline, store, &targets, &options.stop)?;
            BTreeMap::new()
        }
        Some(node) => {
            let known = node.take_inputs(&pipeline, &options.stage)?;
            node.take_sources(&mut pipeline, &options.stage, &submission.sources)?;
            known
        }
    };
    let threads = options.threads.max(1);
    let run_options = RunOptions {
        targets,
        only_targets: true,
        force: Vec::new(),
        keep_going: false,
        // What the engine has given to the job is the job's alone.
        capacity: Capacity { jobs: 1, threads, memory: u64::MAX, ..Capacity::of_this_machine() },
        device: submission.device,
        worker: submission.worker.clone(),
        lock: None,
        known,
        // A node is strict about its remote, before and after the run.
        sharing: if node.is_some() { None } else { sharing(submission)? },
        checkpoint_every: Duration::try_from_secs_f64(submission.checkpoint_seconds).unwrap_or(Duration::MAX),
        stop: Arc::clone(&options.stop),
        argv: submission.argv.clone(),
    };
    let summary = run(&pipeline, store, &run_options, on_event)?;
    if let (Some(node), Some(record)) = (node, summary.results.get(&options.stage)) {
        node.give(record)?;
    }
    Ok(summary)
}

/// The remote that jobs with a shared store read and write through.
fn sharing(submission: &Submission) -> Result<Option<Sharing>, SubmitError> {
    let Some(text) = &submission.remote else { return Ok(None) };
    let settings = Settings::take_over(text)?;
    let (push, timeout) = (settings.push, settings.timeout);
    Ok(Some(Sharing { remote: Remote::new(settings, Patience::of_run(timeout)), push, timeout }))
}

/// Waits a while for the results of other jobs; whether they have come, the run will say.
fn await_inputs(pipeline: &Pipeline, store: &Store, targets: &[String], stop: &AtomicUsize) -> Result<(), SubmitError> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let plan = Plan::make(pipeline, store, targets, &[])?;
        let there =
            |stage: &PlannedStage| targets.contains(&stage.name) || matches!(stage.state, StageState::Cached { .. });
        if plan.stages.iter().all(there) {
            break;
        }
        match stop.load(Ordering::Relaxed) {
            0 => thread::sleep(LOOK),
            signal => return Err(RunError::Stopped(signal).into()),
        }
    }
    Ok(())
}

/// Puts this job back into its engine's queue.
fn requeue(submission: &Submission) -> Result<(), SubmitError> {
    let engine = submission.engine.parse::<EngineName>().ok().map(EngineName::engine);
    match engine.and_then(|engine| engine.this_job().map(|id| engine.requeue(&id))) {
        Some(result) => Ok(result?),
        None => Err(RunError::Stopped(TIME_IS_UP).into()),
    }
}

/// What of a run's course matters at its end.
#[derive(Default)]
struct Course {
    started: Option<Instant>,
    first: u64,
    last: u64,
    key: Option<CacheKey>,
    failure: Option<String>,
}

impl Course {
    fn note(&mut self, event: &Event) {
        match event {
            Event::StageStarted { key, .. } => (self.key, self.started) = (Some(*key), Some(Instant::now())),
            Event::StageCached { key, .. } => self.key = Some(*key),
            Event::StageResumed { step, .. } => (self.first, self.last) = (*step, *step),
            Event::StageProgress { step, .. } => self.last = *step,
            Event::StageFailed { message, .. } => self.failure = Some(message.clone()),
            _ => {}
        }
    }

    /// Whether steps were done and have come into a checkpoint, so that another attempt does not stand where this one stood.
    fn came_further(&self, submission: &Submission) -> bool {
        let seconds = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        self.last > self.first && seconds > 2.0 * submission.checkpoint_seconds
    }
}
