//! Which jobs work on the stages of a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    SubmitError,
    standing::{Standing, Tracked, track},
    word::Courier,
};
use crate::{
    digest::Digest,
    pipeline::Pipeline,
    plan::{PlanError, recipes},
    remote::Settings,
    store::{Job, Store, Submission, Submitted},
};

/// A job for a stage.
#[derive(Clone, Debug)]
pub struct Found {
    /// The job.
    pub job: Job,
    /// The engine that has it.
    pub engine: String,
    /// Where it stands.
    pub standing: Standing,
    /// The pipeline says something else by now than what the job runs.
    pub outdated: bool,
    /// Where its result is, if jobs give theirs to a remote alone.
    pub remote: Option<String>,
}

/// The latest job for each of these stages, by name, with what went wrong with engines and remotes that could not be asked. A job of the same file for
/// a stage that is something else by now counts if it is in flight.
pub fn lookup(
    pipeline: &Pipeline,
    store: &Store,
    stages: &BTreeSet<&str>,
) -> Result<(BTreeMap<String, Found>, Vec<SubmitError>), PlanError> {
    let mut submitted = store.submissions()?;
    if submitted.is_empty() || stages.is_empty() {
        return Ok((BTreeMap::new(), Vec::new()));
    }
    let recipes = recipes(pipeline, store, &[])?;
    let mut by_recipe: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
    for stage in stages {
        recipes.get(*stage).into_iter().for_each(|recipe| by_recipe.entry(*recipe).or_default().push(stage));
    }
    let file = pipeline.absolute_path();
    let of_file = |submission: &Submission| submission.file == file && submission.set == pipeline.overrides();
    // Those that no stage looks at need not be asked for.
    submitted.retain(|Submitted { submission, jobs }| {
        jobs.iter().any(|job| {
            by_recipe.contains_key(&job.recipe) || (of_file(submission) && stages.contains(job.stage.as_str()))
        })
    });
    let silent = Courier::new(store).bring(submitted.iter().flat_map(|each| &each.jobs));
    let (tracked, errors) = track(store, submitted);
    let errors = silent.into_iter().map(SubmitError::from).chain(errors.into_iter().map(SubmitError::from)).collect();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for Tracked { submission, jobs } in tracked {
        let named = of_file(&submission);
        let remote = submission.remote.as_ref().filter(|_| submission.node_cache.is_some());
        let remote = remote.and_then(|text| Some(Settings::take_over(text).ok()?.address.to_string()));
        for (job, standing) in jobs {
            let engine = submission.engine.clone();
            let entry = |outdated| {
                let (job, engine, standing) = (job.clone(), engine.clone(), standing.clone());
                Found { job, engine, standing, outdated, remote: remote.clone() }
            };
            for stage in by_recipe.get(&job.recipe).into_iter().flatten() {
                found.insert((*stage).to_owned(), entry(false));
            }
            let other = recipes.get(&job.stage) != Some(&job.recipe) && stages.contains(job.stage.as_str());
            if named && other && standing.in_flight() && found.get(&job.stage).is_none_or(|known| known.outdated) {
                found.insert(job.stage.clone(), entry(true));
            }
        }
    }
    Ok((found, errors))
}
