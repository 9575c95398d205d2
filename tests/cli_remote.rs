//! Results that go to a remote and come back: a folder, a web server, and whatever these may do wrong.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pgan_pipe::digest::Digest;
use serde_json::{Value, json};

mod program;
mod web;

use program::Folder;
use web::{Answer, Web};

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
fn no_poison_is_swallowed_and_a_run_makes_what_it_cannot_take() {
    let source = made();
    let web = Web::of(&source.path("cache"));
    let honest = objects(&source);
    let html = || Answer::Body { bytes: b"<!DOCTYPE html><p>Sign in</p>".to_vec(), length: 29 };
    let of_record = |change: fn(&mut Value)| {
        move |path: &str, text: &[u8]| match serde_json::from_slice::<Value>(text) {
            Ok(mut record) if path.contains("records") => {
                change(&mut record);
                let bytes = sealed(&record);
                Answer::Body { length: bytes.len(), bytes }
            }
            _ => Answer::Honest,
        }
    };
    type Manner = Box<dyn Fn(&str, &[u8]) -> Answer + Send>;
    let object = |change: fn(&mut Vec<u8>)| -> Manner {
        Box::new(move |path, bytes| {
            let mut bytes = bytes.to_vec();
            if path.contains("records") {
                return Answer::Honest;
            }
            change(&mut bytes);
            Answer::Body { length: bytes.len(), bytes }
        })
    };
    let cases: Vec<(&str, i32, &str, Manner)> = vec![
        ("altered object", 5, "of other content than its name says", object(|bytes| bytes[0] ^= 1)),
        ("short object", 5, "bytes and not of", object(|bytes| bytes.truncate(3))),
        ("long object", 5, "bytes and not of", object(|bytes| bytes.extend([0; 100]))),
        ("empty object", 5, "of 0 bytes and not of", object(Vec::clear)),
        (
            "page for an object",
            5,
            "of 29 bytes and not of",
            Box::new(move |path, _| if path.contains("objects") { html() } else { Answer::Honest }),
        ),
        ("page for a record", 5, "begins with `<!DOCTYPE html><p>Sign in</p>`", Box::new(move |_, _| html())),
        (
            "torn record",
            5,
            "is torn, altered or no record",
            Box::new(|path, text| match path.contains("records") {
                true => Answer::Body { bytes: text[..text.len() / 2].to_vec(), length: text.len() / 2 },
                false => Answer::Honest,
            }),
        ),
        (
            "name that leads elsewhere",
            5,
            "has a file of the name `../../../escaped`",
            Box::new(of_record(|record| {
                let output = record["outputs"].as_object().unwrap().values().next().unwrap().clone();
                record["outputs"]["../../../escaped"] = output;
            })),
        ),
        (
            "absurd size",
            5,
            "has a file of 18446744073709551615 bytes",
            Box::new(of_record(|record| {
                for output in record["outputs"].as_object_mut().unwrap().values_mut() {
                    output["size"] = json!(u64::MAX);
                }
            })),
        ),
        (
            "more than the disk holds",
            3,
            "there is no room for",
            Box::new(of_record(|record| {
                for output in record["outputs"].as_object_mut().unwrap().values_mut() {
                    output["size"] = json!(1_u64 << 60);
                }
            })),
        ),
        (
            "record of other material",
            5,
            "is not made of what its key says",
            Box::new(of_record(|record| record["material"]["seed"] = json!(7))),
        ),
        (
            "record of another key",
            5,
            "is of another key",
            Box::new(of_record(|record| record["key"] = json!("0".repeat(64)))),
        ),
        (
            "object that is gone",
            0,
            "is not there although the remote has a record of it",
            Box::new(|path, _| match path.contains("objects") {
                true => Answer::Status(404),
                false => Answer::Honest,
            }),
        ),
        ("refusal", 6, "permission denied; check the credentials", Box::new(|_, _| Answer::Status(403))),
    ];
    for (name, code, said, manner) in cases {
        web.says(manner);
        let folder = checkout();
        let told = error(&folder, code, &["cache", "pull", "pipeline.yaml", "--remote", &web.url()]);
        assert!(told.contains(said), "{name}: {told}");
        assert!(objects(&folder).iter().all(|(path, bytes)| honest.get(path) == Some(bytes)), "{name}: stored");
        folder.print(&["cache", "verify"]);
        let finished = last(&folder, 0, &["run", "pipeline.yaml", "--remote", &web.url()]);
        assert_eq!(finished["failed"], json!([]), "{name}");
        assert_eq!(objects(&folder), honest, "{name}");
    }
    assert!(!source.path("escaped").exists());
}

#[test]
fn a_body_that_is_cut_off_is_asked_for_again() {
    let source = made();
    let web = Web::of(&source.path("cache"));
    let cut = std::sync::atomic::AtomicUsize::new(0);
    web.says(move |path, bytes| {
        let first = cut.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
        match path.contains("objects") && first {
            true => Answer::Body { bytes: bytes[..bytes.len() / 2].to_vec(), length: bytes.len() },
            false => Answer::Honest,
        }
    });
    let folder = checkout();
    folder.print(&["cache", "pull", "pipeline.yaml", "--remote", &web.url()]);
    assert_eq!(objects(&folder), objects(&source));
}

