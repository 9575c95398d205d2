//! Results that go to a remote and come back: a folder, a web server, and whatever these may do wrong.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pgan_pipe::digest::Digest;
use serde_json::{Value, json};

mod poison;
#[path = "../program/mod.rs"]
mod program;
mod settings;
mod trouble;
mod web;

use program::Folder;

const PIPELINE: &str = "\
name: shared
seed: 1
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 500 }, tail: { observable: x0, quantile: 0.9 }, split: { validation: 0.2, test: 0.2 } }
  base: { kind: train_gan, data: events, generator: { layers: [8], latent: 2 }, discriminator: { layers: [8] }, steps: 20, batch: 16 }
  frozen: { kind: freeze, model: base }
";
const ALL: [&str; 3] = ["events", "base", "frozen"];

fn checkout() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    folder
}

/// A checkout whose stages have run, away from any remote.
fn made() -> Folder {
    let folder = checkout();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    folder
}

/// The last line of a verb with `--json`, which must end with this code.
fn last(folder: &Folder, code: i32, arguments: &[&str]) -> Value {
    let output = folder.run(&[arguments, &["--json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{text}{error}"))
}

fn error(folder: &Folder, code: i32, arguments: &[&str]) -> String {
    let output = folder.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

/// The files of a folder, by their paths in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder.join(at)).into_iter().flatten().flatten() {
            let path = at.join(entry.file_name());
            if entry.path().is_dir() {
                walk(folder, &path, files);
            } else {
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, Path::new(""), &mut found);
    found
}

fn objects(folder: &Folder) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&folder.path("cache/v1/objects"))
}

#[test]
fn what_one_checkout_ran_another_takes_and_runs_nothing() {
    let (one, other, remote) = (checkout(), checkout(), Folder::new());
    fs::create_dir(remote.path("results")).unwrap();
    let remote = remote.path("results");
    let remote = remote.to_str().unwrap();
    fs::write(other.path("pgan.toml"), format!("[remote]\nurl = \"{remote}\"\n")).unwrap();
    let ran = last(&one, 0, &["run", "pipeline.yaml", "--remote", remote]);
    assert_eq!(ran["ran"], json!(ALL));

    let plan = other.print(&["plan", "pipeline.yaml"]);
    assert!(plan.contains("pull  frozen") && plan.ends_with("3 to pull, 0 cached\n"), "{plan}");
    assert_eq!(other.run(&["plan", "pipeline.yaml", "--exit-code"]).status.code(), Some(4));
    assert!(other.print(&["status", "pipeline.yaml"]).contains("to pull"));
    assert!(!other.path("cache/v1/objects").exists(), "a plan moves no objects");

    let output = other.print(&["run", "pipeline.yaml", "--json"]);
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let from: Vec<&Value> =
        lines.iter().filter(|line| line["event"] == "stage_cached").map(|line| &line["from"]).collect();
    assert_eq!(from, [&json!("remote"); 3]);
    let finished = lines.last().unwrap();
    assert_eq!((&finished["ran"], &finished["cached"]), (&json!([]), &json!(ALL)));
    assert_eq!(objects(&one), objects(&other));
    assert_eq!(files(&one.path("cache/v1/records")), files(&other.path("cache/v1/records")));
    other.print(&["cache", "verify"]);
}

#[test]
fn a_cache_folder_is_a_remote_and_a_push_fills_what_is_missing() {
    let (one, other) = (made(), checkout());
    let cache = one.path("cache");
    let pulled = last(&other, 0, &["cache", "pull", "pipeline.yaml", "--remote", cache.to_str().unwrap()]);
    assert_eq!((&pulled["pulled"], &pulled["failed"]), (&json!(ALL), &json!([])));
    let again = last(&other, 0, &["cache", "pull", "pipeline.yaml", "--remote", cache.to_str().unwrap()]);
    assert_eq!((&again["cached"], &again["objects"]), (&json!(ALL), &json!(0)));

    let remote = Folder::new();
    let push = ["cache", "push", "pipeline.yaml", "--remote", remote.path(".").to_str().unwrap()].map(str::to_owned);
    let push: Vec<&str> = push.iter().map(String::as_str).collect();
    assert_eq!(last(&other, 0, &push)["pushed"], json!(ALL));
    let there = files(&remote.path("v1"));
    let (path, _) = there.iter().find(|(path, _)| path.starts_with("objects")).unwrap();
    fs::remove_file(remote.path("v1").join(path)).unwrap();
    let mended = last(&other, 0, &push);
    assert_eq!((&mended["there"], &mended["objects"]), (&json!(ALL), &json!(1)));
    assert_eq!(files(&remote.path("v1")), there);
}

