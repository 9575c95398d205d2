//! Faults and races of the store: after any of them, a lookup gives what was stored, or a miss.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Barrier,
    thread,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{key::KeyMaterial, stage::ArtifactKind};

pub(crate) fn material(steps: u64) -> KeyMaterial {
    KeyMaterial {
        format: KeyMaterial::FORMAT,
        kind: "train_gan".to_owned(),
        version: 1,
        parameters: json!({ "steps": steps }),
        seed: 1,
        inputs: BTreeMap::new(),
        sources: BTreeMap::new(),
    }
}

pub(super) fn outcome(steps: u64) -> Outcome {
    Outcome {
        material: material(steps),
        produces: ArtifactKind::Model,
        files: vec!["model.json".to_owned(), "weights.safetensors".to_owned()],
        metrics: BTreeMap::from([("loss".to_owned(), 0.1 + steps as f64)]),
        notices: vec!["a notice".to_owned()],
        provenance: Provenance {
            stage: "base".to_owned(),
            pipeline: "test".to_owned(),
            version: "0".to_owned(),
            device: "cpu".to_owned(),
            host: "linux".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            seconds: 1.5,
            argv: Vec::new(),
            inputs: BTreeMap::new(),
            sources: BTreeMap::new(),
        },
    }
}

pub(super) fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    (folder, store)
}

pub(crate) fn key(steps: u64) -> CacheKey {
    material(steps).key().unwrap()
}

pub(super) fn miss(store: &Store, steps: u64) -> Slot {
    match store.lookup(key(steps)).unwrap() {
        Lookup::Miss(slot) => slot,
        other => panic!("expected a miss, got {other:?}"),
    }
}

pub(super) fn fill(slot: &Slot, model: &str) {
    fs::write(slot.out().join("model.json"), model).unwrap();
    fs::write(slot.out().join("weights.safetensors"), [model, "weights"].concat()).unwrap();
}

/// Stores `steps` with this content, and returns its record.
pub(crate) fn put(store: &Store, steps: u64, model: &str) -> Record {
    let slot = miss(store, steps);
    fill(&slot, model);
    slot.commit(outcome(steps)).unwrap().record
}

/// Overwrites a file of a record, as rot or a careless user would: its mode and time of modification stay.
fn tamper(store: &Store, record: &Record, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Digest {
    let digest = record.outputs[file].digest;
    let path = store.object(digest);
    let (metadata, mut bytes) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
    change(&mut bytes);
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    fs::set_permissions(&path, metadata.permissions()).unwrap();
    digest
}

#[test]
fn what_is_committed_is_hit_with_all_its_fields() {
    let (_folder, store) = store();
    let record = put(&store, 1, "m");
    match store.lookup(key(1)).unwrap() {
        Lookup::Hit(hit) => assert_eq!(*hit, record),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(store.object(record.outputs["model.json"].digest)).unwrap(), b"m");
    assert!(matches!(store.find(key(2)).unwrap(), Found::Absent));
}

#[test]
fn a_store_that_is_only_read_creates_nothing() {
    let (folder, store) = store();
    assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
    assert!(store.list().unwrap().is_empty() && store.verify().objects == 0);
    assert_eq!(store.work(key(1)).unwrap(), Work::Idle);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_layout_is_the_documented_one() {
    let (folder, store) = store();
    let record = put(&store, 1, "m");
    let (digest, key) = (record.outputs["model.json"].digest.to_string(), record.key.to_string());
    let object = folder.path().join("v1/objects").join(&digest[..2]).join(&digest[2..]);
    assert_eq!(fs::metadata(object).unwrap().permissions().mode() & 0o222, 0, "objects are read-only");
    let text = fs::read(folder.path().join(format!("v1/records/{}/{key}.json", &key[..2]))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&json["version"], &json["key"]), (&json!(1), &json!(key)));
    assert_eq!(json["outputs"]["model.json"], json!({ "digest": digest, "size": 1 }));
    assert_eq!(json["metrics"]["loss"], json!(1.1));
    assert_eq!(fs::read_dir(folder.path().join("v1/tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.path().join("v1/work")).unwrap().count(), 0);
}

#[test]
fn a_run_that_dies_before_its_commit_leaves_a_miss() {
    let (_folder, store) = store();
    let slot = miss(&store, 1);
    fill(&slot, "m");
    slot.progress(Mark { step: 3, steps: 9 }).unwrap();
    drop(slot);
    assert_eq!(store.work(key(1)).unwrap(), Work::Interrupted(Mark { step: 3, steps: 9 }));
    put(&store, 1, "m");
    assert_eq!(store.work(key(1)).unwrap(), Work::Idle);
}

#[test]
fn a_run_that_dies_between_its_objects_and_its_record_leaves_a_miss() {
    let (_folder, store) = store();
    let record = put(&store, 1, "m");
    fs::remove_file(store.record(key(1))).unwrap();
    assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
    assert_eq!(put(&store, 1, "m").outputs, record.outputs);
    assert!(store.verify().faults.is_empty());
}

#[test]
fn every_truncation_of_a_record_is_a_miss() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let path = store.record(key(1));
    let text = fs::read(&path).unwrap();
    for length in (0..text.len() - 1).step_by(7) {
        fs::write(&path, &text[..length]).unwrap();
        assert!(matches!(store.find(key(1)).unwrap(), Found::Absent), "{length} bytes of the record passed");
    }
}

#[test]
fn an_altered_digit_in_a_record_is_a_miss() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let path = store.record(key(1));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"loss\":1.1", "\"loss\":1.2")).unwrap();
    assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
    assert_eq!(store.verify().unreadable, [path]);
}

