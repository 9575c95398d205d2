//! The executor: starts each stage when its inputs are there and the machine has room for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use petgraph::{Direction::Outgoing, graph::NodeIndex};

use super::{
    Event, Origin, RunError, RunOptions, Summary,
    budget::{Budget, Demand, Grant},
    may_run,
    mps::Service,
    sharing::Share,
    stage::{Ending, Report, Shared, Task},
};
use crate::{
    device::DeviceName,
    digest::Digest,
    pipeline::Pipeline,
    plan::{History, Plan, Reason, StageState, declared_material, key_of},
    store::{Found, Holder, Lookup, Record, Slot, Store},
};

/// How often the stop flag is looked at while stages run.
const LOOK: Duration = Duration::from_millis(50);

/// How often a run looks whether another is done with a stage.
const WAIT: Duration = Duration::from_millis(100);

/// Where a stage stands.
enum Phase {
    /// Its inputs are not all there.
    Waiting,
    /// It starts as soon as there is room, and nobody else is at work on it.
    Ready {
        task: Box<Task>,
        busy: Option<Busy>,
    },
    Running(Grant),
    Done {
        record: Arc<Record>,
        ran: bool,
    },
    Failed,
    Cancelled,
}

/// Another run is at work on a stage.
struct Busy {
    holder: Holder,
    /// When to look again.
    again: Instant,
}

struct Executor<'a> {
    shared: &'a Shared<'a>,
    plan: &'a Plan,
    /// By position in the plan.
    phases: Vec<Phase>,
    /// The position of each stage that takes part, by index in the pipeline.
    positions: BTreeMap<usize, usize>,
    history: History,
    /// Stages that run again because their stored files turned out to be damaged, and how.
    repairs: BTreeMap<usize, Vec<Reason>>,
    budget: Budget,
    running: usize,
    /// No stage starts any more.
    halted: bool,
    error: Option<RunError>,
    on_event: &'a mut dyn FnMut(&Event),
}