#[test]
fn stages_that_are_not_there_are_told() {
    let (folder, remote) = (checkout(), Folder::new());
    let (path, plain) = (remote.path("."), checkout());
    let remote = ["--remote", path.to_str().unwrap()];
    folder.print(&["run", "pipeline.yaml", "events", "-q"]);
    let text = folder.print(&[&["cache", "push", "pipeline.yaml"], &remote[..]].concat());
    assert!(
        text.contains("1 result pushed")
            && text.contains("have no result here: `pgan-pipe run` makes them: base, frozen"),
        "{text}"
    );
    let pulled = last(&plain, 0, &[&["cache", "pull", "pipeline.yaml"], &remote[..]].concat());
    assert_eq!((&pulled["pulled"], &pulled["absent"]), (&json!(["events"]), &json!(["base", "frozen"])));
    last(&plain, 1, &[&["cache", "pull", "pipeline.yaml", "frozen"], &remote[..]].concat());
    last(&folder, 1, &[&["cache", "push", "pipeline.yaml", "frozen"], &remote[..]].concat());
    // A run pulls what there is, makes the rest, and gives it.
    let finished = last(&plain, 0, &[&["run", "pipeline.yaml"], &remote[..]].concat());
    assert_eq!(finished["ran"], json!(["base", "frozen"]));
    assert_eq!(
        last(&folder, 0, &[&["cache", "pull", "pipeline.yaml"], &remote[..]].concat())["pulled"],
        json!(["base", "frozen"])
    );
}

#[test]
fn of_two_results_of_a_key_the_remote_keeps_the_first() {
    let (one, other, remote) = (made(), made(), Folder::new());
    let path = remote.path(".");
    let remote = ["--remote", path.to_str().unwrap()];
    // As if the device were not deterministic: another model under the same key.
    let record = files(&other.path("cache/v1/records"))
        .into_iter()
        .find(|(_, text)| String::from_utf8_lossy(text).contains("\"kind\":\"freeze\""));
    let (name, text) = record.unwrap();
    let mut record: Value = serde_json::from_slice(&text).unwrap();
    let (_, object) = objects(&other).into_iter().next().unwrap();
    record["outputs"] = json!({ "model.json": { "digest": Digest::of(&object), "size": object.len() } });
    fs::write(other.path("cache/v1/records").join(name), sealed(&record)).unwrap();

    one.print(&[&["cache", "push", "pipeline.yaml"], &remote[..]].concat());
    let before = files(&path);
    let told = error(&other, 0, &[&["cache", "push", "pipeline.yaml"], &remote[..]].concat());
    assert!(told.contains("frozen: the remote holds another result of the same key, which stays"), "{told}");
    let records = |files: BTreeMap<PathBuf, Vec<u8>>| {
        files.into_iter().filter(|(path, _)| path.starts_with("v1/records")).collect::<Vec<_>>()
    };
    assert_eq!(records(files(&path)), records(before.clone()));
    other.print(&[&["cache", "push", "pipeline.yaml", "--overwrite"], &remote[..]].concat());
    assert_ne!(records(files(&path)), records(before));
}

/// The text of a record with a seal that fits, as a hostile remote would make it.
fn sealed(record: &Value) -> Vec<u8> {
    let mut body = record.clone();
    let fields = body.as_object_mut().unwrap();
    fields.remove("version");
    fields.remove("check");
    let body = serde_json::to_string(&body).unwrap();
    format!("{{\"version\":1,\"check\":\"{}\",{}\n", Digest::of(body.as_bytes()), &body[1..]).into_bytes()
}

#[test]
fn whatever_is_deleted_from_a_remote_no_result_is_wrong() {
    let source = made();
    let whole = files(&source.path("cache/v1"));
    let names: Vec<&PathBuf> = whole.keys().filter(|p| p.starts_with("objects") || p.starts_with("records")).collect();
    for round in 0..1 << names.len().min(4) {
        let remote = Folder::new();
        for (i, name) in names.iter().enumerate() {
            // Each subset of four of the files, the others by turns.
            let stays = if i < 4 { round >> i & 1 == 1 } else { (round + i) % 3 > 0 };
            if stays {
                let path = remote.path("v1").join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &whole[*name]).unwrap();
            }
        }
        let (folder, path) = (checkout(), remote.path("."));
        let remote_path = path.to_str().unwrap();
        folder.print(&["cache", "pull", "pipeline.yaml", "-q", "--remote", remote_path]);
        folder.print(&["cache", "verify"]);
        let finished = last(&folder, 0, &["run", "pipeline.yaml", "--remote", remote_path]);
        assert_eq!(finished["failed"], json!([]));
        assert_eq!(objects(&folder), objects(&source), "round {round}");
    }
}
