//! The verbs that run nothing.

use std::{process::Stdio, time::Instant};

mod program;

use program::Folder;

fn error(folder: &Folder, code: i32, arguments: &[&str]) -> String {
    let output = folder.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

#[test]
fn help_is_quick_and_shows_every_verb() {
    let folder = Folder::new();
    let started = Instant::now();
    let help = folder.print(&["--help"]);
    assert!(started.elapsed().as_secs_f64() < 0.5);
    for verb in [
        "init", "check", "plan", "run", "submit", "cancel", "status", "graph", "show", "sample", "export", "devices",
        "cache",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}\n{help}");
    }
    assert!(!help.contains("worker"));
}

#[test]
fn the_help_of_run_reads_well() {
    insta::assert_snapshot!("help_of_run", Folder::new().print(&["run", "--help"]));
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let folder = Folder::new();
    error(&folder, 2, &[]);
    error(&folder, 2, &["fly"]);
    error(&folder, 2, &["run"]);
    error(&folder, 2, &["run", "p.yaml", "--set", "steps"]);
    error(&folder, 2, &["run", "p.yaml", "--jobs", "0"]);
    assert!(error(&folder, 2, &["run", "p.yaml", "--device", "gpu"]).contains("unknown device `gpu`"));
}

#[test]
fn init_writes_a_valid_pipeline_and_never_overwrites() {
    let folder = Folder::with_pipeline();
    assert!(folder.print(&["check", "pipeline.yaml"]).contains("valid, 6 stages"));
    std::fs::write(folder.path("pipeline.yaml"), "mine").unwrap();
    std::fs::remove_file(folder.path("events/test.parquet")).unwrap();
    assert!(error(&folder, 2, &["init"]).contains("exists already; nothing was written"));
    assert!(!folder.path("events/test.parquet").exists());
    assert_eq!(std::fs::read_to_string(folder.path("pipeline.yaml")).unwrap(), "mine");
}

#[test]
fn init_makes_the_folder_that_it_is_given() {
    let folder = Folder::new();
    let text = folder.print(&["init", "a/study"]);
    assert!(text.contains("next:\n  cd a/study\n  pgan-pipe plan pipeline.yaml"), "{text}");
    assert!(folder.print(&["check", "a/study/pipeline.yaml"]).contains("valid"));
}

#[test]
fn init_into_a_file_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.path("study"), "").unwrap();
    assert!(error(&folder, 2, &["init", "study"]).contains("study is no folder"));
}

#[test]
fn negative_numbers_are_taken_for_numbers_and_refused_as_such() {
    let folder = Folder::new();
    assert!(error(&folder, 2, &["run", "p.yaml", "--jobs", "-1"]).contains("-1 is not in 1..=65535"));
    let sample = ["sample", "p.yaml", "base", "-o", "a.csv"];
    assert!(error(&folder, 2, &[&sample[..], &["-n", "-5"]].concat()).contains("expected a whole number above 0"));
    let seed = [&sample[..], &["-n", "5", "--seed", "-1"]].concat();
    assert!(error(&folder, 2, &seed).contains("expected a whole number from 0 to 18446744073709551615"));
}

#[test]
fn sample_says_before_it_draws_that_its_file_cannot_be_written() {
    let folder = Folder::with_pipeline();
    std::fs::create_dir(folder.path("taken.csv")).unwrap();
    let sample = |file| error(&folder, 3, &["sample", "pipeline.yaml", "boosted", "-n", "10", "-o", file]);
    assert!(sample("nowhere/a.csv").contains("cannot write nowhere/a.csv: there is no folder nowhere"));
    assert!(sample("taken.csv").contains("cannot write taken.csv: it is a folder"));
}

#[test]
fn graph_draws_the_stages_in_every_format() {
    let folder = Folder::with_pipeline();
    insta::assert_snapshot!("graph", folder.print(&["graph", "pipeline.yaml"]));
    assert!(folder.print(&["graph", "pipeline.yaml", "--format", "mermaid"]).starts_with("flowchart TD\n"));
    assert!(folder.print(&["graph", "pipeline.yaml", "--format", "dot"]).starts_with("digraph pipeline {\n"));
    assert!(folder.print(&["graph", "pipeline.yaml", "--format", "svg"]).starts_with("<svg "));
}