#[test]
fn a_remote_that_hangs_or_is_down_costs_a_run_its_timeout_once() {
    let (folder, web) = (checkout(), Web::of(Path::new("/nowhere")));
    web.says(|_, _| Answer::Silence);
    fs::write(folder.path("pgan.toml"), format!("[remote]\nurl = \"{}\"\ntimeout = 1\n", web.url())).unwrap();
    let since = Instant::now();
    let output = folder.run(&["run", "pipeline.yaml", "--json"]);
    assert!(output.status.success() && since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("no answer for 1 s; the run goes on without the remote").count(), 1, "{told}");
    assert_eq!(web.requests(), 1, "it is asked once");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"event\":\"remote_trouble\""));

    let plan = folder.run(&["plan", "pipeline.yaml", "--set", "base.steps=21"]);
    assert!(plan.status.success() && String::from_utf8_lossy(&plan.stderr).starts_with("warning: cannot read http://"));
    // Nothing is asked where nothing is missing.
    let before = web.requests();
    folder.print(&["run", "pipeline.yaml"]);
    folder.print(&["run", "pipeline.yaml", "--no-remote", "--set", "base.steps=21"]);
    assert_eq!(web.requests(), before);

    let nowhere = checkout();
    let told = error(&nowhere, 0, &["run", "pipeline.yaml", "-q", "--remote", "/nowhere/at/all"]);
    assert!(told.contains("warning: cannot use /nowhere/at/all: there is no such folder; is it mounted?"), "{told}");
    assert!(told.contains("warning: 3 results are not pushed to /nowhere/at/all"), "{told}");
    let told = error(&nowhere, 6, &["cache", "push", "pipeline.yaml", "--remote", "/nowhere/at/all"]);
    assert!(told.contains("make it with `mkdir`"), "{told}");
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

#[test]
fn what_has_rotted_here_is_not_given_away() {
    let (folder, remote) = (made(), Folder::new());
    let (name, mut bytes) = objects(&folder).into_iter().next().unwrap();
    let object = folder.path("cache/v1/objects").join(name);
    bytes[0] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
    let path = remote.path(".");
    let told = error(&folder, 5, &["cache", "push", "pipeline.yaml", "--remote", path.to_str().unwrap()]);
    assert!(told.contains("is corrupted in the cache and cannot be sent; run again"), "{told}");
    let there = files(&path);
    assert!(there.iter().filter(|(path, _)| path.starts_with("v1/objects")).all(|(path, bytes)| {
        let name: String = path.iter().skip(2).map(|part| part.to_string_lossy().into_owned()).collect();
        Digest::of(bytes).to_string() == name
    }));
}

#[test]
fn mistakes_in_addresses_and_settings_are_shown_without_what_is_secret() {
    let folder = checkout();
    let pull = ["cache", "pull", "pipeline.yaml"];
    assert!(error(&folder, 2, &pull).contains("no remote is named: give `--remote URL|DIR`"));
    for (text, said) in [
        (
            "[remote]\nurl = \"s3://bucket\"\nsecret_access_key = \"hush\"\n",
            "pgan.toml:3:1: `secret_access_key` looks like a credential",
        ),
        (
            "[remote]\nurl = \"https://me:hush@host/a\"\n",
            "pgan.toml:2:7: this `https://` address holds a user name or password",
        ),
        (
            "[remote]\nurl = \"s3://bucket\"\nendpoint = \"http://me:hush@host\"\n",
            "pgan.toml:3:12: `endpoint` holds a credential",
        ),
        ("[remote]\nulr = \"s3://bucket\"\n", "pgan.toml:2:1: `ulr` is no setting; did you mean `url`?"),
        ("[remote]\nurl = \"s3://bucket\"\npush = \"hush\"\n", "pgan.toml:3:8: `push` is true or false"),
        ("[remote]\nurl = \"s3://bucket\"\ntimeout = 0\n", "pgan.toml:3:11: `timeout` is a number of seconds"),
        ("[remtoe]\nurl = \"s3://bucket\"\n", "pgan.toml:1:2: `remtoe` is no setting; did you mean `remote`?"),
        ("[remote]\nurl = \"hush\n", "pgan.toml:2:"),
        ("remote = 1\n", "pgan.toml:1:1: `remote` is a table: write [remote]"),
    ] {
        fs::write(folder.path("pgan.toml"), text).unwrap();
        let told = error(&folder, 2, &pull);
        assert!(told.contains(said) && !told.contains("hush"), "{told}");
        assert_eq!(error(&folder, 2, &["run", "pipeline.yaml"]), told);
    }
    fs::remove_file(folder.path("pgan.toml")).unwrap();
    let told = error(&folder, 2, &["run", "pipeline.yaml", "--remote", "s3://me:hush@bucket"]);
    assert!(told.contains("credentials are taken from the environment") && !told.contains("hush"), "{told}");
    assert!(files(&folder.path("cache")).values().all(|text| !String::from_utf8_lossy(text).contains("hush")));
    assert!(error(&folder, 2, &[&pull[..], &["--remote", "ftp://host"]].concat()).contains("write a folder, s3://"));
    assert!(
        error(&folder, 2, &["cache", "push", "pipeline.yaml", "--remote", "http://127.0.0.1:1"]).contains("read-only")
    );
    assert!(
        error(&folder, 6, &[&pull[..], &["--remote", "http://127.0.0.1:1"]].concat()).contains("Connection refused")
    );
}