/// Runs what a plan says.
pub(super) fn execute(
    pipeline: &Pipeline,
    store: &Store,
    options: &RunOptions,
    auto: DeviceName,
    plan: &Plan,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, RunError> {
    let clock = Instant::now();
    let (kill, intact) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let share = Share::new(options.sharing.as_ref());
    let may_run = plan.stages.iter().filter(|stage| may_run(stage)).map(|stage| &pipeline.stages[stage.index]);
    let demands: Vec<Demand> = may_run.map(|declared| Demand::of(declared, options.device, auto)).collect();
    let mps = Service::for_stages(demands.iter(), options, on_event);
    let shared = Shared { pipeline, store, options, auto, kill, mps, share, intact };
    let mut executor = Executor {
        shared: &shared,
        plan,
        phases: plan.stages.iter().map(|_| Phase::Waiting).collect(),
        positions: plan.stages.iter().enumerate().map(|(position, stage)| (stage.index, position)).collect(),
        history: History::new(store, &pipeline.name),
        repairs: BTreeMap::new(),
        budget: Budget::new(options.capacity),
        running: 0,
        halted: false,
        error: None,
        on_event,
    };
    executor.take_cached();
    executor.work();
    if let Some(error) = executor.error {
        return Err(error);
    }
    let complete = executor.phases.iter().all(|phase| matches!(phase, Phase::Done { .. } | Phase::Failed));
    match options.stop.load(Ordering::Relaxed) {
        signal if signal != 0 && !complete => Err(RunError::Stopped(signal)),
        _ => Ok(executor.finish(clock)),
    }
}

/// Stops all stages if the executor panics, for the scope of their threads waits until they have ended.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl<'a> Executor<'a> {
    fn take_cached(&mut self) {
        for (position, stage) in self.plan.stages.iter().enumerate() {
            match (&stage.state, &self.phases[position]) {
                // One whose input contradicts the lock is cancelled.
                (StageState::Cached { record, .. }, Phase::Waiting) => self.cached(position, record.clone(), None),
                (StageState::Elsewhere { record, .. }, Phase::Waiting) => {
                    self.phases[position] = Phase::Done { record: record.clone(), ran: false };
                }
                _ => {}
            }
        }
    }

    fn cached(&mut self, position: usize, record: Arc<Record>, from: Option<Origin>) {
        if self.contradicts_lock(position, &record) {
            return;
        }
        let stage = self.plan.stages[position].name.clone();
        (self.on_event)(&Event::StageCached { stage, key: record.key, from });
        self.phases[position] = Phase::Done { record, ran: false };
    }

    /// Whether a result is not what the lock says, which fails its stage.
    fn contradicts_lock(&mut self, position: usize, record: &Record) -> bool {
        let declared = &self.shared.pipeline.stages[self.plan.stages[position].index];
        let lock = self.shared.options.lock.as_ref();
        let Some(message) = lock.and_then(|lock| lock.contradicts(declared, record)) else { return false };
        (self.on_event)(&Event::StageFailed { stage: declared.name.clone(), message, log: None });
        self.fail(position);
        true
    }

    fn work(&mut self) {
        let (sender, reports) = channel();
        thread::scope(|scope| {
            let _guard = StopOnPanic(&self.shared.kill);
            self.start_ready(scope, &sender);
            while self.running > 0 || self.waits_for_others() {
                match reports.recv_timeout(LOOK) {
                    Ok(Report::Event(event)) => (self.on_event)(&event),
                    Ok(Report::Given(given)) => {
                        self.shared.share.given(given, &mut |event| (self.on_event)(&event));
                    }
                    Ok(Report::Ended(position, ending)) => {
                        if let Ok(Ending::Ran(record)) = &ending {
                            let stage = &self.plan.stages[position].name;
                            self.shared.share.give(self.shared.store, record, stage, &sender);
                        }
                        self.end(position, ending);
                        self.start_ready(scope, &sender);
                    }
                    Err(_) if self.waits_for_others() => self.start_ready(scope, &sender),
                    Err(_) => {}
                }
                self.heed_stop();
            }
        });
        let stop = &self.shared.options.stop;
        self.shared.share.finish(&reports, stop, &mut |event| (self.on_event)(&event));
    }

    fn heed_stop(&mut self) {
        if self.shared.options.stop.load(Ordering::Relaxed) != 0 {
            self.halted = true;
            self.shared.kill.store(true, Ordering::Relaxed);
        }
    }

    /// Whether other runs are at work on stages that this one needs.
    fn waits_for_others(&self) -> bool {
        !self.halted && self.phases.iter().any(|phase| matches!(phase, Phase::Ready { busy: Some(_), .. }))
    }

    /// Starts what can start; stages that turn out to be cached may let others start.
    fn start_ready<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, reports: &Sender<Report>)
    where
        'a: 'scope,
    {
        loop {
            self.heed_stop();
            self.find_ready();
            let ready: Vec<usize> = (0..self.phases.len()).filter(|&position| self.may_start(position)).collect();
            let mut found = false;
            for (place, &position) in ready.iter().enumerate() {
                if self.halted {
                    return;
                }
                let Shared { pipeline, options, auto, .. } = self.shared;
                let declared = &pipeline.stages[self.plan.stages[position].index];
                let demand = Demand::of(declared, options.device, *auto);
                let Some(grant) = self.budget.take(&demand, ready.len() - place) else { continue };
                let slot = self.claim(position);
                let phase = std::mem::replace(&mut self.phases[position], Phase::Running(grant));
                match (slot, phase) {
                    (Some(slot), Phase::Ready { task, .. }) => {
                        self.running += 1;
                        let (shared, reports) = (self.shared, reports.clone());
                        scope.spawn(move || task.perform(slot, grant, shared, &reports));
                    }
                    (_, phase) => {
                        self.budget.give_back(grant);
                        found |= matches!(phase, Phase::Done { .. });
                        self.phases[position] = phase;
                    }
                }
            }
            if !found {
                return;
            }
        }
    }

    /// Finds the stages whose inputs have come. In the order of the plan each stage comes after its inputs: one pass sees all that a
    /// cached one makes ready.
    fn find_ready(&mut self) {
        for position in 0..self.phases.len() {
            if self.halted {
                return;
            }
            if !matches!(self.phases[position], Phase::Waiting) {
                continue;
            }
            let Some(inputs) = self.inputs(position) else { continue };
            match self.task(position, inputs) {
                Ok(Some(task)) => self.phases[position] = Phase::Ready { task: Box::new(task), busy: None },
                Ok(None) => {}
                Err(error) => self.abort(error),
            }
        }
    }

    fn may_start(&self, position: usize) -> bool {
        match &self.phases[position] {
            Phase::Ready { busy, .. } => busy.as_ref().is_none_or(|busy| busy.again <= Instant::now()),
            _ => false,
        }
    }

    /// Takes the right to write the result of a stage that is ready; `None` if it has a result by now, another run is at work on it, or
    /// the store fails.
    fn claim(&mut self, position: usize) -> Option<Slot> {
        let Phase::Ready { task, busy } = &mut self.phases[position] else { return None };
        let (store, key) = (self.shared.store, task.key);
        match if task.forced { store.claim(key) } else { store.lookup(key) } {
            Ok(Lookup::Miss(slot)) => return Some(slot),
            Ok(Lookup::Hit(record)) => self.cached(position, record, None),
            Ok(Lookup::Busy(holder)) => {
                let known = busy.as_ref().is_some_and(|busy| busy.holder == holder);
                let event =
                    Event::StageWaiting { stage: self.plan.stages[position].name.clone(), holder: holder.to_string() };
                *busy = Some(Busy { holder, again: Instant::now() + WAIT });
                if !known {
                    (self.on_event)(&event);
                }
            }
            Err(error) => {
                self.phases[position] = Phase::Failed;
                self.abort(error.into());
            }
        }
        None
    }

    /// The inputs of a stage: role, position and record; `None` if one is not there yet.
    fn inputs(&self, position: usize) -> Option<Vec<(&'static str, usize, Arc<Record>)>> {
        let inputs = self.plan.stages[position].inputs.iter();
        inputs
            .map(|(role, index)| {
                let producer = *self.positions.get(index)?;
                match &self.phases[producer] {
                    Phase::Done { record, .. } => Some((*role, producer, Arc::clone(record))),
                    _ => None,
                }
            })
            .collect()
    }

    /// The task of a stage, now that its inputs and so its key are known; `None` if it is cached.
    fn task(
        &mut self,
        position: usize,
        inputs: Vec<(&'static str, usize, Arc<Record>)>,
    ) -> Result<Option<Task>, RunError> {
        let Shared { pipeline, store, .. } = self.shared;
        let planned = &self.plan.stages[position];
        let declared = &pipeline.stages[planned.index];
        let mut digests: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for (role, _, record) in &inputs {
            digests.entry((*role).to_owned()).or_default().push(record.artifact());
        }
        let material = declared_material(pipeline, store, declared, digests)?;
        let key = key_of(declared, &material)?;
        let forced = planned.forced;
        if !forced && let Found::Complete(record) = store.find(key)? {
            self.cached(position, record, None);
            return Ok(None);
        }
        let why = match (self.repairs.get(&position), &planned.state) {
            (Some(repair), _) => repair.clone(),
            (None, StageState::Run { key: planned, why }) if *planned == key => why.clone(),
            _ => {
                let forced = forced.then_some(Reason::Forced);
                self.history.why(declared, key, &material).into_iter().chain(forced).collect()
            }
        };
        Ok(Some(Task { position, index: planned.index, key, material, why, forced, inputs }))
    }

    fn end(&mut self, position: usize, ending: Result<Ending, RunError>) {
        self.running -= 1;
        if let Phase::Running(grant) = self.phases[position] {
            self.budget.give_back(grant);
        }
        match ending {
            Ok(Ending::Ran(record)) if self.contradicts_lock(position, &record) => {}
            Ok(Ending::Ran(record)) => self.phases[position] = Phase::Done { record, ran: true },
            Ok(Ending::Pulled(record)) => {
                self.cached(position, record, Some(Origin::Remote));
            }
            Ok(Ending::Damaged(producers)) => self.repair(position, producers),
            Ok(Ending::Failed { message, log }) => {
                let stage = self.plan.stages[position].name.clone();
                (self.on_event)(&Event::StageFailed { stage, message, log });
                self.fail(position);
            }
            Ok(Ending::Stopped) => self.phases[position] = Phase::Cancelled,
            Err(error) => {
                self.phases[position] = Phase::Failed;
                self.abort(error);
            }
        }
    }

    fn fail(&mut self, position: usize) {
        self.phases[position] = Phase::Failed;
        self.halted |= !self.shared.options.keep_going;
        let mut open = vec![position];
        while let Some(position) = open.pop() {
            for next in self.plan.graph().neighbors_directed(NodeIndex::new(position), Outgoing) {
                if matches!(self.phases[next.index()], Phase::Waiting | Phase::Ready { .. }) {
                    self.phases[next.index()] = Phase::Cancelled;
                    open.push(next.index());
                }
            }
        }
    }

    /// Has stages run again whose files were damaged; once each, for if they are damaged again then the disk is at fault.
    fn repair(&mut self, position: usize, producers: BTreeMap<usize, Vec<Reason>>) {
        self.phases[position] = Phase::Waiting;
        for (producer, damage) in producers {
            let fatal = if self.repairs.insert(producer, damage).is_some() {
                Some("its stored files were damaged twice in this run: check the disk of the cache")
            } else if self.shared.options.only_targets {
                Some(
                    "its stored files were damaged and have been set aside: it must run again, which this run may not do",
                )
            } else {
                None
            };
            if let Some(message) = fatal {
                let message = message.to_owned();
                let stage = self.plan.stages[producer].name.clone();
                (self.on_event)(&Event::StageFailed { stage, message, log: None });
                self.fail(producer);
            } else {
                self.phases[producer] = Phase::Waiting;
            }
        }
    }

    /// The run cannot go on; what runs may finish.
    fn abort(&mut self, error: RunError) {
        self.halted = true;
        self.error.get_or_insert(error);
    }

    fn finish(self, clock: Instant) -> Summary {
        let mut summary = Summary::default();
        for (stage, phase) in self.plan.stages.iter().zip(&self.phases) {
            if let Phase::Done { record, .. } = phase {
                summary.results.insert(stage.name.clone(), Arc::clone(record));
            }
            let list = match phase {
                Phase::Done { ran: true, .. } => &mut summary.ran,
                Phase::Done { ran: false, .. } => &mut summary.cached,
                Phase::Failed => &mut summary.failed,
                Phase::Waiting | Phase::Ready { .. } | Phase::Running(_) | Phase::Cancelled => &mut summary.cancelled,
            };
            list.push(stage.name.clone());
        }
        summary.seconds = clock.elapsed().as_secs_f64();
        let Summary { ran, cached, failed, cancelled, seconds, .. } = summary.clone();
        (self.on_event)(&Event::RunFinished { ran, cached, failed, cancelled, seconds });
        summary
    }
}
