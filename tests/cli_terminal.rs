//! Texts of others, through the program: nothing in them acts on a terminal.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use pgan_pipe::digest::Digest;
use serde_json::Value;

mod program;

use program::Folder;

/// Clears the screen, sets its title, hides, turns the direction, deletes: as ESC and as the C1 character for it.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}8m\u{8}\r\u{7f}\u{202e}\u{2066}z";

/// All that was printed, in which nothing acts on a terminal.
fn harmless(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).concat();
    let acts = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{text:?}");
    text
}

/// Runs the program, whose output must name the hostile text in a form that can be read.
fn shown(folder: &Folder, arguments: &[&str]) -> String {
    let text = harmless(&folder.run(arguments));
    assert!(text.contains("owned"), "{arguments:?}: {text}");
    text
}

fn pipeline(column: &str) -> String {
    let column: String =
        column.chars().flat_map(|c| format!("\\u{:04x}", u32::from(c)).into_bytes()).map(char::from).collect();
    format!(
        "name: hostile\nseed: 1\nstages:\n  events: {{ kind: dataset, file: events.csv, features: [\"{column}\"] }}\n  base:\n    kind: \
         train_gan\n    data: events\n    generator: {{ layers: [4], latent: 2 }}\n    discriminator: {{ layers: [4] }}\n    \
         steps: 2\n    batch: 8\n"
    )
}

/// A folder whose events have a column of a hostile name.
fn bench() -> Folder {
    let folder = Folder::new();
    let head = format!("\"{HOSTILE}\",b\n");
    let events = (0..60).fold(head, |text, i| format!("{text}{},{i}\n", f64::from(i) / 7.0));
    fs::write(folder.path("events.csv"), events).unwrap();
    fs::write(folder.path("pipeline.yaml"), pipeline("missing")).unwrap();
    folder
}

#[test]
fn a_column_of_a_file_is_shown_and_does_not_act() {
    let folder = bench();
    assert!(shown(&folder, &["check", "pipeline.yaml"]).contains(r"\u{1b}]0;owned\u{7}\u{9b}8m"));
    shown(&folder, &["run", "pipeline.yaml"]);
    // YAML escapes are read: the name itself is in the plan.
    fs::write(folder.path("pipeline.yaml"), pipeline(HOSTILE)).unwrap();
    let output = folder.run(&["run", "pipeline.yaml"]);
    assert!(output.status.success(), "{}", harmless(&output));
    harmless(&output);
    let other = ["sample", "pipeline.yaml", "base", "-n", "5", "-o", "out.csv", "--where", "none > 1"];
    shown(&folder, &other);
    for arguments in
        [&["plan", "pipeline.yaml"][..], &["show", "pipeline.yaml"], &["check", "pipeline.yaml", "--set", HOSTILE]]
    {
        harmless(&folder.run(arguments));
    }
    for arguments in [["show", "pipeline.yaml", "--json"], ["run", "pipeline.yaml", "--json"]] {
        let output = folder.run(&arguments);
        harmless(&output);
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
}

#[test]
fn arguments_are_shown_and_do_not_act() {
    let folder = bench();
    let option = format!("--{HOSTILE}");
    let assigned = format!("--device={HOSTILE}");
    let (parameter, pack) = (format!("{HOSTILE}=1"), format!("{HOSTILE}.pgan"));
    for arguments in [
        &[HOSTILE][..],
        &["run", &option],
        &["run", "pipeline.yaml", &assigned],
        &["run", "pipeline.yaml", "--jobs", HOSTILE],
        &["run", HOSTILE],
        &["run", "pipeline.yaml", HOSTILE],
        &["run", "pipeline.yaml", "--set", HOSTILE],
        &["check", "pipeline.yaml", "--set", &parameter],
        &["sample", "pipeline.yaml", "events", "-n", HOSTILE, "-o", "a.csv"],
        &["sample", "pipeline.yaml", "events", "-n", "5", "-o", HOSTILE],
        &["schema", HOSTILE],
        &["completions", HOSTILE],
        &["unpack", &pack],
        &["diff", HOSTILE, HOSTILE],
        &["cache", "ls", "--cache", HOSTILE],
        &["cache", "push", "pipeline.yaml", "--remote", HOSTILE],
    ] {
        let output = folder.run(arguments);
        let text = harmless(&output);
        assert!(text.contains("owned"), "{arguments:?}: {text}");
        assert!(output.status.code() != Some(101), "{arguments:?}: {text}");
    }
}

/// The text of a record with a seal that fits.
fn sealed(mut record: Value) -> String {
    let fields = record.as_object_mut().unwrap();
    fields.remove("version");
    fields.remove("check");
    let body = serde_json::to_string(&record).unwrap();
    format!("{{\"version\":1,\"check\":\"{}\",{}\n", Digest::of(body.as_bytes()), &body[1..])
}

#[test]
fn a_record_of_others_is_shown_and_does_not_act() {
    let folder = bench();
    fs::write(folder.path("pipeline.yaml"), pipeline(HOSTILE)).unwrap();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    for line in folder.print(&["cache", "ls", "--json"]).lines() {
        let key = serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned();
        let path = folder.path(&format!("cache/v1/records/{}/{key}.json", &key[..2]));
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for field in ["stage", "pipeline", "version", "device", "host", "started"] {
            record["provenance"][field] = HOSTILE.into();
        }
        record["notices"] = [HOSTILE].as_slice().into();
        fs::remove_file(&path).unwrap();
        fs::write(&path, sealed(record)).unwrap();
    }
    for arguments in [
        &["cache", "ls"][..],
        &["cache", "ls", "--json"],
        &["show", "pipeline.yaml"],
        &["show", "pipeline.yaml", "--json"],
        &["status", "pipeline.yaml"],
    ] {
        shown(&folder, arguments);
    }
    harmless(&folder.run(&["cache", "verify"]));
    harmless(&folder.run(&["plan", "pipeline.yaml", "--set", "base.steps=3"]));
    // Nobody can hand it on.
    folder.print(&["pack", "pipeline.yaml", "-o", "hostile.pgan"]);
    let output = folder.run(&["unpack", "hostile.pgan", "-C", "out"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(harmless(&output).contains("control characters"));
    let output = folder.run(&["cache", "pull", "pipeline.yaml", "--remote", "cache", "--cache", "other"]);
    assert_eq!(output.status.code(), Some(5));
    harmless(&output);
}

#[test]
fn the_last_lines_of_a_workers_log_are_shown_and_do_not_act() {
    let folder = bench();
    fs::write(folder.path("pipeline.yaml"), pipeline(HOSTILE)).unwrap();
    let worker = folder.path("worker");
    fs::write(folder.path("last"), HOSTILE).unwrap();
    fs::write(&worker, format!("#!/bin/sh\ncat {} >&2\nexit 9\n", folder.path("last").display())).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    for more in [&[][..], &["--json"]] {
        let run = ["run", "pipeline.yaml", "--worker", worker.to_str().unwrap()];
        let text = shown(&folder, &[&run, more].concat());
        assert!(text.contains("ended with exit code 9"), "{text}");
    }
}
