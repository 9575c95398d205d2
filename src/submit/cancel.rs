//! Cancels the jobs of a pipeline's submissions.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{EngineName, SubmitError, track};
use crate::{
    stage::nearest,
    store::{Job, Store},
};

/// Cancels what is queued or running of the submissions of a file with these `--set`s (`k=v`): all of it, or the jobs of some stages and
/// those that come after them. Gives the jobs.
pub fn cancel(store: &Store, file: &Path, set: &[String], stages: &[String]) -> Result<Vec<Job>, SubmitError> {
    let mut submitted = store.submissions()?;
    submitted.retain(|each| each.submission.file == file && each.submission.set == set);
    let known: BTreeSet<&str> = submitted.iter().flat_map(|each| &each.jobs).map(|job| job.stage.as_str()).collect();
    if let Some(stage) = stages.iter().find(|stage| !known.contains(stage.as_str())) {
        let near = nearest(stage, &known.iter().copied().collect::<Vec<_>>()).map(str::to_owned);
        return Err(SubmitError::NeverSubmitted { stage: stage.clone(), near });
    }
    let (tracked, errors) = track(store, submitted);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let mut by_engine: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    for tracked in tracked {
        let mut meant: BTreeSet<String> = BTreeSet::new();
        for (job, standing) in tracked.jobs {
            let named =
                stages.is_empty() || stages.contains(&job.stage) || job.after.iter().any(|id| meant.contains(id));
            // Those of other submissions are cancelled with theirs.
            if named && standing.in_flight() && job.submission == tracked.submission.id {
                meant.insert(job.id.clone());
                by_engine.entry(tracked.submission.engine.clone()).or_default().push(job);
            }
        }
    }
    for (name, jobs) in &by_engine {
        let Ok(engine) = name.parse::<EngineName>() else { continue };
        // The last first, so that none starts in between.
        let ids: Vec<String> = jobs.iter().rev().map(|job| job.id.clone()).collect();
        engine.engine().cancel(&ids)?;
    }
    Ok(by_engine.into_values().flatten().collect())
}
