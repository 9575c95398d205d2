//! The verbs of the cache, through the program.

use std::fs;

use serde_json::Value;

mod program;

use program::Folder;

const PIPELINE: &str = "\
name: kept
seed: 1
params: { events: 500 }
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: '${params.events}' } }
";

fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    for events in ["500", "600"] {
        folder.print(&["run", "pipeline.yaml", "-q", "--set", &format!("events={events}")]);
    }
    folder
}

fn collected(folder: &Folder, arguments: &[&str]) -> Value {
    serde_json::from_str(&folder.print(&[&["cache", "gc", "--json"], arguments].concat())).unwrap()
}

#[test]
fn results_in_use_stay_and_a_named_pipeline_keeps_its_own() {
    let folder = bench();
    let text = folder.print(&["cache", "gc", "--dry-run"]);
    assert!(text.starts_with("would remove 0 results and 0 leftovers, 0 B; 2 results left in "), "{text}");

    let trial = collected(&folder, &["pipeline.yaml", "--keep-days", "0", "--dry-run"]);
    let done = collected(&folder, &["pipeline.yaml", "--keep-days", "0"]);
    assert_eq!((&trial["dry_run"], &trial["removed"]), (&Value::Bool(true), &done["removed"]));
    assert_eq!((done["removed"].as_array().unwrap().len(), done["kept"].as_u64()), (1, Some(1)));
    assert!(done["bytes_freed"].as_u64() > Some(1000) && done["bytes_young"] == 0, "nobody is at work: {done}");
    folder.print(&["status", "pipeline.yaml", "--exit-code"]);
    assert_eq!(folder.print(&["cache", "ls", "--sort", "size"]).lines().count(), 2);

    assert_eq!(collected(&folder, &["--keep-days", "0"])["removed"].as_array().unwrap().len(), 1);
    assert_eq!(folder.run(&["status", "pipeline.yaml", "--exit-code"]).status.code(), Some(4));
    folder.print(&["cache", "verify"]);
    folder.print(&["run", "pipeline.yaml", "-q"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let folder = bench();
    for (arguments, said) in [
        (["--keep-days=-1", "--dry-run"], "from 0"),
        (["--max-size", "big"], "write it with its unit, as in 500MB"),
        (["--max-size", "0"], "is no size"),
    ] {
        let output = folder.run(&[&["cache", "gc"], arguments.as_slice()].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(said), "{error}");
    }
    let output = folder.run(&["cache", "gc", "nowhere.yaml"]);
    assert!(!output.status.success());
    assert_eq!(folder.print(&["cache", "ls"]).lines().count(), 3, "nothing has gone");
}

#[test]
fn a_tag_keeps_results_and_what_was_collected_is_told() {
    let folder = bench();
    let missing = folder.run(&["cache", "tag", "v1", "pipeline.yaml", "--set", "events=700"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nothing is tagged: events"));
    folder.print(&["cache", "tag", "v1", "pipeline.yaml", "--set", "events=600"]);
    assert!(folder.print(&["cache", "tag"]).contains("1 tag"));

    assert_eq!(collected(&folder, &["--keep-days", "0"])["removed"].as_array().unwrap().len(), 1);
    folder.print(&["status", "pipeline.yaml", "--set", "events=600", "--exit-code"]);
    assert!(folder.print(&["plan", "pipeline.yaml"]).contains("taken away by `cache gc`"));

    // What an altered tag keeps is not known: nothing goes.
    let path = folder.path("cache/v1/tags/v1.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("kept", "kepd")).unwrap();
    let refused = folder.run(&["cache", "gc", "--keep-days", "0"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("v1.json"));

    folder.print(&["cache", "tag", "--delete", "v1"]);
    assert_eq!(folder.run(&["cache", "tag", "--delete", "v1"]).status.code(), Some(2));
    assert_eq!(collected(&folder, &["--keep-days", "0"])["removed"].as_array().unwrap().len(), 1);
    assert_eq!(folder.run(&["cache", "tag", "../v1", "pipeline.yaml"]).status.code(), Some(2));
}

#[test]
fn the_files_of_a_result_come_out_of_the_cache() {
    let folder = bench();
    for how in [&[][..], &["--link"]] {
        let said = folder.print(&[&["cache", "get", "pipeline.yaml", "events", "-o", "out/here"], how].concat());
        assert!(said.lines().count() > 0 && said.lines().all(|path| folder.path(path).is_file()), "{said}");
    }
    let never = folder.run(&["cache", "get", "pipeline.yaml", "events", "-o", "out", "--set", "events=900"]);
    assert_eq!(never.status.code(), Some(1));
}
