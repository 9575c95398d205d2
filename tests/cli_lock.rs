//! Locks, through the program: another place reproduces what was locked, or is told what differs.

use std::fs;

use serde_json::Value;

mod program;

use program::Folder;

const PIPELINE: &str = "\
name: locked
seed: 1
params: { steps: 20 }
stages:
  events: { kind: dataset, file: events.csv, coordinates: { x: log } }
  base:
    kind: train_gan
    data: events
    generator: { layers: [4], latent: 2 }
    discriminator: { layers: [4] }
    steps: ${params.steps}
    batch: 8
  frozen: { kind: freeze, model: base }
";

fn place() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    fs::write(folder.path("events.csv"), events(1.0)).unwrap();
    folder
}

fn events(first: f64) -> String {
    (0..60).fold("x\n".to_owned(), |text, i| format!("{text}{}\n", first + f64::from(i) / 7.0))
}

/// A place with a lock, and the lock's text.
fn locked() -> (Folder, String) {
    let folder = place();
    folder.print(&["run", "pipeline.yaml", "-q", "--lock"]);
    let lock = fs::read_to_string(folder.path("pipeline.lock")).unwrap();
    (folder, lock)
}

/// Another place with this lock.
fn elsewhere(lock: &str) -> Folder {
    let folder = place();
    fs::write(folder.path("pipeline.lock"), lock).unwrap();
    folder
}

/// Runs by the lock, which must end with this code and say these words.
fn refused(folder: &Folder, arguments: &[&str], code: i32, words: &[&str]) {
    let output = folder.run(&[&["run", "pipeline.yaml", "--locked"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn what_was_locked_is_reproduced_elsewhere_and_locked_again_as_it_was() {
    let (_, lock) = locked();
    let other = elsewhere(&lock);
    other.print(&["run", "pipeline.yaml", "-q", "--locked"]);
    other.print(&["run", "pipeline.yaml", "-q", "--locked", "--force", "base"]);
    other.print(&["run", "pipeline.yaml", "-q", "--lock"]);
    assert_eq!(fs::read_to_string(other.path("pipeline.lock")).unwrap(), lock);
    for private in [other.path(""), "argv".into(), "started".into()] {
        assert!(!lock.contains(&*private.to_string_lossy()), "{}", private.display());
    }
}

#[test]
fn a_pipeline_or_a_source_that_is_not_as_locked_is_refused_before_anything_runs() {
    let (folder, lock) = locked();
    refused(&folder, &["--set", "steps=30"], 4, &["base: `steps` 20 → 30"]);
    refused(&folder, &["--set", "steps=30"], 4, &["the lock was made without `--set`"]);
    refused(&folder, &["--set", "seed=2"], 4, &["events: seed 1 → 2", "base: seed 1 → 2"]);
    fs::write(folder.path("events.csv"), events(2.0)).unwrap();
    refused(&folder, &[], 4, &["events: source file events.csv changed"]);

    let renamed = elsewhere(&lock);
    fs::write(renamed.path("pipeline.yaml"), PIPELINE.replace("frozen:", "frosen:")).unwrap();
    refused(&renamed, &[], 4, &["frosen: is not in the lock", "frozen: is in the lock alone; is it `frosen` now?"]);
    assert!(!renamed.path("cache/v1/records").exists(), "nothing ran");
}

#[test]
fn a_result_that_is_not_as_locked_fails_its_stage_and_stays_in_the_cache() {
    let (_, text) = locked();
    let mut lock: Value = serde_json::from_str(&text).unwrap();
    // As if it had been made elsewhere: other bytes of `base`, of which `frozen` was made.
    let outputs = lock["stages"]["base"]["outputs"].as_object_mut().unwrap();
    let file = outputs.keys().next().unwrap().clone();
    outputs[&file]["digest"] = Value::from("ab".repeat(32));
    lock["stages"]["base"]["device"] = Value::from("libtorch");
    let altered = serde_json::to_string_pretty(&lock).unwrap();
    let other = elsewhere(&altered);
    // A lock that does not fit itself, as after a bad merge.
    refused(&other, &[], 4, &["frozen: input `model` (stage `base`) changed"]);

    lock["stages"].as_object_mut().unwrap().remove("frozen");
    fs::write(other.path("pipeline.lock"), serde_json::to_string_pretty(&lock).unwrap()).unwrap();
    fs::write(other.path("pipeline.yaml"), PIPELINE.split("  frozen").next().unwrap()).unwrap();
    let words = ["base: failed", &format!("`{file}`"), "locked is abababab", "on libtorch", "stays in the cache"];
    refused(&other, &[], 1, &words);
    refused(&other, &[], 1, &words);
    other.print(&["status", "pipeline.yaml", "--exit-code"]);
}

#[test]
fn a_lock_that_is_not_there_or_cannot_be_read_is_named_with_what_to_do() {
    let folder = place();
    refused(&folder, &[], 2, &["pipeline.lock", "run pipeline.yaml --lock"]);
    let (_, lock) = locked();
    for (bad, words) in [
        (&lock[..lock.len() / 2], "pipeline.lock:"),
        (&*lock.replace("\"version\": 1,\n  \"pipe", "\"version\": 9,\n  \"pipe"), "pipeline.lock"),
        (&*lock.replace("\"steps\": 20", "\"steps\": 21"), "the key of `base` does not fit"),
        ("[]", "pipeline.lock:1:"),
    ] {
        fs::write(folder.path("pipeline.lock"), bad).unwrap();
        refused(&folder, &[], 2, &[words]);
    }
    for what in [["--lock", "base"], ["--lock", "--locked"], ["--lock", "--dry-run"], ["--locked", "--dry-run"]] {
        let output = folder.run(&[&["run", "pipeline.yaml"], &what[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{what:?}");
    }
}

#[test]
fn a_lock_with_conflict_marks_is_told_with_their_line() {
    let (folder, lock) = locked();
    let lines: Vec<&str> = lock.lines().collect();
    let (before, after) = lines.split_at(4);
    let sides = "<<<<<<< HEAD\n  \"version\": 1\n=======\n  \"version\": 2\n>>>>>>> other";
    fs::write(folder.path("pipeline.lock"), [&before.join("\n"), sides, &after.join("\n")].join("\n")).unwrap();
    let told = ["pipeline.lock:5: ", "it holds conflict marks of a merge; write it anew with `run --lock`"];
    refused(&folder, &[], 2, &told);
    folder.print(&["run", "pipeline.yaml", "-q", "--lock"]);
    assert_eq!(fs::read_to_string(folder.path("pipeline.lock")).unwrap(), lock);
}
