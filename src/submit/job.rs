//! The body of a job: one stage of a submission, run as any run does it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{EngineName, SubmitError};
use crate::{
    key::CacheKey,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState, recipes},
    run::{Capacity, Event, RunError, RunOptions, Summary, run},
    store::{JobEnd, JobOutcome, Store, Submission},
};

/// How long results of other jobs are waited for: network file systems show what another machine wrote after some seconds.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_secs(1);

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
}

/// Runs the stage of a job, and leaves word of how it ended. A job whose time is up goes back into the queue if it has come further than
/// it was, and goes on from its checkpoint then: `Ok(None)`.
pub fn perform(
    store: &Store,
    options: &JobOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Option<Summary>, SubmitError> {
    let id = &options.submission;
    let absent = || SubmitError::NoSubmission { id: id.clone(), store: store.root().to_owned() };
    let submission = store.submission(id)?.ok_or_else(absent)?;
    let recipe = *submission.recipes.get(&options.stage).ok_or_else(absent)?;
    store.clear_end(id, recipe);
    let mut course = Course::default();
    let mut result = attempt(store, options, &submission, &mut |event| {
        course.note(event);
        on_event(event);
    });
    if let Err(SubmitError::Run(RunError::Stopped(TIME_IS_UP))) = &result
        && course.came_further(&submission)
        && requeue(&submission).is_ok()
    {
        return Ok(None);
    }
    let (outcome, message) = match &result {
        Ok(summary) if summary.failed.is_empty() => (JobOutcome::Done, String::new()),
        Ok(_) => (JobOutcome::Failed, course.failure.unwrap_or_default()),
        Err(SubmitError::Run(RunError::Stopped(TIME_IS_UP))) => (
            JobOutcome::Failed,
            "its time was up; its last checkpoint is kept, and another job goes on from there".to_owned(),
        ),
        Err(SubmitError::Run(RunError::Stopped(signal))) => {
            (JobOutcome::Stopped, format!("stopped by signal {signal}"))
        }
        Err(error) => (JobOutcome::Failed, error.to_string()),
    };
    let end = JobEnd { outcome, message, key: course.key, time: format!("{:.3}", jiff::Timestamp::now()) };
    if let Err(error) = store.put_end(id, recipe, &end)
        && result.is_ok()
    {
        result = Err(error.into());
    }
    result.map(Some)
}

fn attempt(
    store: &Store,
    options: &JobOptions,
    submission: &Submission,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, SubmitError> {
    let set: Vec<(String, String)> = submission
        .set
        .iter()
        .filter_map(|set| set.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let pipeline = Pipeline::of_texts(&submission.file, &submission.texts, &set)?;
    let targets = vec![options.stage.clone()];
    let recipe = recipes(&pipeline, store, &targets)?.remove(&options.stage);
    if recipe != submission.recipes.get(&options.stage).copied() {
        return Err(SubmitError::Changed { stage: options.stage.clone() });
    }
    let threads = options.threads.max(1);
    let options = RunOptions {
        targets,
        only_targets: true,
        force: Vec::new(),
        keep_going: false,
        // What the engine has given to the job is the job's alone.
        capacity: Capacity { jobs: 1, threads, memory: u64::MAX, ..Capacity::of_this_machine() },
        device: submission.device,
        worker: submission.worker.clone(),
        lock: None,
        sharing: None,
        checkpoint_every: Duration::try_from_secs_f64(submission.checkpoint_seconds).unwrap_or(Duration::MAX),
        stop: Arc::clone(&options.stop),
        argv: submission.argv.clone(),
    };
    await_inputs(&pipeline, store, &options)?;
    Ok(run(&pipeline, store, &options, on_event)?)
}

/// Waits a while for the results of other jobs; whether they have come, the run will say.
fn await_inputs(pipeline: &Pipeline, store: &Store, options: &RunOptions) -> Result<(), SubmitError> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let plan = Plan::make(pipeline, store, &options.targets, &[])?;
        let there = |stage: &PlannedStage| {
            options.targets.contains(&stage.name) || matches!(stage.state, StageState::Cached { .. })
        };
        if plan.stages.iter().all(there) {
            break;
        }
        match options.stop.load(Ordering::Relaxed) {
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
