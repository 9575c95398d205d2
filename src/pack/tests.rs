//! Packs that were written to do harm, or spoilt on their way.

use std::fs;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::store::{Store, sealed};

/// Entries by their names, with what they are.
type Entries = Vec<(String, EntryType, Vec<u8>)>;

fn piece(bytes: &[u8]) -> Piece {
    Piece { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// A pack of a pipeline at this path and an object.
fn entries(path: &str) -> (Manifest, Entries) {
    let (file, object) = (b"stages: {}\n".as_slice(), b"object".as_slice());
    let manifest = Manifest {
        pipeline: path.to_owned(),
        set: Vec::new(),
        files: vec![PackedFile { path: path.to_owned(), content: piece(file) }],
        objects: vec![piece(object)],
        records: Vec::new(),
    };
    let names: Vec<String> = manifest.items().map(|item| item.name()).collect();
    let entries = names.into_iter().zip([file, object]).map(|(name, bytes)| (name, EntryType::Regular, bytes.to_vec()));
    (manifest.clone(), entries.collect())
}

fn tar(manifest: &Manifest, entries: &Entries) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let first = (MANIFEST.to_owned(), EntryType::Regular, sealed::seal(VERSION, manifest).unwrap());
    for (name, kind, bytes) in std::iter::once(&first).chain(entries) {
        let mut header = Header::new_ustar();
        // As whoever means harm would: without the checks of `set_path`.
        header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header.set_size(bytes.len() as u64);
        header.set_entry_type(*kind);
        if kind.is_symlink() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Unpacks into a folder that must be as empty as before where it fails.
fn unpacked(bytes: &[u8]) -> Result<Unpacked, PackError> {
    let folder = tempfile::tempdir().unwrap();
    let (pack, out) = (folder.path().join("a.pgan"), folder.path().join("out"));
    fs::write(&pack, bytes).unwrap();
    let result = unpack(&pack, &out, &Store::at(&folder.path().join("cache")), false);
    if result.is_err() {
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "nothing is left behind");
        assert!(!folder.path().join("cache/v1/records").exists());
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "cache").count(),
        2
    );
    result
}

fn refused(bytes: &[u8]) -> String {
    unpacked(bytes).unwrap_err().to_string()
}

#[test]
fn a_pack_is_unpacked_as_it_was_announced() {
    let (manifest, entries) = entries("deep/er/p.yaml");
    assert_eq!(unpacked(&tar(&manifest, &entries)).unwrap().manifest, manifest);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in [
        "../p.yaml",
        "/p.yaml",
        "a/../../p.yaml",
        "a//p.yaml",
        "./p.yaml",
        "a/",
        "",
        "a\\b",
        "C:p",
        "a\nb",
        ".profile",
        "a/.git/b",
        "a/pgan.toml",
        "PGAN.TOML",
        "a/Pgan.Toml",
        "pgan.toml/b",
        "pg\u{200c}an.toml",
        "pgan.toml. ",
        "ｐｇａｎ．ｔｏｍｌ",
        "\u{200d}.git/b",
        &"a/".repeat(150),
    ] {
        let (manifest, entries) = entries(path);
        let message = refused(&tar(&manifest, &entries));
        assert!(message.contains("pack.json: the path"), "{path:?}: {message}");
    }
    let (mut manifest, mut entries) = entries("a.yaml");
    for path in ["A.yaml", "a.yaml/b", "a.yaml.", "\u{feff}a.yaml"] {
        manifest.files.truncate(1);
        manifest.files.push(PackedFile { path: path.into(), content: piece(b"") });
        entries.insert(1, (format!("files/{path}"), EntryType::Regular, Vec::new()));
        let message = refused(&tar(&manifest, &entries)).to_lowercase();
        assert!(message.contains("pack.json: ") && message.contains("a.yaml"), "{path}: {message}");
    }
}

#[test]
fn a_file_cannot_be_put_into_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, entries) = entries("cache/v1/tags/mine.json");
    fs::write(folder.path().join("a.pgan"), tar(&manifest, &entries)).unwrap();
    let out = folder.path().join("out");
    let message =
        unpack(&folder.path().join("a.pgan"), &out, &Store::at(&out.join("cache")), true).unwrap_err().to_string();
    assert!(message.contains("leads into the cache") && !out.join("cache/v1/tags").exists(), "{message}");
}

/// A link's target and its name.
type Link<'a> = (&'a str, &'a str);

