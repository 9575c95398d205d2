//! Follows the jobs of a submission to their end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    EngineName, Event, JobState,
    standing::{Standing, standings},
    word::Courier,
};
use crate::store::{Job, Store};

/// How often the engine is asked, at first and at last: many who ask often make it slow for all.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(15);

/// How often the stop flag is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// A job that the engine does not know must have left a word, but over a network file system that may take a while to be seen.
const FORGOTTEN: u32 = 4;

/// How jobs ended, by names of stages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Those whose results are stored.
    pub done: Vec<String>,
    /// Those that failed.
    pub failed: Vec<String>,
    /// Those that were cancelled, by somebody or for one that failed.
    pub cancelled: Vec<String>,
}

/// Waits until all jobs have ended, and tells whatever changes. `Err` is the signal that stopped the wait; the jobs go on.
pub fn follow(
    store: &Store,
    engine: EngineName,
    jobs: &[Job],
    stop: &AtomicUsize,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Ended, usize> {
    let mut told: BTreeMap<String, Standing> = BTreeMap::new();
    let mut forgotten: BTreeMap<String, u32> = BTreeMap::new();
    let (mut pause, mut courier) = (FIRST, Courier::new(store));
    loop {
        wait(pause, stop)?;
        pause = (pause * 5 / 4).min(LAST);
        let ended = |job: &&Job| told.get(&job.stage).is_some_and(|standing| !standing.in_flight());
        // A job may stand for several stages.
        let open: BTreeSet<&String> = jobs.iter().filter(|job| !ended(job)).map(|job| &job.id).collect();
        let mut known = match engine.engine().states(&open.into_iter().cloned().collect::<Vec<_>>()) {
            Ok(known) => known,
            Err(error) => {
                on_event(&Event::Unanswered(error.to_string()));
                continue;
            }
        };
        for error in courier.bring(jobs.iter().filter(|job| !ended(job))) {
            on_event(&Event::Unanswered(error.to_string()));
        }
        known.extend(
            jobs.iter().filter(ended).filter_map(|job| Some((job.id.clone(), final_state(told.get(&job.stage)?)))),
        );
        for (job, standing) in standings(store, jobs.to_vec(), Some(&known)) {
            let before = told.get(&job.stage);
            if before.is_some_and(|before| !before.in_flight() || *before == standing) {
                continue;
            }
            if !standing.in_flight() && standing != Standing::Done && !known.contains_key(&job.id) {
                let times = forgotten.entry(job.stage.clone()).or_default();
                *times += 1;
                if *times < FORGOTTEN {
                    continue;
                }
            }
            told.insert(job.stage.clone(), standing.clone());
            on_event(&Event::Stands(job, standing));
        }
        if jobs.iter().all(|job| told.get(&job.stage).is_some_and(|standing| !standing.in_flight())) {
            return Ok(sum_up(jobs, &told));
        }
    }
}

/// What the engine would say of a job that has ended.
fn final_state(standing: &Standing) -> JobState {
    match standing {
        Standing::Failed { why } => JobState::Failed { reason: why.clone() },
        Standing::Cancelled { .. } => JobState::Cancelled,
        _ => JobState::Completed,
    }
}

fn wait(pause: Duration, stop: &AtomicUsize) -> Result<(), usize> {
    let since = Instant::now();
    while since.elapsed() < pause {
        match stop.load(Ordering::Relaxed) {
            0 => thread::sleep(LOOK),
            signal => return Err(signal),
        }
    }
    Ok(())
}

fn sum_up(jobs: &[Job], told: &BTreeMap<String, Standing>) -> Ended {
    let mut ended = Ended::default();
    for job in jobs {
        let list = match told.get(&job.stage) {
            Some(Standing::Done) => &mut ended.done,
            Some(Standing::Cancelled { .. }) => &mut ended.cancelled,
            _ => &mut ended.failed,
        };
        list.push(job.stage.clone());
    }
    ended
}
