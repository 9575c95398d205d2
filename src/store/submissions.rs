//! Submissions: what was handed to a cluster's engine, kept so that it runs as it was submitted.
//!
//! A submission is a folder, `submissions/ID`: `submission.json` (sealed) holds the pipeline's texts and how its stages run,
//! `jobs.jsonl` grows by a line for each job that the engine has taken, `ends/` tells how jobs ended, `logs/` is theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Holder, Output, Store, StoreError,
    collect::newest_in,
    files,
    holder::{self, Hold, Waiting},
    inventory, sealed,
};
use crate::{credentials::read_arguments, device::DeviceName, digest::Digest, key::CacheKey};

/// The version of the files that this program writes and reads.
const VERSION: u32 = 1;

/// A pipeline as it was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Its name, which is that of its folder.
    pub id: String,
    /// The engine that has its jobs.
    pub engine: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file, absolute.
    pub file: PathBuf,
    /// The `--set`s, as `k=v`.
    pub set: Vec<String>,
    /// The texts that the pipeline was read from, by absolute path.
    pub texts: BTreeMap<PathBuf, String>,
    /// Where tensors live, unless a stage says otherwise.
    pub device: DeviceName,
    /// The program that runs the stages.
    pub worker: PathBuf,
    /// Seconds between two checkpoints.
    pub checkpoint_seconds: f64,
    /// The command line, without what was secret in its addresses.
    #[serde(deserialize_with = "read_arguments")]
    pub argv: Vec<String>,
    /// When it was submitted, RFC 3339.
    pub time: String,
    /// The recipes of the stages that are to run, by name.
    pub recipes: BTreeMap<String, Digest>,
    /// The stored results that its jobs need.
    pub needs: BTreeSet<CacheKey>,
    /// The remote that its jobs share results by, as its settings are handed over; `None` if there is none.
    #[serde(default)]
    pub remote: Option<String>,
    /// The cache of each machine, in the words of its shell, if they share nothing but the remote.
    #[serde(default)]
    pub node_cache: Option<String>,
    /// What the source files were, by absolute path, for machines that do not have them.
    #[serde(default)]
    pub sources: BTreeMap<PathBuf, Output>,
}

/// A job that the engine has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The stage that it runs.
    pub stage: String,
    /// The stage's recipe: what it is made of, and what that is made of.
    pub recipe: Digest,
    /// The engine's name for it.
    pub id: String,
    /// The jobs that it comes after.
    pub after: Vec<String>,
    /// The submission that it belongs to: an earlier one, if it was in flight already.
    pub submission: String,
    /// Its log.
    pub log: PathBuf,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// How.
    pub outcome: JobOutcome,
    /// What it said last.
    pub message: String,
    /// The key of its result.
    pub key: Option<CacheKey>,
    /// When, RFC 3339.
    pub time: String,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// The stage's result is in the store.
    Done,
    /// It is not, and will not be without help.
    Failed,
    /// A signal stopped it.
    Stopped,
}

/// A submission with its jobs, each after those that it comes after.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The submission.
    pub submission: Submission,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

impl Store {
    /// Keeps others from submitting to this store, for as long as the file is open. `None` on a file system without locks, or if this
    /// process is not to wait on.
    pub fn lock_submissions(&self, waiting: &mut Waiting<'_>) -> Result<Option<File>, StoreError> {
        let folder = self.submissions_folder();
        self.ensure_folder(&folder)?;
        let path = folder.join("lock");
        let mut file = files::open_lock(&path).map_err(StoreError::io("lock", &path))?;
        let held = holder::wait(&mut file, Hold::Alone, &Holder::named_in, waiting);
        Ok(matches!(held, Ok(true)).then_some(file))
    }

    /// A name for a submission that no other has, with its folder.
    pub fn new_submission(&self, time: jiff::Timestamp) -> Result<String, StoreError> {
        let folder = self.submissions_folder();
        self.ensure_folder(&folder)?;
        let stem = time.strftime("%Y%m%d-%H%M%S").to_string();
        for nth in 1.. {
            let id = if nth == 1 { stem.clone() } else { format!("{stem}-{nth}") };
            let path = folder.join(&id);
            match fs::create_dir(&path) {
                Ok(()) => {
                    self.ensure_folder(&path.join("ends"))?;
                    self.ensure_folder(&path.join("logs"))?;
                    return Ok(id);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io("create", &path)(error)),
            }
        }
        Ok(stem)
    }

    /// Writes a submission into its folder.
    pub fn put_submission(&self, submission: &Submission) -> Result<(), StoreError> {
        let path = self.submission_file(&submission.id);
        let text = sealed::seal(VERSION, submission)
            .map_err(|error| StoreError::NotStorable { path: path.clone(), reason: error.to_string() })?;
        self.put_text(&path, &text)
    }

    /// Takes in a submission of this name from elsewhere; `None` if the text is torn, altered, of another version or another submission.
    pub(crate) fn adopt_submission(&self, id: &str, text: &[u8]) -> Result<Option<Submission>, StoreError> {
        let submission = sealed::open(VERSION, text).filter(|submission: &Submission| submission.id == id);
        if submission.is_some() {
            self.ensure_folder(&self.submission_folder(id).join("ends"))?;
            self.ensure_folder(&self.submission_folder(id).join("logs"))?;
            self.put_text(&self.submission_file(id), text)?;
        }
        Ok(submission)
    }