#[test]
fn a_record_of_another_version_is_a_miss() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let path = store.record(key(1));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("{\"version\":1,\"check\"", "{\"version\":2,\"check\"")).unwrap();
    assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
}

#[test]
fn a_record_under_the_name_of_another_key_is_a_miss() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    fs::create_dir_all(store.record(key(2)).parent().unwrap()).unwrap();
    fs::copy(store.record(key(1)), store.record(key(2))).unwrap();
    assert!(matches!(store.find(key(2)).unwrap(), Found::Absent));
}

#[test]
fn an_object_that_is_gone_or_of_another_size_is_noticed_by_a_lookup() {
    for size in [0, 3] {
        let (_folder, store) = store();
        let record = put(&store, 1, "m");
        let digest = tamper(&store, &record, "model.json", |bytes| bytes.resize(size, b'x'));
        let corrupted = Damage { file: "model.json".to_owned(), digest, fault: Fault::Corrupted };
        assert!(matches!(store.find(key(1)).unwrap(), Found::Damaged(_, damage) if damage == [corrupted]));
        fs::remove_file(store.object(digest)).unwrap();
        let gone = Damage { file: "model.json".to_owned(), digest, fault: Fault::Missing };
        assert!(matches!(store.find(key(1)).unwrap(), Found::Damaged(_, damage) if damage == [gone]));
        assert_eq!(put(&store, 1, "m").outputs, record.outputs);
    }
}

#[test]
fn a_flipped_bit_is_found_by_verify_and_mended_by_a_rerun() {
    let (_folder, store) = store();
    let record = put(&store, 1, "m");
    let digest = tamper(&store, &record, "model.json", |bytes| bytes[0] ^= 1);
    let faults = store.verify().faults;
    let used_by = vec![(key(1), "base".to_owned(), "model.json".to_owned())];
    assert_eq!(faults, [FaultyObject { digest, fault: Fault::Corrupted, used_by }]);
    assert_eq!(store.inspect(&record).len(), 1);

    store.set_aside(digest).unwrap();
    assert!(store.root().join(format!("tmp/corrupt-{digest}")).exists());
    put(&store, 1, "m");
    assert!(store.verify().faults.is_empty());
}

#[test]
fn storing_the_same_bytes_again_mends_a_rotten_object() {
    let (_folder, store) = store();
    let record = put(&store, 1, "m");
    tamper(&store, &record, "model.json", |bytes| bytes[0] ^= 1);
    put(&store, 2, "m");
    assert!(store.verify().faults.is_empty());
}

