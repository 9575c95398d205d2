//! Word of jobs that left it on a remote, brought into the store of whoever submitted them, where that of other jobs is.

use std::{collections::BTreeMap, sync::atomic::AtomicUsize};

use crate::{
    remote::{Patience, Remote, RemoteError, Settings, Watch},
    store::{Job, JobEnd, JobOutcome, Store, Submission},
};

/// Fetches word of jobs.
pub(super) struct Courier<'a> {
    store: &'a Store,
    submissions: BTreeMap<String, Option<Submission>>,
    remotes: BTreeMap<String, Remote>,
}

impl<'a> Courier<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, submissions: BTreeMap::new(), remotes: BTreeMap::new() }
    }

    /// Brings how these jobs ended, with the end of their logs; gives what is wrong with remotes.
    pub(super) fn bring<'j>(&mut self, jobs: impl IntoIterator<Item = &'j Job>) -> Vec<RemoteError> {
        let mut by_remote: BTreeMap<String, Vec<&Job>> = BTreeMap::new();
        for job in jobs {
            let over = self.store.end_of(&job.submission, job.recipe);
            if over.is_some_and(|end| end.outcome == JobOutcome::Done) {
                continue;
            }
            let known = self.submissions.entry(job.submission.clone());
            let submission = known.or_insert_with(|| self.store.submission(&job.submission).ok().flatten());
            if let Some(Submission { remote: Some(remote), node_cache: Some(_), .. }) = submission {
                by_remote.entry(remote.clone()).or_default().push(job);
            }
        }
        by_remote.into_iter().filter_map(|(remote, jobs)| self.bring_from(remote, &jobs).err()).collect()
    }

    fn bring_from(&mut self, settings: String, jobs: &[&Job]) -> Result<(), RemoteError> {
        let known = Settings::take_over(&settings)?;
        let patience = Patience::of_run(known.timeout);
        let remote = self.remotes.entry(settings).or_insert_with(|| Remote::new(known, patience)).clone();
        let stop = AtomicUsize::new(0);
        let mut watch = Watch { stop: &stop, on_progress: &mut |_| {} };
        let note = |job: &Job, folder: &str, name: String| {
            vec!["submissions".to_owned(), job.submission.clone(), folder.to_owned(), name]
        };
        let ends: Vec<_> = jobs.iter().map(|job| note(job, "ends", format!("{}.json", job.recipe))).collect();
        let mut told = Vec::new();
        for (job, text) in jobs.iter().zip(remote.notes(&ends, &mut watch)?) {
            match text.and_then(|text| serde_json::from_slice::<JobEnd>(&text).ok()) {
                Some(end) => told.push((*job, JobEnd { message: printable(&end.message), ..end })),
                // It has begun anew, or has not ended.
                None => self.store.clear_end(&job.submission, job.recipe),
            }
        }
        told.retain(|(job, end)| self.store.end_of(&job.submission, job.recipe).as_ref() != Some(end));
        let name = |job: &Job| job.log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let logs: Vec<_> = told.iter().map(|(job, _)| note(job, "logs", name(job))).collect();
        for ((job, end), log) in told.into_iter().zip(remote.notes(&logs, &mut watch)?) {
            if let Some(log) = log {
                self.store.put_text(&job.log, printable(&String::from_utf8_lossy(&log)).as_bytes())?;
            }
            self.store.put_end(&job.submission, job.recipe, &end)?;
        }
        Ok(())
    }
}

/// A text without anything that a terminal would act on.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
