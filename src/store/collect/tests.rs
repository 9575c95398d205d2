//! Collections beside runs: what is needed stays, what is not goes, and nothing is left half gone.

use std::{
    fs::File,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::SystemTime,
};

use serde_json::json;

use super::{
    super::{
        Holder,
        tests::{fill, key, miss, put, store},
    },
    *,
};
use crate::store::{Found, Lookup, RunLog};

const DAY: Duration = Duration::from_hours(24);

/// Lets everything in a folder look as if it had been there for this long.
fn age(folder: &Path, by: Duration) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), by);
        }
        File::open(entry.path()).unwrap().set_modified(SystemTime::now() - by).unwrap();
    }
}

fn stays(store: &Store, steps: u64) -> bool {
    matches!(store.find(key(steps)).unwrap(), Found::Complete(_))
}

fn collect(store: &Store, keep: &Keep, tried: bool) -> Collected {
    store.collect(keep, tried, &mut |_| true).unwrap().unwrap()
}

fn begin_run(store: &Store) -> RunLog {
    store.begin_run(&json!({}), &mut |_| true).unwrap()
}

fn keep(days: u32) -> Keep {
    Keep { used_within: days * DAY, ..Keep::default() }
}

#[test]
fn what_is_out_of_use_goes_with_its_objects_and_a_trial_touches_nothing() {
    let (_folder, store) = store();
    let old = put(&store, 1, "old");
    put(&store, 2, "shared");
    age(store.root(), 40 * DAY);
    put(&store, 3, "shared");
    put(&store, 4, "young");

    let trial = collect(&store, &keep(30), true);
    assert!(stays(&store, 1) && stays(&store, 2));
    let found = collect(&store, &keep(30), false);
    assert_eq!((found.removed.len(), found.kept, found.freed), (trial.removed.len(), trial.kept, trial.freed));
    assert_eq!([1, 2, 3, 4].map(|steps| stays(&store, steps)), [false, false, true, true]);
    assert_eq!((found.removed.len(), found.kept, found.freed), (2, 2, old.size()), "what another result names stays");
    let verification = store.verify();
    assert!(verification.faults.is_empty() && verification.unreadable.is_empty());
    assert_eq!((verification.objects, verification.bytes), (4, found.left));
}

#[test]
fn named_pipelines_past_runs_and_runs_that_go_on_keep_what_they_need() {
    let (_folder, store) = store();
    for steps in 1..=4 {
        put(&store, steps, &steps.to_string());
    }
    begin_run(&store).needs(&BTreeMap::from([("a", key(1))]));
    age(store.root(), 10 * DAY);
    let mut going_on = begin_run(&store);
    going_on.needs(&BTreeMap::from([("a", key(2))]));
    let keys = BTreeSet::from([key(3)]);

    let found = collect(&store, &Keep { keys: keys.clone(), ..keep(20) }, false);
    assert_eq!((found.removed.len(), found.kept), (0, 4));
    let found = collect(&store, &Keep { keys: keys.clone(), ..keep(5) }, false);
    assert_eq!(found.removed.iter().map(|entry| entry.record.key).collect::<BTreeSet<_>>(), [key(1), key(4)].into());
    let found = collect(&store, &Keep { keys, ..keep(0) }, false);
    assert_eq!((found.removed.len(), found.kept), (0, 2), "not even where nothing is kept for being young");
    drop(going_on);
    assert_eq!(collect(&store, &keep(0), false).removed.len(), 2);
}

#[test]
fn a_run_that_many_have_outrun_keeps_its_log() {
    let (_folder, store) = store();
    put(&store, 1, "needed");
    let mut going_on = begin_run(&store);
    going_on.needs(&BTreeMap::from([("a", key(1))]));
    for run in 0..600 {
        fs::write(store.root().join(format!("runs/9{run:012}-1-0.jsonl")), []).unwrap();
    }
    drop(begin_run(&store));
    assert!(fs::read_dir(store.root().join("runs")).unwrap().count() < 510);
    assert_eq!(collect(&store, &keep(0), false).removed.len(), 0);
}

#[test]
fn of_what_is_not_needed_the_longest_out_of_use_goes_first_until_the_size_is_right() {
    let (_folder, store) = store();
    let size = put(&store, 1, "aaaa").size();
    age(store.root(), 3 * DAY);
    put(&store, 2, "bbbb");
    age(store.root(), 2 * DAY);
    File::open(store.record(key(1))).unwrap().set_modified(SystemTime::now() - 5 * DAY).unwrap();
    let found = collect(&store, &Keep { max_size: size, ..keep(1) }, false);
    assert_eq!((stays(&store, 1), stays(&store, 2), found.left), (false, true, size));
    assert_eq!(collect(&store, &Keep { max_size: size, ..keep(1) }, false).removed.len(), 0);
}