#[test]
fn a_second_run_is_told_who_holds_the_key_and_hits_when_that_one_is_done() {
    let (_folder, store) = store();
    let slot = miss(&store, 1);
    fill(&slot, "m");
    match store.lookup(key(1)).unwrap() {
        Lookup::Busy(holder) => assert_eq!(holder.pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.work(key(1)).unwrap(), Work::Running(holder, None) if holder.pid == std::process::id()));
    slot.commit(outcome(1)).unwrap();
    assert!(matches!(store.lookup(key(1)).unwrap(), Lookup::Hit(_)));
}

#[test]
fn the_lock_of_a_dead_run_is_free_whatever_its_file_says() {
    let (_folder, store) = store();
    drop(miss(&store, 1));
    fs::write(store.work_folder(key(1)).join("lock"), "{\"pid\":1,\"host\":\"gone\"}").unwrap();
    miss(&store, 1);
}

#[test]
fn threads_that_race_for_a_key_leave_one_record_and_never_an_error() {
    let (_folder, store) = store();
    let barrier = Barrier::new(8);
    let records: Vec<Record> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    loop {
                        match store.lookup(key(1)).unwrap() {
                            Lookup::Hit(record) => return Arc::unwrap_or_clone(record),
                            Lookup::Busy(_) => thread::yield_now(),
                            Lookup::Miss(slot) => {
                                fill(&slot, "m");
                                return slot.commit(outcome(1)).unwrap().record;
                            }
                        }
                    }
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(records.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.verify().faults.is_empty());
}

#[test]
fn writers_that_no_lock_keeps_apart_store_one_intact_result() {
    let (_folder, store) = store();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let slot = store.slot(key(1), None, false).unwrap();
                fill(&slot, "m");
                barrier.wait();
                assert!(!slot.commit(outcome(1)).unwrap().differed);
            });
        }
    });
    assert!(matches!(store.find(key(1)).unwrap(), Found::Complete(_)));
    assert!(store.verify().faults.is_empty());
}

#[test]
fn of_two_different_results_of_a_key_the_first_is_kept_and_the_second_reported() {
    let (_folder, store) = store();
    let late = store.slot(key(1), None, false).unwrap();
    let first = put(&store, 1, "m");
    fill(&late, "another");
    let committed = late.commit(outcome(1)).unwrap();
    assert!(committed.differed);
    assert_eq!(committed.record, first);
}

#[test]
fn a_claimed_key_is_replaced() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let Lookup::Miss(slot) = store.claim(key(1)).unwrap() else { panic!("a claim is a miss") };
    fill(&slot, "another");
    let committed = slot.commit(outcome(1)).unwrap();
    assert!(committed.differed);
    assert!(matches!(store.lookup(key(1)).unwrap(), Lookup::Hit(record) if *record == committed.record));
}

#[test]
fn folders_links_and_names_that_lead_elsewhere_are_refused_as_outputs() {
    let (_folder, store) = store();
    for name in ["folder", "link", "absent", "../other", ""] {
        let slot = miss(&store, 1);
        fs::create_dir(slot.out().join("folder")).unwrap();
        symlink("/etc/hostname", slot.out().join("link")).unwrap();
        fs::write(slot.out().with_file_name("other"), "x").unwrap();
        let outcome = Outcome { files: vec![name.to_owned()], ..outcome(1) };
        assert!(matches!(slot.commit(outcome), Err(StoreError::NotStorable { .. })), "{name}");
        assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
    }
}

#[test]
fn files_that_a_stage_does_not_declare_are_not_stored() {
    let (_folder, store) = store();
    let slot = miss(&store, 1);
    fill(&slot, "m");
    fs::write(slot.out().join(".tmpA1b2C3"), "left by a library").unwrap();
    let record = slot.commit(outcome(1)).unwrap().record;
    assert_eq!(record.outputs.keys().collect::<Vec<_>>(), ["model.json", "weights.safetensors"]);
    assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
}

#[test]
fn another_attempt_begins_in_an_empty_folder() {
    let (_folder, store) = store();
    let mut slot = miss(&store, 1);
    fill(&slot, "half written");
    let first = slot.out().to_owned();
    slot.begin_anew().unwrap();
    assert!(!first.exists());
    assert_eq!(fs::read_dir(slot.out()).unwrap().count(), 0);
}

