//! One stage on a thread of the executor: checks its inputs, has a worker run it, and commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Capacity, Event, RunError, RunOptions,
    budget::Grant,
    mps::Service,
    process::{Heard, Process, obituary, was_asked_to_stop},
    protocol::{Failure, Job, Message},
    sharing::{Given, Share, Taken},
    worker::panic_text,
};
use crate::{
    device::DeviceName,
    digest::Digest,
    key::{CacheKey, KeyMaterial},
    pipeline::{ByteSize, Declared, Pipeline, Timeout},
    plan::{Reason, named_metrics},
    remote::Watch,
    stage::{Artifact, Metrics},
    store::{Fault, Mark, Outcome, Provenance, Record, Slot, Stat, Store, StoreError},
};

/// How often a pause looks whether the run stops.
const LOOK: Duration = Duration::from_millis(100);

/// How long after its worker a run may hear that it is to stop.
const MOMENT: Duration = Duration::from_secs(1);

/// The pause before a stage is tried again; each later one is twice as long, up to a minute or so.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: u32 = 64;

/// How often the progress of a stage is written down.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// What the stages of a run share.
pub(super) struct Shared<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) store: &'a Store,
    pub(super) options: &'a RunOptions,
    /// What the device `auto` means.
    pub(super) auto: DeviceName,
    /// Set when the run stops: workers are killed.
    pub(super) kill: AtomicBool,
    /// What lets stages run side by side on a GPU.
    pub(super) mps: Option<Service>,
    /// The remote.
    pub(super) share: Share<'a>,
    /// Objects that this run has read in full and found intact.
    pub(super) intact: Mutex<BTreeSet<Digest>>,
}

/// A stage whose inputs are all there.
pub(super) struct Task {
    /// Its position in the plan.
    pub(super) position: usize,
    /// Its index in the pipeline.
    pub(super) index: usize,
    pub(super) key: CacheKey,
    pub(super) material: KeyMaterial,
    pub(super) why: Vec<Reason>,
    pub(super) forced: bool,
    /// The role of each input, the position in the plan of the stage that made it, and its record.
    pub(super) inputs: Vec<(&'static str, usize, Arc<Record>)>,
}

/// What the threads of stages tell the executor.
pub(super) enum Report {
    Event(Event),
    Ended(usize, Result<Ending, RunError>),
    /// A result is on the remote, or is not.
    Given(Given),
}

/// How a stage ended.
pub(super) enum Ending {
    /// It ran, and its result is stored.
    Ran(Arc<Record>),
    /// Its result came from the remote, and is stored.
    Pulled(Arc<Record>),
    /// Files of its inputs are corrupted, and were set aside: these stages (by position) must run again.
    Damaged(BTreeMap<usize, Vec<Reason>>),
    /// It failed.
    Failed { message: String, log: Option<PathBuf> },
    /// The run stopped.
    Stopped,
}

impl Task {
    /// Runs the stage to its end, whatever that is, with the right to write its result and what it may use of the machine.
    pub(super) fn perform(self, slot: Slot, grant: Grant, shared: &Shared<'_>, reports: &Sender<Report>) {
        let position = self.position;
        let declared = &shared.pipeline.stages[self.index];
        report_ending(position, reports, || Running { task: self, grant, declared, shared, reports }.perform(slot));
    }
}

/// Reports how the work on a stage ends, also if it panics: the executor waits for this report.
fn report_ending(position: usize, reports: &Sender<Report>, work: impl FnOnce() -> Result<Ending, RunError>) {
    let ending = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        let message = format!("the program panicked while it ran this stage: {text}; this is a defect of the program");
        Ok(Ending::Failed { message, log: None })
    });
    // The executor listens until all stages have ended.
    let _ = reports.send(Report::Ended(position, ending));
}

struct Running<'a> {
    task: Task,
    grant: Grant,
    declared: &'a Declared,
    shared: &'a Shared<'a>,
    reports: &'a Sender<Report>,
}

/// How a worker ended.
enum Worked {
    Finished {
        metrics: Metrics,
        files: Option<Vec<String>>,
        notices: Vec<String>,
    },
    Failed(String),
    /// It may go better another time.
    Lost(String),
    /// It could not write, for the disk is full.
    Full(String),
    Killed,
}

/// The sources of a stage before its worker starts: each file with its field, and its state as the file system tells it.
type Sources = Vec<(String, PathBuf, Stat)>;

