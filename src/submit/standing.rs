//! Where jobs stand, from what the engine says, what the jobs left behind, and what became of those before them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::engine::{EngineError, EngineName, JobState};
use crate::store::{Job, JobEnd, JobOutcome, Store, Submission, Submitted};

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Queued {
        /// For what, in the engine's words.
        reason: String,
    },
    /// It runs.
    Running {
        /// Where.
        node: String,
    },
    /// Its result is in the store.
    Done,
    /// It failed.
    Failed {
        /// Why.
        why: String,
    },
    /// It was cancelled.
    Cancelled {
        /// Why, if it is known.
        why: String,
    },
    /// The engine cannot be asked.
    Unknown,
}

impl Standing {
    /// Whether it has not ended, as far as is known.
    pub fn in_flight(&self) -> bool {
        matches!(self, Self::Queued { .. } | Self::Running { .. } | Self::Unknown)
    }

    /// Its name in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Running { .. } => "running",
            Self::Done => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// What there is to add: why, or where.
    pub fn detail(&self) -> &str {
        match self {
            Self::Queued { reason: text } | Self::Running { node: text } => text,
            Self::Failed { why } | Self::Cancelled { why } => why,
            Self::Done | Self::Unknown => "",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match (self, self.detail()) {
            (_, "" | "None") => Ok(()),
            (Self::Running { .. }, node) => write!(f, " on {node}"),
            (Self::Queued { .. }, reason) => write!(f, " ({reason})"),
            (_, why) => write!(f, ": {why}"),
        }
    }
}

/// A submission with where its jobs stand.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The submission.
    pub submission: Submission,
    /// Its jobs, each after those that it comes after.
    pub jobs: Vec<(Job, Standing)>,
}

/// Finds out where the jobs of submissions stand, with what went wrong with engines that could not be asked.
pub fn track(store: &Store, submitted: Vec<Submitted>) -> (Vec<Tracked>, Vec<EngineError>) {
    let (mut states, mut errors) = (BTreeMap::new(), Vec::new());
    let engines: BTreeSet<&str> = submitted.iter().map(|each| each.submission.engine.as_str()).collect();
    for name in engines {
        let jobs = submitted.iter().filter(|each| each.submission.engine == name).flat_map(|each| &each.jobs);
        // What has ended for good needs no asking.
        let open: BTreeSet<&String> = jobs.filter(|job| settled(store, job).is_none()).map(|job| &job.id).collect();
        let Ok(engine) = name.parse::<EngineName>() else { continue };
        let open: Vec<String> = open.into_iter().cloned().collect();
        let asked = if open.is_empty() { Ok(BTreeMap::new()) } else { engine.engine().states(&open) };
        match asked {
            Ok(known) => drop(states.insert(name.to_owned(), known)),
            Err(error) => errors.push(error),
        }
    }
    let tracked = submitted.into_iter().map(|Submitted { submission, jobs }| {
        let known = states.get(&submission.engine);
        Tracked { jobs: standings(store, jobs, known), submission }
    });
    (tracked.collect(), errors)
}

/// How a job has ended for good, as it said itself. One that was stopped may have been put back into the queue.
fn settled(store: &Store, job: &Job) -> Option<JobEnd> {
    store.end_of(&job.submission, job.recipe).filter(|end| end.outcome != JobOutcome::Stopped)
}

/// Where jobs stand, given what the engine knows; `None` if it could not be asked.
pub(super) fn standings(
    store: &Store,
    jobs: Vec<Job>,
    known: Option<&BTreeMap<String, JobState>>,
) -> Vec<(Job, Standing)> {
    let mut found: Vec<(Job, Standing)> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let end = store.end_of(&job.submission, job.recipe);
        let lost = found.iter().find(|(before, standing)| {
            job.after.contains(&before.id) && matches!(standing, Standing::Failed { .. } | Standing::Cancelled { .. })
        });
        let in_vain = lost.map(|(before, standing)| match standing {
            Standing::Failed { .. } => format!("`{}` failed", before.stage),
            _ => format!("`{}` was cancelled", before.stage),
        });
        let state = known.and_then(|known| known.get(&job.id));
        let standing = standing(end, known.is_some(), state, in_vain);
        found.push((job, standing));
    }
    found
}

/// Where a job stands, given what it said and what the engine knows of it, if that could be asked.
fn standing(end: Option<JobEnd>, asked: bool, state: Option<&JobState>, in_vain: Option<String>) -> Standing {
    match (end, state) {
        (Some(JobEnd { outcome: JobOutcome::Done, .. }), _) | (_, Some(JobState::Completed)) => Standing::Done,
        (Some(JobEnd { outcome: JobOutcome::Failed, message, .. }), _) => Standing::Failed { why: message },
        (_, Some(JobState::Pending { reason })) => Standing::Queued { reason: reason.clone() },
        (_, Some(JobState::Running { node })) => Standing::Running { node: node.clone() },
        (_, Some(JobState::Failed { reason })) => Standing::Failed { why: reason.clone() },
        (_, Some(JobState::Cancelled)) => Standing::Cancelled { why: in_vain.unwrap_or_default() },
        (_, None) if !asked => Standing::Unknown,
        // The engine has forgotten it.
        (Some(JobEnd { message, .. }), None) => Standing::Cancelled { why: message },
        (None, None) => match in_vain {
            Some(why) => Standing::Cancelled { why },
            None => Standing::Failed { why: "the engine no longer knows it, and it left no word".to_owned() },
        },
    }
}

#[cfg(test)]
mod tests;
