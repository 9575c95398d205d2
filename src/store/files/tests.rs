//! Files of the store in the hands of others: modes, links, pipes, and sizes that no file of it has.

use std::{os::unix::fs::symlink, time::Duration};

use serde_json::json;

use super::{
    super::{
        Fault, Found, Keep, Work,
        tests::{fill, key, miss, outcome, put, store},
    },
    *,
};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[test]
fn objects_may_be_read_by_all_who_may_read_what_their_maker_makes_however_they_were_made() {
    let (folder, store) = store();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let readable = mode(&plain) & 0o444;
    for born in [0o600, 0o644, 0o400, 0o755] {
        let slot = miss(&store, 1);
        fill(&slot, "m");
        fs::set_permissions(slot.out().join("model.json"), fs::Permissions::from_mode(born)).unwrap();
        let record = slot.commit(outcome(1)).unwrap().record;
        assert_eq!(mode(&store.object(record.outputs["model.json"].digest)), readable, "born as {born:o}");
        fs::remove_dir_all(store.root()).unwrap();
    }
    let copied = store.take_in_copy(&plain).unwrap();
    let bytes = Digest::of(b"bytes");
    assert!(store.take_in_bytes(b"bytes", bytes).unwrap());
    assert_eq!([copied.digest, bytes].map(|digest| mode(&store.object(digest))), [readable; 2]);
}

#[test]
fn an_object_of_an_older_store_is_widened_when_its_owner_meets_it_and_never_narrowed() {
    let (_folder, store) = store();
    let record = put(&store, 1, "m");
    let object = store.object(record.outputs["model.json"].digest);
    let readable = mode(&object);
    let set = |mode| fs::set_permissions(&object, fs::Permissions::from_mode(mode)).unwrap();
    let meetings: [&dyn Fn(); 3] = [
        &|| assert!(matches!(store.find(key(1)).unwrap(), Found::Complete(_))),
        &|| assert!(store.inspect(&record).is_empty()),
        &|| assert!(store.verify().faults.is_empty()),
    ];
    for meet in meetings {
        set(0o400);
        meet();
        assert_eq!(mode(&object), readable);
        set(0o777);
        meet();
        assert_eq!(mode(&object), 0o777);
    }
    // The same content, made anew, is there for everyone for whom it was.
    set(0o444);
    put(&store, 2, "m");
    assert_eq!(mode(&object), 0o444);
}

/// Puts things that are no regular files into a place, one after the other.
fn each_special_file(path: &Path, elsewhere: &Path, mut see: impl FnMut(&str)) {
    let clear = || {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    };
    let make: [(&str, &dyn Fn()); 6] = [
        ("a pipe", &|| rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap()),
        ("a socket", &|| {
            // The path of a socket must be short when it is made.
            let short = elsewhere.with_file_name("socket");
            drop(std::os::unix::net::UnixListener::bind(&short).unwrap());
            fs::rename(short, path).unwrap();
        }),
        ("a link to nothing", &|| symlink("nowhere", path).unwrap()),
        ("a link to itself", &|| symlink(path, path).unwrap()),
        ("a link to a file of others", &|| symlink(elsewhere, path).unwrap()),
        ("a folder", &|| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "x").unwrap();
        }),
    ];
    for (what, make) in make {
        clear();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make();
        see(what);
    }
    clear();
}