/// Unpacks a pack of a file at this path, in a place with these folders and links.
fn unpacked_among(folders: &[&str], links: &[Link<'_>], cache: &str, out: &str, path: &str) -> Result<(), String> {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for folder in folders {
        fs::create_dir_all(at(folder)).unwrap();
    }
    for (to, name) in links {
        std::os::unix::fs::symlink(at(to), at(name)).unwrap();
    }
    let (manifest, entries) = entries(path);
    fs::write(at("a.pgan"), tar(&manifest, &entries)).unwrap();
    unpack(&at("a.pgan"), &at(out), &Store::at(&at(cache)), true).map(drop).map_err(|error| error.to_string())
}

#[test]
fn no_link_and_no_other_name_leads_into_the_cache() {
    let into: [(&[&str], &[Link<'_>], &str, &str); 6] = [
        (&["cache/v1"], &[("cache/v1", "out")], "cache", "tags/mine.json"),
        (&["out/data"], &[("out/data", "cache")], "cache", "data/v1/tags/mine.json"),
        (&["out"], &[("out/new", "cache")], "cache", "new/v1/tags/mine.json"),
        // On a file system that makes no difference between cases.
        (&["cache"], &[("cache", "out")], "cache", "V1/tags/mine.json"),
        (&["out"], &[], "out/Cache", "cache/v1/tags/mine.json"),
        (&["out"], &[], "out/deep/cache", "deep/cache"),
    ];
    for (folders, links, cache, path) in into {
        let message = unpacked_among(folders, links, cache, "out", path).unwrap_err();
        assert!(message.contains("leads into the cache"), "{cache}, {path}: {message}");
    }
    unpacked_among(&["cache/v1", "out"], &[("out", "other")], "cache", "other", "cache/v1/p.yaml").unwrap();
}

#[test]
fn what_is_no_plain_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (pack, out) = (folder.path().join("a.pgan"), folder.path().join("out"));
    let (manifest, entries) = entries("p.yaml");
    fs::write(&pack, tar(&manifest, &entries)).unwrap();
    fs::create_dir(&out).unwrap();
    let (pipe, mode) = (out.join("p.yaml"), rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for replace in [false, true] {
        let message = unpack(&pack, &out, &Store::at(&folder.path().join("cache")), replace).unwrap_err().to_string();
        assert!(message.contains("no plain file"), "{message}");
    }
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&pipe).unwrap().file_type()));
}

#[test]
fn links_devices_and_folders_are_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::XHeader,
        EntryType::GNUSparse,
    ] {
        let (manifest, mut entries) = entries("p.yaml");
        entries[0].1 = kind;
        assert!(refused(&tar(&manifest, &entries)).contains("is in its place"), "{kind:?}");
    }
}