impl Running<'_> {
    fn perform(&self, mut slot: Slot) -> Result<Ending, RunError> {
        match self.pull() {
            Taken::Result(record) => {
                slot.settle();
                return Ok(Ending::Pulled(record));
            }
            Taken::Stopped => {
                slot.release();
                return Ok(Ending::Stopped);
            }
            Taken::Nothing => {}
        }
        let damaged = self.damaged_inputs()?;
        if !damaged.is_empty() {
            slot.release();
            return Ok(Ending::Damaged(damaged));
        }
        if self.task.forced {
            slot.forget_checkpoints()?;
        }
        self.tell(Event::StageStarted {
            stage: self.declared.name.clone(),
            kind: self.declared.stage.kind().to_owned(),
            key: self.task.key,
            why: self.task.why.clone(),
        });
        let (started, clock) = (jiff::Timestamp::now(), Instant::now());
        let sources = match self.sources() {
            Ok(sources) => sources,
            Err(message) => return Ok(Self::failed(slot, message)),
        };
        let worked = self.persist(&mut slot, &sources)?;
        let changed = || self.changed_source(&sources);
        let (metrics, files, notices) = match worked {
            Worked::Killed => return Ok(Ending::Stopped),
            Worked::Full(message) => {
                slot.abandon();
                return Err(RunError::Full { stage: self.declared.name.clone(), message });
            }
            // A file that changes while it is read may well seem to be malformed.
            Worked::Failed(message) | Worked::Lost(message) => {
                return Ok(Self::failed(slot, changed().unwrap_or(message)));
            }
            Worked::Finished { metrics, files, notices } => match changed() {
                Some(message) => return Ok(Self::failed(slot, message)),
                None => (metrics, files, notices),
            },
        };
        let seconds = clock.elapsed().as_secs_f64();
        let outcome = Outcome {
            material: self.task.material.clone(),
            produces: self.declared.stage.produces(),
            files: files.map_or_else(|| slot.files(), Ok)?,
            metrics,
            notices,
            provenance: self.provenance(started, seconds),
        };
        let log = slot.log();
        let committed = match slot.commit(outcome) {
            Err(error @ StoreError::NotStorable { .. }) => {
                return Ok(Ending::Failed { message: error.to_string(), log: Some(log) });
            }
            committed => committed?,
        };
        if committed.differed {
            let kept = if self.task.forced { "replaced" } else { "kept" };
            self.notice(format!(
                "the cache held another result of the same key, which was {kept}: is the device deterministic?"
            ));
        }
        self.tell(Event::StageFinished {
            stage: self.declared.name.clone(),
            key: self.task.key,
            seconds,
            metrics: named_metrics(&self.declared.models, &committed.record.metrics),
        });
        Ok(Ending::Ran(Arc::new(committed.record)))
    }

    /// Takes the result from the remote, unless the stage is to run in any case.
    fn pull(&self) -> Taken {
        if self.task.forced {
            return Taken::Nothing;
        }
        let mut watch = Watch { stop: &self.shared.options.stop, on_progress: &mut |_| {} };
        let Shared { share, store, .. } = self.shared;
        share.take(store, self.task.key, &self.declared.name, &mut watch, &mut |event| self.tell(event))
    }

    fn tell(&self, event: Event) {
        // The executor listens until all stages have ended.
        let _ = self.reports.send(Report::Event(event));
    }

    fn notice(&self, message: String) {
        self.tell(Event::StageNotice { stage: self.declared.name.clone(), message });
    }

    fn stopped(&self) -> bool {
        self.shared.kill.load(Ordering::Relaxed)
    }

    /// Whether the run stops within a moment.
    fn stops_soon(&self) -> bool {
        let until = Instant::now() + MOMENT;
        while Instant::now() < until && !self.stopped() {
            thread::sleep(LOOK);
        }
        self.stopped()
    }

    fn failed(slot: Slot, message: String) -> Ending {
        let log = Some(slot.log());
        slot.abandon();
        Ending::Failed { message, log }
    }

    /// Reads the inputs in full, once a run, and sets aside what is not as it was stored.
    fn damaged_inputs(&self) -> Result<BTreeMap<usize, Vec<Reason>>, RunError> {
        let mut damaged = BTreeMap::new();
        for (_, producer, record) in &self.task.inputs {
            if self.known_intact(record) {
                continue;
            }
            let damage = self.shared.store.inspect(record);
            for damage in damage.iter().filter(|damage| damage.fault != Fault::Missing) {
                self.shared.store.set_aside(damage.digest)?;
                let (file, fault) = (&damage.file, &damage.fault);
                self.notice(format!("`{file}` was {fault} in the cache; the stage that makes it runs again"));
            }
            if damage.is_empty() {
                let mut intact = self.shared.intact.lock().unwrap_or_else(PoisonError::into_inner);
                intact.extend(record.outputs.values().map(|output| output.digest));
            } else {
                damaged.insert(*producer, crate::plan::damaged(damage));
            }
        }
        Ok(damaged)
    }

    fn known_intact(&self, record: &Record) -> bool {
        let intact = self.shared.intact.lock().unwrap_or_else(PoisonError::into_inner);
        record.outputs.values().all(|output| intact.contains(&output.digest))
    }

    /// Works until the stage is done, or has failed more often than it may be tried again. A training goes on from its checkpoint.
    fn persist(&self, slot: &mut Slot, sources: &Sources) -> Result<Worked, RunError> {
        let retries = self.declared.execution.retries;
        let mut attempt = 0;
        loop {
            match self.work(slot, sources)? {
                Worked::Lost(message) | Worked::Full(message) if attempt < retries => {
                    let pause = FIRST_PAUSE * 2_u32.saturating_pow(attempt.into()).min(LONGEST_PAUSE);
                    attempt += 1;
                    self.notice(format!(
                        "{message}\nattempt {attempt} of {retries} more begins in {} s",
                        pause.as_secs()
                    ));
                    let until = Instant::now() + pause;
                    while Instant::now() < until && !self.stopped() {
                        thread::sleep(LOOK);
                    }
                    slot.begin_anew()?;
                }
                worked => return Ok(worked),
            }
        }
    }

    fn work(&self, slot: &Slot, sources: &Sources) -> Result<Worked, RunError> {
        let job = match self.job(slot, sources) {
            Ok(job) => job,
            Err(error) => return Ok(Worked::Failed(format!("the stage cannot be handed to a worker: {error}"))),
        };
        let program = &self.shared.options.worker;
        let cannot_start = |source| RunError::Worker { path: program.clone(), source };
        let environment = self.shared.mps.as_ref().map(Service::environment).unwrap_or_default();
        let mut process =
            Process::start(program, &job, slot.create_log()?, self.grant.threads, environment).map_err(cannot_start)?;
        let (mut notices, mut mark, mut marked) = (Vec::new(), None, None::<Instant>);
        let (started, timeout) = (Instant::now(), self.declared.execution.timeout.map(Timeout::get));
        loop {
            if self.stopped() {
                if let Some(mark) = mark {
                    // Only `status` reads it: not worth failing for, here and below.
                    let _ = slot.progress(mark);
                }
                return Ok(Worked::Killed);
            }
            if let Some(limit) = timeout.filter(|limit| started.elapsed() >= *limit) {
                let kept = if mark.is_some() {
                    "; its last checkpoint is kept, and the next run goes on from there"
                } else {
                    ""
                };
                return Ok(Worked::Failed(format!(
                    "the stage took longer than its `timeout` of {} s{kept}",
                    limit.as_secs_f64()
                )));
            }
            match process.hear().map_err(cannot_start)? {
                Heard::Silence => {}
                // Whoever stops a run may send the signal to its workers as well: an engine does to all processes of a job.
                Heard::Gone(status) if was_asked_to_stop(status) && self.stops_soon() => {}
                Heard::Gone(status) => return Ok(Worked::Lost(obituary(status, &slot.log()))),
                Heard::Message(Message::Progress { step, steps, values }) => {
                    mark = Some(Mark { step, steps });
                    if marked.is_none_or(|at| at.elapsed() >= MARK_EVERY) {
                        let _ = slot.progress(Mark { step, steps });
                        marked = Some(Instant::now());
                    }
                    self.tell(Event::StageProgress { stage: self.declared.name.clone(), step, steps, values });
                }
                Heard::Message(Message::Resumed { step, steps }) => {
                    mark = Some(Mark { step, steps });
                    self.tell(Event::StageResumed { stage: self.declared.name.clone(), step, steps });
                }
                Heard::Message(Message::Notice { message }) => {
                    notices.push(message.clone());
                    self.notice(message);
                }
                Heard::Message(Message::Finished { metrics, files }) => {
                    process.farewell();
                    return Ok(Worked::Finished { metrics, files, notices });
                }
                Heard::Message(Message::Failed { message, kind }) => {
                    process.farewell();
                    return Ok(match kind {
                        Failure::Full => Worked::Full(message),
                        Failure::Io | Failure::Device => Worked::Lost(message),
                        Failure::Stage | Failure::Panic | Failure::Protocol => Worked::Failed(message),
                    });
                }
            }
        }
    }

    fn job(&self, slot: &Slot, sources: &Sources) -> Result<Job, Box<dyn std::error::Error>> {
        let mut inputs: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
        for (role, _, record) in &self.task.inputs {
            inputs.entry((*role).to_owned()).or_default().push(Artifact::of(record, self.shared.store));
        }
        let stage = &self.declared.stage;
        let trajectory = self.shared.store.trajectory(self.task.material.trajectory()?);
        Ok(Job {
            protocol: Job::PROTOCOL,
            kind: stage.kind().to_owned(),
            version: stage.version(),
            stage: stage.to_json()?,
            seed: self.declared.seed,
            device: self.grant.device,
            inputs,
            sources: sources.iter().map(|(field, path, _)| (field.clone(), path.clone())).collect(),
            states: sources.iter().map(|(_, path, state)| (path.clone(), *state)).collect(),
            out: slot.out().to_owned(),
            memory: self.memory(),
            checkpoints: slot.checkpoints(),
            trajectory: (stage.goes_on() && !self.task.forced).then_some(trajectory),
            checkpoint_seconds: self.shared.options.checkpoint_every.as_secs_f64(),
        })
    }

    /// Bytes of memory that the stage may use: what it asks for, or its part of what the run has. No more than there is: the job of
    /// a cluster has no bound of its own.
    fn memory(&self) -> u64 {
        let Capacity { jobs, memory, .. } = self.shared.options.capacity;
        let given = self.declared.execution.resources.memory.map_or(memory / jobs.max(1) as u64, ByteSize::get);
        given.min(Capacity::of_this_machine().memory)
    }

    /// Looks at the sources before a worker reads them. They must be those that the key was made of.
    fn sources(&self) -> Result<Sources, String> {
        let look = |(field, path): (String, PathBuf)| {
            let message = match self.shared.store.source_with_stat(&path) {
                Ok((digest, stat)) if self.task.material.sources.get(&field) == Some(&digest) => {
                    return Ok((field, path, stat));
                }
                Ok(_) => "changed since the run was planned".to_owned(),
                Err(error) => format!("cannot be read any more ({error})"),
            };
            Err(format!("the source file {} {message}: nothing is stored; run again", path.display()))
        };
        self.shared.pipeline.sources(self.declared).into_iter().map(look).collect()
    }

    /// Tells of a source file that is no longer as it was. One that was changed and changed back has the same content, and other times.
    fn changed_source(&self, sources: &Sources) -> Option<String> {
        sources.iter().find_map(|(field, path, before)| {
            // Reading comes first: on a network file system it asks the server for the times, too.
            let now = Digest::of_file(path).and_then(|digest| Ok((digest, Stat::of(path)?)));
            let message = match now {
                Ok((digest, now)) if Some(&digest) == self.task.material.sources.get(field) && now == *before => {
                    return None;
                }
                Ok(_) => "changed while the stage read it".to_owned(),
                Err(error) => format!("cannot be read any more ({error})"),
            };
            Some(format!("the source file {} {message}: nothing is stored; run again", path.display()))
        })
    }

    fn provenance(&self, started: jiff::Timestamp, seconds: f64) -> Provenance {
        Provenance {
            stage: self.declared.name.clone(),
            pipeline: self.shared.pipeline.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.grant.device.to_string(),
            host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started: format!("{started:.3}"),
            seconds,
            argv: self.shared.options.argv.clone(),
            inputs: self.declared.input_names(),
            sources: self.declared.source_paths(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_panic_on_the_thread_of_a_stage_is_reported_as_its_end() {
        let (sender, reports) = channel();
        thread::scope(|scope| {
            scope.spawn(|| report_ending(3, &sender, || panic!("port 99999")));
        });
        let Ok(Report::Ended(3, Ok(Ending::Failed { message, .. }))) = reports.recv() else { panic!("no report") };
        assert!(message.contains("port 99999") && message.contains("defect"), "{message}");
    }
}
