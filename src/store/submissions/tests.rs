//! Submissions come back as they were, and hold what their jobs need.

use super::*;

fn submission(id: String) -> Submission {
    Submission {
        id,
        engine: "slurm".to_owned(),
        pipeline: "p".to_owned(),
        file: "/a/p.yaml".into(),
        set: vec!["steps=5".to_owned()],
        texts: BTreeMap::from([("/a/p.yaml".into(), "stages: {}\n".to_owned())]),
        device: DeviceName::Cpu,
        worker: "/bin/pgan-pipe".into(),
        checkpoint_seconds: 10.0,
        argv: Vec::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
        recipes: BTreeMap::new(),
        needs: BTreeSet::from([key(1)]),
        remote: None,
        node_cache: None,
        sources: BTreeMap::from([("/a/b.csv".into(), Output { digest: Digest::of(b"b"), size: 1 })]),
    }
}

fn key(n: u8) -> CacheKey {
    Digest::of(&[n]).to_string().parse().unwrap()
}

fn job(submission: &str, stage: &str, id: &str) -> Job {
    Job {
        stage: stage.to_owned(),
        recipe: Digest::of(stage.as_bytes()),
        id: id.to_owned(),
        after: Vec::new(),
        submission: submission.to_owned(),
        log: "/log".into(),
    }
}

fn setup() -> (tempfile::TempDir, Store, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let id = store.new_submission(jiff::Timestamp::UNIX_EPOCH).unwrap();
    store.put_submission(&submission(id.clone())).unwrap();
    (folder, store, id)
}

#[test]
fn a_submission_comes_back_with_its_jobs_and_a_torn_line_is_none() {
    let (_folder, store, id) = setup();
    assert_eq!(store.new_submission(jiff::Timestamp::UNIX_EPOCH).unwrap(), format!("{id}-2"), "names are taken once");
    let jobs = [job(&id, "base@lr=0.1,width=64", "7"), job(&id, "frozen", "8")];
    for job in &jobs {
        store.add_job(&id, job).unwrap();
    }
    let list = store.submission_folder(&id).join("jobs.jsonl");
    let mut text = fs::read(&list).unwrap();
    text.extend(b"{\"stage\":\"torn");
    fs::write(&list, text).unwrap();
    let found = store.submissions().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].submission, &found[0].jobs[..]), (&submission(id), &jobs[..]));
}

#[test]
fn an_altered_submission_is_none() {
    let (_folder, store, id) = setup();
    let path = store.submission_folder(&id).join("submission.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("steps=5", "steps=6")).unwrap();
    assert_eq!(store.submission(&id).unwrap(), None);
    assert!(store.submissions().unwrap().is_empty());
}

#[test]
fn what_jobs_under_way_need_is_needed() {
    let (_folder, store, id) = setup();
    let day = Duration::from_hours(24);
    let jobs = [job(&id, "base", "7"), job(&id, "frozen", "8")];
    for job in &jobs {
        store.add_job(&id, job).unwrap();
    }
    let [base, frozen] = jobs.map(|job| job.recipe);
    let end = JobEnd {
        outcome: JobOutcome::Done,
        message: String::new(),
        key: Some(key(2)),
        time: "2026-01-01T00:00:00Z".to_owned(),
    };
    store.put_end(&id, base, &end).unwrap();
    let needed = |within| store.needed_by_jobs(within).unwrap();
    assert_eq!(needed(day), (BTreeSet::from([key(1), key(2)]), BTreeSet::from([Digest::of(b"b")])));
    assert_eq!(needed(Duration::ZERO), Default::default(), "one that left no sign for long is over");
    store.put_end(&id, frozen, &JobEnd { outcome: JobOutcome::Stopped, ..end.clone() }).unwrap();
    assert_ne!(needed(day), Default::default(), "one that was stopped may go on");
    store.put_end(&id, frozen, &end).unwrap();
    assert_eq!(needed(day), Default::default());
    store.clear_end(&id, frozen);
    assert_eq!(store.end_of(&id, frozen), None);
}

#[test]
fn logs_have_names_that_any_tool_can_take() {
    let store = Store::at(Path::new("/c"));
    let log = store.job_log("x", 4, "base@file=a b/%j'\\");
    assert_eq!(log, Path::new("/c/v1/submissions/x/logs/004-base@file=a-b--j--.log"));
}

#[test]
fn a_source_of_a_job_under_way_is_not_collected() {
    let (folder, store, id) = setup();
    let file = folder.path().join("b.csv");
    fs::write(&file, "b").unwrap();
    let source = store.take_in_copy(&file).unwrap();
    assert_eq!(source, submission(id.clone()).sources[Path::new("/a/b.csv")]);
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(24);
    File::open(store.object(source.digest)).unwrap().set_modified(long_ago).unwrap();
    store.add_job(&id, &job(&id, "events", "7")).unwrap();
    store.collect(&crate::store::Keep::default(), false, &mut |_| true).unwrap();
    assert!(store.holds(source));
    store.drop_submission(&id);
    store.collect(&crate::store::Keep::default(), false, &mut |_| true).unwrap();
    assert!(!store.holds(source));
}

#[test]
fn a_submission_from_elsewhere_is_taken_in_as_it_is_or_not_at_all() {
    let (_folder, store, id) = setup();
    let text = fs::read(store.submission_file(&id)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = Store::at(folder.path());
    assert_eq!(other.adopt_submission(&id, &text).unwrap(), Some(submission(id.clone())));
    assert_eq!(other.submission(&id).unwrap(), Some(submission(id.clone())));
    assert_eq!(other.adopt_submission("another", &text).unwrap(), None);
    assert_eq!(other.adopt_submission(&id, &text[..text.len() - 2]).unwrap(), None);
}