#[test]
fn plan_says_what_would_run_and_with_exit_code_4_that_it_is_out_of_date() {
    let folder = Folder::with_pipeline();
    insta::assert_snapshot!("plan", folder.print(&["plan", "pipeline.yaml"]));
    assert_eq!(folder.print(&["run", "pipeline.yaml", "--dry-run"]), folder.print(&["plan", "pipeline.yaml"]));
    error(&folder, 4, &["plan", "pipeline.yaml", "--exit-code"]);
    error(&folder, 4, &["status", "pipeline.yaml", "--exit-code"]);
    assert!(!folder.path("cache").exists());
}

#[test]
fn json_lines_are_objects_with_an_event() {
    let folder = Folder::with_pipeline();
    for verb in ["plan", "status"] {
        for line in folder.print(&[verb, "pipeline.yaml", "--json"]).lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["event"].is_string(), "{line}");
        }
    }
}

#[test]
fn an_unknown_stage_is_wrong_usage() {
    let folder = Folder::with_pipeline();
    for verb in ["plan", "run", "show"] {
        assert!(error(&folder, 2, &[verb, "pipeline.yaml", "bosted"]).contains("did you mean `boosted`?"));
    }
}

#[test]
fn what_has_not_run_cannot_be_shown_or_sampled() {
    let folder = Folder::with_pipeline();
    let message = error(&folder, 1, &["show", "pipeline.yaml", "boosted"]);
    assert!(message.contains("run it first: pgan-pipe run pipeline.yaml boosted"), "{message}");
    error(&folder, 1, &["sample", "pipeline.yaml", "boosted", "-n", "10", "-o", "x.csv"]);
    let message = error(&folder, 2, &["sample", "pipeline.yaml", "events", "-n", "10", "-o", "x.csv"]);
    assert!(message.contains("makes a dataset, which cannot be sampled"), "{message}");
    error(&folder, 2, &["sample", "pipeline.yaml", "boosted", "-n", "10", "-o", "x.root"]);
    assert!(!folder.path("x.csv").exists());
}

#[test]
fn a_cache_that_is_not_there_is_said_not_to_be_and_is_not_made() {
    let folder = Folder::new();
    for verb in ["ls", "verify"] {
        assert!(folder.print(&["cache", verb]).contains("there is no cache at cache"));
    }
    assert!(folder.is_empty());
}

#[test]
fn an_empty_cache_lists_nothing_and_is_intact() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("cache")).unwrap();
    assert_eq!(folder.print(&["cache", "ls"]), "0 results in cache, 0 B\n");
    assert!(folder.print(&["cache", "verify"]).contains("all intact"));
}

#[test]
fn a_snakefile_has_a_rule_for_each_stage_and_replica_with_what_it_takes() {
    let folder = Folder::new();
    let pipeline = "name: p\nreplicas: 2\nstages:\n  \
                    all: { kind: dataset, file: my events.npy, resources: { memory: 1GiB, threads: 2 } }\n  \
                    base: { kind: train_gan, data: all, steps: 5, resources: { gpu: 0.5 } }\n  \
                    judged: { kind: evaluate, data: all, models: [base] }\n";
    std::fs::write(folder.path("p.yaml"), pipeline).unwrap();
    let arguments =
        ["export", "p.yaml", "--format", "snakemake", "--set", "base.steps=7", "--set", "all.split={test: 0.5}"];
    insta::assert_snapshot!("snakefile", folder.print(&arguments));
    error(&folder, 2, &["export", "p.yaml", "--format", "make"]);
}

#[test]
fn devices_lists_the_cpu() {
    assert!(Folder::new().print(&["devices"]).contains("cpu"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = Folder::with_pipeline();
    for arguments in [&["graph", "pipeline.yaml"][..], &["plan", "pipeline.yaml", "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = folder.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn help_as_a_verb_is_the_help_of_the_verb_after_it() {
    let folder = Folder::new();
    assert_eq!(folder.print(&["help"]), folder.print(&["--help"]));
    for verb in [&["run"][..], &["cache"], &["cache", "gc"]] {
        assert_eq!(folder.print(&[&["help"], verb].concat()), folder.print(&[verb, &["--help"]].concat()));
    }
    assert!(error(&folder, 2, &["help", "fly"]).contains("unrecognized subcommand 'fly'"));
}

#[test]
fn a_tag_with_too_long_a_name_is_told_the_limit() {
    let folder = Folder::with_pipeline();
    let told = error(&folder, 2, &["cache", "tag", &"a".repeat(101), "pipeline.yaml"]);
    assert!(told.contains("at most 100 characters; this one has 101"), "{told}");
}