    /// Takes away a submission of which nothing came.
    pub fn drop_submission(&self, id: &str) {
        let _ = fs::remove_dir_all(self.submission_folder(id));
    }

    /// Notes a job that the engine has taken.
    pub fn add_job(&self, submission: &str, job: &Job) -> Result<(), StoreError> {
        let path = self.jobs_file(submission);
        let mut line = serde_json::to_vec(job)
            .map_err(|error| StoreError::NotStorable { path: path.clone(), reason: error.to_string() })?;
        line.push(b'\n');
        let written = files::open_with(&path, OpenOptions::new().create(true).append(true))
            .and_then(|mut file| file.write_all(&line).and_then(|()| files::sync(&file)));
        written.map_err(StoreError::io("write", &path))
    }

    /// A submission by its name; `None` if there is none, or one that is torn, altered or of another version.
    pub fn submission(&self, id: &str) -> Result<Option<Submission>, StoreError> {
        let path = self.submission_file(id);
        let text = files::read_small(&path).map_err(StoreError::io("read", &path))?;
        Ok(text.and_then(|text| sealed::open(VERSION, &text)))
    }

    /// All submissions that can be read, the oldest first.
    pub fn submissions(&self) -> Result<Vec<Submitted>, StoreError> {
        let mut found = Vec::new();
        for folder in inventory::children(&self.submissions_folder())? {
            let Some(id) = folder.file_name().and_then(|name| name.to_str()).filter(|_| folder.is_dir()) else {
                continue;
            };
            if let Some(submission) = self.submission(id)? {
                found.push(Submitted { submission, jobs: jobs_in(&folder.join("jobs.jsonl")) });
            }
        }
        found.sort_by(|a, b| (&a.submission.time, &a.submission.id).cmp(&(&b.submission.time, &b.submission.id)));
        Ok(found)
    }

    /// Where the log of the `nth` job of a submission belongs.
    pub fn job_log(&self, submission: &str, nth: usize, stage: &str) -> PathBuf {
        self.submission_folder(submission).join("logs").join(format!("{nth:03}-{}.log", file_name(stage)))
    }

    /// Notes how a job ended.
    pub fn put_end(&self, submission: &str, recipe: Digest, end: &JobEnd) -> Result<(), StoreError> {
        let path = self.end_file(submission, recipe);
        let text = serde_json::to_vec(end).unwrap_or_default();
        self.put_text(&path, &text)
    }

    /// Forgets how a job ended: it begins again.
    pub fn clear_end(&self, submission: &str, recipe: Digest) {
        let _ = fs::remove_file(self.end_file(submission, recipe));
    }

    /// How a job ended, if it has said so.
    pub fn end_of(&self, submission: &str, recipe: Digest) -> Option<JobEnd> {
        serde_json::from_slice(&files::read_small(&self.end_file(submission, recipe)).ok()??).ok()
    }

    /// What the jobs of submissions need that may still be under way, those that left a sign within this time: results, and objects that
    /// are sources.
    pub(super) fn needed_by_jobs(
        &self,
        within: Duration,
    ) -> Result<(BTreeSet<CacheKey>, BTreeSet<Digest>), StoreError> {
        let (mut needed, mut sources) = (BTreeSet::new(), BTreeSet::new());
        for Submitted { submission, jobs } in self.submissions()? {
            if newest_in(&self.submission_folder(&submission.id)) >= within {
                continue;
            }
            let ends: Vec<Option<JobEnd>> = jobs.iter().map(|job| self.end_of(&job.submission, job.recipe)).collect();
            let over = |end: &Option<JobEnd>| end.as_ref().is_some_and(|end| end.outcome != JobOutcome::Stopped);
            if !ends.iter().all(over) {
                needed.extend(submission.needs);
                needed.extend(ends.into_iter().flatten().filter_map(|end| end.key));
                sources.extend(submission.sources.into_values().map(|source| source.digest));
            }
        }
        Ok((needed, sources))
    }

    /// The folders of all submissions.
    pub(super) fn submission_folders(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut folders = inventory::children(&self.submissions_folder())?;
        folders.retain(|path| path.is_dir());
        Ok(folders)
    }

    pub(crate) fn submission_file(&self, id: &str) -> PathBuf {
        self.submission_folder(id).join("submission.json")
    }

    pub(crate) fn jobs_file(&self, id: &str) -> PathBuf {
        self.submission_folder(id).join("jobs.jsonl")
    }

    /// Where a job finds a source file that its machine does not have, under the name that it had.
    pub(crate) fn source_file(&self, submission: &str, digest: Digest, name: &Path) -> PathBuf {
        self.submission_folder(submission).join("sources").join(digest.to_string()).join(name)
    }

    fn submissions_folder(&self) -> PathBuf {
        self.root.join("submissions")
    }

    fn submission_folder(&self, id: &str) -> PathBuf {
        self.submissions_folder().join(id)
    }

    pub(crate) fn end_file(&self, submission: &str, recipe: Digest) -> PathBuf {
        self.submission_folder(submission).join("ends").join(format!("{recipe}.json"))
    }
}

/// The jobs in a list; a torn line is none.
fn jobs_in(path: &Path) -> Vec<Job> {
    let text = files::read_small(path).ok().flatten().unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// A stage's name as a part of a file's.
fn file_name(stage: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-_.@=,+".contains(c) { c } else { '-' };
    stage.chars().map(keep).take(120).collect()
}

#[cfg(test)]
mod tests;
