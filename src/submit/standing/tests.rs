use std::path::Path;

use super::*;
use crate::digest::Digest;

fn job(stage: &str, after: &[&str]) -> Job {
    Job {
        stage: stage.to_owned(),
        recipe: Digest::of(stage.as_bytes()),
        id: format!("id-{stage}"),
        after: after.iter().map(|stage| format!("id-{stage}")).collect(),
        submission: "s".to_owned(),
        log: "log".into(),
    }
}

fn end(outcome: JobOutcome, message: &str) -> JobEnd {
    JobEnd { outcome, message: message.to_owned(), key: None, time: String::new() }
}

/// Where the jobs a ← b ← c stand, as text.
fn chain(ends: &[(&str, JobEnd)], known: Option<&[(&str, JobState)]>) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(Path::new(folder.path()));
    let jobs = [job("a", &[]), job("b", &["a"]), job("c", &["b"])];
    for (stage, end) in ends {
        store.put_end("s", Digest::of(stage.as_bytes()), end).unwrap();
    }
    let known: Option<BTreeMap<String, JobState>> =
        known.map(|known| known.iter().map(|(stage, state)| (format!("id-{stage}"), state.clone())).collect());
    let found = standings(&store, jobs.to_vec(), known.as_ref());
    [0, 1, 2].map(|i| found[i].1.to_string())
}

fn pending(reason: &str) -> JobState {
    JobState::Pending { reason: reason.to_owned() }
}

#[test]
fn a_job_stands_where_the_engine_says_it_does() {
    let known =
        [("a", JobState::Running { node: "n1".to_owned() }), ("b", pending("Dependency")), ("c", pending("None"))];
    assert_eq!(chain(&[], Some(&known)), ["running on n1", "queued (Dependency)", "queued"]);
}

#[test]
fn what_a_job_said_last_counts_more_than_the_engines_word_for_it() {
    let failed = || JobState::Failed { reason: "NonZeroExitCode".to_owned() };
    let known = [("a", failed()), ("b", JobState::Cancelled), ("c", JobState::Cancelled)];
    let ends = [("a", end(JobOutcome::Failed, "diverged"))];
    assert_eq!(
        chain(&ends, Some(&known)),
        ["failed: diverged", "cancelled: `a` failed", "cancelled: `b` was cancelled"]
    );
    assert_eq!(chain(&[], Some(&known))[0], "failed: NonZeroExitCode");
}

#[test]
fn jobs_that_the_engine_has_forgotten_are_judged_by_what_they_left() {
    let ends = [("a", end(JobOutcome::Done, "")), ("b", end(JobOutcome::Failed, "diverged"))];
    assert_eq!(chain(&ends, Some(&[])), ["done", "failed: diverged", "cancelled: `b` failed"]);
    let stopped = [("a", end(JobOutcome::Stopped, "stopped by signal 15"))];
    assert_eq!(chain(&stopped, Some(&[]))[0], "cancelled: stopped by signal 15");
    assert!(chain(&[], Some(&[]))[0].contains("no longer knows it"));
}

#[test]
fn a_job_that_was_stopped_and_is_queued_again_is_queued() {
    let stopped = [("a", end(JobOutcome::Stopped, "stopped by signal 15"))];
    assert_eq!(chain(&stopped, Some(&[("a", pending("BeginTime"))]))[0], "queued (BeginTime)");
}

#[test]
fn where_the_engine_cannot_be_asked_only_what_jobs_said_is_known() {
    let ends = [("a", end(JobOutcome::Done, ""))];
    assert_eq!(chain(&ends, None), ["done", "unknown", "unknown"]);
}
