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

/// Standard error of a command that must succeed, in the folder `elsewhere`.
fn told_elsewhere(folder: &Folder, arguments: &[&str]) -> String {
    let output = folder.command(arguments).current_dir(folder.path("elsewhere")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn a_run_from_elsewhere_says_where_its_cache_is_and_that_one_lies_beside_the_pipeline() {
    let folder = Folder::new();
    let stage = "events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 100 } }";
    std::fs::create_dir_all(folder.path("elsewhere")).unwrap();
    std::fs::create_dir_all(folder.path("study")).unwrap();
    std::fs::write(folder.path("study/p.yaml"), format!("stages:\n  {stage}\n")).unwrap();
    let told = told_elsewhere(&folder, &["run", "../study/p.yaml"]);
    let kept = folder.path("elsewhere").canonicalize().unwrap().join("cache").display().to_string();
    assert!(told.contains(&format!("a new cache: results are kept in {kept}\n")), "{told}");
    assert!(!told_elsewhere(&folder, &["run", "../study/p.yaml"]).contains("cache:"), "only of a new one");

    std::fs::rename(folder.path("elsewhere/cache"), folder.path("study/cache")).unwrap();
    let warning = format!(
        "warning: there is no cache in {kept}, and one lies beside the pipeline: `--cache ../study/cache` uses that\n"
    );
    for verb in [&["plan"][..], &["status"], &["run", "--dry-run"], &["run", "-q"], &["pack"]] {
        std::fs::remove_dir_all(folder.path("elsewhere")).unwrap();
        std::fs::create_dir(folder.path("elsewhere")).unwrap();
        let told = told_elsewhere(&folder, &[verb, &["../study/p.yaml"]].concat());
        assert_eq!(told.matches(&warning).count(), 1, "{told}");
    }
    let tag = folder.command(&["cache", "tag", "v1", "../study/p.yaml"]).current_dir(folder.path("elsewhere")).output();
    let tag = tag.unwrap();
    assert_eq!(tag.status.code(), Some(1), "nothing is tagged there");
    assert!(String::from_utf8_lossy(&tag.stderr).contains(&warning), "{tag:?}");
    // From its own folder, by whatever path, there is one cache.
    std::fs::remove_dir_all(folder.path("study/cache")).unwrap();
    for pipeline in ["p.yaml", "../study/p.yaml", "./p.yaml"] {
        let output = folder.command(&["run", pipeline]).current_dir(folder.path("study")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("a new cache: ") && !told.contains("beside the pipeline"), "{told}");
        std::fs::remove_dir_all(folder.path("study/cache")).unwrap();
    }
    folder.command(&["run", "p.yaml"]).current_dir(folder.path("study")).output().unwrap();
    for arguments in [["--cache", "../study/cache"], ["--cache", "cache"]] {
        let told = told_elsewhere(&folder, &[&["run", "../study/p.yaml"], &arguments[..]].concat());
        assert!(!told.contains("beside the pipeline"), "{told}");
    }
}

#[test]
fn an_empty_variable_is_none_and_an_empty_option_a_mistake() {
    let folder = Folder::with_pipeline();
    let mut command = folder.command(&["run", "pipeline.yaml", "events"]);
    let output = command.env("PGAN_CACHE", "").env("PGAN_REMOTE", "").env("PGAN_WORKER", "").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path("cache/v1").is_dir());
    for option in ["--cache", "--remote", "--worker"] {
        for arguments in [["run", "pipeline.yaml", option, ""], ["run", "pipeline.yaml", &format!("{option}="), "-q"]] {
            let output = folder.run(&arguments);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{told}");
            assert!(told.contains(&format!("a value is required for '{option} <")), "{told}");
        }
    }
}