#[test]
fn leftovers_go_when_they_are_old_and_nobody_works_on_them() {
    let (_folder, store) = store();
    let slot = miss(&store, 1);
    let checkpoints = slot.checkpoints();
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join("gan.part"), b"1234").unwrap();
    fs::write(store.root().join("tmp/left"), b"12").unwrap();
    age(store.root(), 40 * DAY);
    assert_eq!(collect(&store, &keep(0), false).freed, 2, "a stage that is at work keeps what it needs");
    assert!(checkpoints.is_dir() && slot.out().is_dir());
    let out = store.root().join("tmp").join(format!("out-{}-killed", key(2)));
    fs::create_dir(&out).unwrap();
    age(store.root(), 2 * DAY);
    collect(&store, &keep(1), false);
    assert!(out.is_dir(), "perhaps somebody is at work, where there are no locks");
    fs::remove_dir(out).unwrap();
    age(store.root(), 40 * DAY);
    drop(slot);
    assert_eq!(collect(&store, &keep(50), false).leftovers, 0);
    let found = collect(&store, &keep(30), false);
    assert!(found.leftovers > 0 && found.freed >= 4 && !checkpoints.exists());
}

#[test]
fn young_results_free_their_bytes_when_nobody_is_at_work() {
    let (_folder, store) = store();
    let size = put(&store, 1, "young").size();
    let trial = collect(&store, &keep(0), true);
    let found = collect(&store, &keep(0), false);
    assert_eq!((found.removed.len(), found.freed, found.young, found.left), (1, size, 0, 0));
    assert_eq!((trial.removed.len(), trial.freed), (1, size));
    assert_eq!(store.verify().objects, 0);
    // A stage that is at work may be about to store the same content.
    put(&store, 1, "young");
    let slot = miss(&store, 2);
    let found = collect(&store, &keep(0), false);
    assert_eq!((found.removed.len(), found.freed, found.young), (1, 0, size));
    drop(slot);
}

#[test]
fn a_run_and_a_collection_name_whom_they_wait_for_and_can_be_told_to_stop() {
    let (_folder, store) = store();
    let this = Holder::this_process();
    let mut lock = store.open_collection_lock().unwrap();
    assert!(holder::wait(&mut lock, Hold::Alone, &Holder::named_in, &mut |_| panic!("nobody has it")).unwrap());
    let mut heard = Vec::new();
    let log = store.begin_run(&json!({}), &mut |holder| {
        heard.push(holder.clone());
        heard.len() < 2
    });
    assert!(log.is_none());
    assert_eq!(heard, [this.clone(), this.clone()]);
    drop(lock);

    let head = json!({ "event": "run_started", "process": this.pid, "host": this.host });
    let mut log = store.begin_run(&head, &mut |_| panic!("the collection is over")).unwrap();
    let mut heard = Vec::new();
    let collected = store.collect(&keep(0), false, &mut |holder| {
        heard.push(holder.clone());
        false
    });
    assert!(collected.unwrap().is_none());
    assert_eq!(heard, [this]);
    log.needs(&BTreeMap::new());
    collect(&store, &keep(0), false);
}

#[test]
fn a_collection_beside_runs_takes_nothing_that_they_need() {
    let (_folder, store) = store();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Ended(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                age_quietly(store.root());
                collect(&store, &keep(0), false);
                // Locks are not fair: a collector that never rests would lock the runs out.
                thread::sleep(Duration::from_millis(2));
            }
        });
        let runs: Vec<_> = (0..4_u64)
            .map(|run| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..40_u64 {
                        let mut log = begin_run(store);
                        let steps = run * 1000 + round;
                        log.write(&json!({ "key": key(steps) }));
                        log.needs(&BTreeMap::new());
                        let slot = match store.lookup(key(steps)).unwrap() {
                            Lookup::Miss(slot) => slot,
                            other => panic!("{other:?}"),
                        };
                        fill(&slot, &steps.to_string());
                        let record = slot.commit(super::super::tests::outcome(steps)).unwrap().record;
                        thread::yield_now();
                        assert!(stays(store, steps), "lost while the run goes on");
                        assert!(store.inspect(&record).is_empty());
                    }
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
        drop(ended);
    });
}

/// Tells the collector, also where a run panics.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the records look old, while others write them.
fn age_quietly(root: &Path) {
    for path in inventory::files_in(&root.join("records"), &mut Err).unwrap() {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now() - DAY));
    }
}