#[test]
fn what_was_not_announced_is_refused() {
    let (manifest, good) = entries("p.yaml");
    let with = |change: &dyn Fn(&mut Entries)| {
        let mut entries = good.clone();
        change(&mut entries);
        refused(&tar(&manifest, &entries))
    };
    assert!(with(&|entries| drop(entries.pop())).contains("ends early"));
    assert!(with(&|entries| entries.push(entries[0].clone())).contains("more than the manifest announces"));
    assert!(with(&|entries| entries.swap(0, 1)).contains("in its place"));
    assert!(with(&|entries| entries[1].2[0] ^= 1).contains("not what the manifest announces"));
    assert!(with(&|entries| entries[1].2.push(0)).contains("its size is not"));
    assert!(with(&|entries| entries[0].0 = "files/q.yaml".into()).contains("another entry"));
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_made_for_them() {
    let (mut manifest, entries) = entries("p.yaml");
    manifest.objects[0].size = u64::MAX;
    assert!(refused(&tar(&manifest, &entries)).contains("more bytes than can be"));
    manifest.objects[0].size = 1 << 60;
    let message = refused(&tar(&manifest, &entries));
    assert!(message.contains("no room"), "{message}");
}

#[test]
fn nothing_but_zeros_may_follow_the_last_entry() {
    let (manifest, entries) = entries("p.yaml");
    let whole = tar(&manifest, &entries);
    let with = |end: &[u8]| [&whole, end].concat();
    unpacked(&with(&[0; 10_000])).unwrap();
    for end in [b"#!/bin/sh\n".as_slice(), &[&[0; 4096], b"\x01".as_slice()].concat(), &tar(&manifest, &entries)] {
        assert!(refused(&with(end)).contains("more than the manifest announces"));
    }
    for cut in [1, 512, 1024] {
        assert!(refused(&whole[..whole.len() - cut]).contains("ends early"), "{cut}");
    }
}

/// A pack of a record with its objects, after a change to the record and one to the sizes that are announced.
fn with_record(change: fn(&mut serde_json::Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let record = crate::store::tests::put(&store, 1, "content");
    let mut value = serde_json::to_value(&record).unwrap();
    change(&mut value);
    let text = sealed::seal(crate::store::Record::VERSION, &value).unwrap();
    let (mut manifest, mut entries) = entries("p.yaml");
    manifest.objects =
        record.outputs.values().map(|output| Piece { digest: output.digest, size: output.size }).collect();
    manifest.objects.sort_unstable();
    manifest.records.push(PackedRecord { key: record.key, content: piece(&text) });
    entries.truncate(1);
    for object in &manifest.objects {
        let bytes = fs::read(store.object(object.digest)).unwrap();
        entries.push((format!("objects/{}", object.digest), EntryType::Regular, bytes));
    }
    entries.push((format!("records/{}.json", record.key), EntryType::Regular, text));
    match unpacked(&tar(&manifest, &entries)) {
        Ok(unpacked) => format!("{} new", unpacked.new_results),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_record_is_taken_only_with_the_material_of_its_key_and_the_sizes_of_its_files() {
    assert_eq!(with_record(|_| ()), "1 new");
    let said = with_record(|record| record["material"]["parameters"]["steps"] = 2.into());
    assert!(said.contains("is not made of what its key says"), "{said}");
    let said = with_record(|record| record["outputs"]["model.json"]["size"] = 8.into());
    assert!(said.contains("its file `model.json` has 8 bytes there, and 7 in the pack"), "{said}");
    let said = with_record(|record| record["provenance"]["stage"] = "\u{1b}[2J".into());
    assert!(said.contains("control characters"), "{said}");
    let said = with_record(|record| {
        let output = record["outputs"]["model.json"].clone();
        record["outputs"]["../up"] = output;
    });
    assert!(said.contains("a file of the name `../up`"), "{said}");
}

#[test]
fn a_record_must_be_of_its_key_and_its_files_in_the_pack() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let record = crate::store::tests::put(&store, 1, "content");
    let text = fs::read(store.record(record.key)).unwrap();
    let (mut manifest, mut entries) = entries("p.yaml");
    manifest.records.push(PackedRecord { key: record.key, content: piece(&text) });
    entries.push((format!("records/{}.json", record.key), EntryType::Regular, text));
    assert!(refused(&tar(&manifest, &entries)).contains("is not in the pack"));
    manifest.records[0].key = crate::store::tests::key(2);
    entries[2].0 = format!("records/{}.json", manifest.records[0].key);
    assert!(refused(&tar(&manifest, &entries)).contains("of another key"));
}

#[test]
fn what_is_there_already_is_not_replaced_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (pack, out) = (folder.path().join("a.pgan"), folder.path().join("out"));
    let store = Store::at(&folder.path().join("cache"));
    let (manifest, entries) = entries("in/p.yaml");
    fs::write(&pack, tar(&manifest, &entries)).unwrap();
    fs::create_dir_all(out.join("in")).unwrap();
    fs::write(out.join("in/p.yaml"), "mine").unwrap();
    assert!(matches!(unpack(&pack, &out, &store, false), Err(PackError::InTheWay { .. })));
    assert_eq!(fs::read(out.join("in/p.yaml")).unwrap(), b"mine");
    unpack(&pack, &out, &store, true).unwrap();
    unpack(&pack, &out, &store, false).unwrap();
    fs::remove_dir_all(out.join("in")).unwrap();
    std::os::unix::fs::symlink(folder.path(), out.join("in")).unwrap();
    let message = unpack(&pack, &out, &store, true).unwrap_err().to_string();
    assert!(message.contains("symbolic link") && !folder.path().join("p.yaml").exists(), "{message}");
}

proptest! {
    #[test]
    fn no_changed_byte_of_content_goes_unnoticed_and_none_makes_it_panic(at: prop::sample::Index, by in 1u8.., cut: bool) {
        let (manifest, entries) = entries("p.yaml");
        let whole = tar(&manifest, &entries);
        let mut bytes = whole.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= by }
        let folder = tempfile::tempdir().unwrap();
        let pack = folder.path().join("a.pgan");
        fs::write(&pack, &bytes).unwrap();
        let out = folder.path().join("out");
        if let Ok(found) = unpack(&pack, &out, &Store::at(&folder.path().join("cache")), false) {
            // Padding, or the end of the archive: what it holds is the same.
            prop_assert_eq!(found.manifest, manifest);
            prop_assert_eq!(fs::read(out.join("p.yaml")).unwrap(), b"stages: {}\n");
        }
    }
}