#[test]
fn special_files_in_the_place_of_the_stores_own_are_no_obstacle_and_lead_nowhere() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let (store, elsewhere) = (Store::at(&folder.path().join("c")), folder.path().join("mine"));
    fs::write(&elsewhere, "mine").unwrap();
    let record = put(&store, 1, "m");
    let digest = record.outputs["model.json"].digest;
    let mended = |what: &str| {
        assert_eq!(put(&store, 1, "m").outputs, record.outputs, "{what}");
        assert!(store.verify().faults.is_empty(), "{what}");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"mine", "{what}");
    };
    each_special_file(&store.object(digest), &elsewhere, |what| {
        assert!(matches!(store.find(key(1)).unwrap(), Found::Damaged(..)), "{what}");
        assert_eq!(store.verify().faults.len(), 1, "{what}");
        assert_eq!(store.inspect(&record)[0].fault, Fault::Corrupted, "{what}");
        mended(what);
    });
    each_special_file(&store.record(key(1)), &elsewhere, |what| {
        assert!(matches!(store.find(key(1)).unwrap(), Found::Absent), "{what}");
        assert_eq!((store.list().unwrap().len(), store.verify().unreadable.len()), (0, 1), "{what}");
        mended(what);
    });
    let work = store.work_folder(key(1));
    each_special_file(&work.join("lock"), &elsewhere, |what| {
        let _ = fs::remove_file(store.record(key(1)));
        assert_eq!(store.work(key(1)).unwrap(), Work::Idle, "{what}");
        mended(what);
    });
    each_special_file(&work.join("log"), &elsewhere, |what| {
        let _ = fs::remove_file(store.record(key(1)));
        let slot = miss(&store, 1);
        std::io::Write::write_all(&mut slot.create_log().unwrap(), b"said").unwrap();
        assert_eq!(fs::read(slot.log()).unwrap(), b"said", "{what}");
        drop(slot);
        mended(what);
    });
    for name in [
        "progress.json",
        "../../tags/name.json",
        "../../runs/0-1-0.jsonl",
        "../../evicted/0.json",
        "../../collection.lock",
    ] {
        each_special_file(&work.join(name), &elsewhere, |what| {
            let what = format!("{what} as {name}");
            let _ = fs::remove_file(store.record(key(1)));
            assert_eq!(store.work(key(1)).unwrap(), Work::Idle, "{what}");
            assert!(store.tags().unwrap().is_empty() && store.logged_runs().is_empty() && store.evicted().is_empty());
            drop(store.begin_run(&json!({}), &mut |_| panic!("{what}: nobody is there to wait for")));
            store.collect(&Keep { used_within: Duration::MAX, ..Keep::default() }, false, &mut |_| true).unwrap();
            mended(&what);
            fs::create_dir_all(&work).unwrap();
        });
    }
}

#[test]
fn a_link_in_the_place_of_a_work_folder_does_not_lead_a_run_to_files_of_others() {
    let (folder, store) = store();
    let mine = folder.path().join("mine");
    for name in ["work", "checkpoints"] {
        fs::create_dir_all(mine.join("checkpoints")).unwrap();
        for file in ["log", "lock", "notes", "checkpoints/gan.part"] {
            fs::write(mine.join(file), "mine").unwrap();
        }
        let work = store.work_folder(key(1));
        fs::create_dir_all(work.parent().unwrap()).unwrap();
        if name == "work" {
            symlink(&mine, &work).unwrap();
        } else {
            fs::create_dir(&work).unwrap();
            symlink(&mine, work.join("checkpoints")).unwrap();
        }
        let slot = miss(&store, 1);
        drop(slot.create_log().unwrap());
        assert!(!slot.checkpoints().exists(), "{name}");
        fill(&slot, "m");
        slot.commit(outcome(1)).unwrap();
        for file in ["log", "lock", "notes", "checkpoints/gan.part"] {
            assert_eq!(fs::read(mine.join(file)).unwrap(), b"mine", "{file}");
        }
        fs::remove_dir_all(store.root()).unwrap();
    }
}

#[test]
fn a_record_that_is_larger_than_any_is_not_read() {
    let (_folder, store) = store();
    put(&store, 1, "m");
    let path = store.record(key(1));
    fs::File::options().write(true).open(&path).unwrap().set_len(3 << 30).unwrap();
    assert!(matches!(store.find(key(1)).unwrap(), Found::Absent));
    assert_eq!(store.verify().unreadable, [path]);
}