#[test]
fn a_metric_that_is_not_finite_is_refused() {
    let (_folder, store) = store();
    let mut bad = outcome(1);
    bad.metrics.insert("auc".to_owned(), f64::NAN);
    let error = miss(&store, 1).commit(bad).unwrap_err();
    assert!(error.to_string().contains("the metric `auc` is NaN"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_made_names_its_path() {
    let (folder, _) = store();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "a file where a folder should be").unwrap();
    let error = Store::at(&blocked).claim(key(1)).unwrap_err();
    assert!(error.to_string().contains("blocked"), "{error}");
}

#[test]
fn a_full_disk_and_a_forbidden_folder_come_with_advice() {
    let error = |kind: io::ErrorKind| StoreError::io("write", Path::new("cache/v1/tmp/x"))(kind.into()).to_string();
    assert!(error(io::ErrorKind::StorageFull).contains("cache/v1/tmp/x"));
    assert!(error(io::ErrorKind::StorageFull).contains("free some space"));
    assert!(error(io::ErrorKind::PermissionDenied).contains("`--cache`"));
    assert!(error(io::ErrorKind::ReadOnlyFilesystem).contains("`--cache`"));
}

#[test]
fn results_are_listed_with_their_size() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    put(&store, 2, "n");
    let entries = store.list().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.record.size() == 1 + 8 && entry.age < Duration::from_mins(10)));
}

#[test]
fn what_killed_runs_have_written_goes_with_the_next_run() {
    let (_folder, store) = store();
    let here = Holder::this_process().host_word();
    // No process has a number above the system's limit of 2^22.
    let left = |name: String| {
        let folder = store.tmp().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("events.safetensors"), "half").unwrap();
        folder
    };
    let same = left(format!("out-{}-{here}-4194305-x", key(1)));
    let at_work = left(format!("out-{}-{here}-{}-x", key(1), std::process::id()));
    let elsewhere = left(format!("out-{}-abcdef01-4194305-x", key(1)));
    let other = left(format!("out-{}-{here}-4194305-x", key(2)));
    let slot = miss(&store, 2);
    drop(store.begin_run(&json!({}), &mut |_| true));
    assert!(!same.exists() && slot.out().is_dir());
    assert!(at_work.exists() && elsewhere.exists() && other.exists(), "somebody may be at work");
    drop(slot);
    let collected = store.collect(&Keep::default(), false, &mut |_| true).unwrap().unwrap();
    assert_eq!(collected.freed, 4);
    assert!(!other.exists() && at_work.exists() && elsewhere.exists());
}

#[test]
fn strays_among_the_stores_files_are_passed_over() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    for path in
        ["records/.DS_Store", "records/ab/notes.txt", "objects/x", "objects/ab/core", "tags/readme", "tags/.x.json.swp"]
    {
        let path = store.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "stray").unwrap();
    }
    let found = store.verify();
    assert!(found.faults.is_empty() && found.unreadable.is_empty());
    assert_eq!((found.strays.len(), store.tags().unwrap().len(), store.list().unwrap().len()), (4, 0, 1));
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_made_anew() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let path = store.record(key(1));
    fs::write(&path, "torn").unwrap();
    assert_eq!(store.verify().unreadable, std::slice::from_ref(&path));
    store.set_record_aside(&path).unwrap();
    assert!(store.verify().unreadable.is_empty());
    put(&store, 1, "m");
}

#[test]
fn a_command_line_that_was_stored_with_a_password_is_read_without_it() {
    let (_folder, store) = store();
    let mut record = put(&store, 1, "content");
    record.provenance.argv = vec!["pgan-pipe".to_owned(), "--remote=https://me:hush@host/x?key=hush".to_owned()];
    let stored = record.to_text().unwrap();
    assert!(String::from_utf8_lossy(&stored).contains("hush"));
    let read = Record::from_text(&stored).unwrap();
    assert_eq!(read.provenance.argv, ["pgan-pipe", "--remote=https://***@host/x?***"]);
}
