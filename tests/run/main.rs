//! The executor against a worker that a test writes itself.

mod bench;
mod faults;
mod resources;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bench::{Bench, CAPACITY, HONEST, YAML, failures};
use pgan_pipe::{
    plan::{Plan, StageState},
    run::{Capacity, Event, RunOptions},
    stage::ArtifactKind,
    store::{Lookup, Outcome},
};

#[test]
fn a_pipeline_runs_once_and_is_cached_afterwards() {
    let bench = Bench::new(HONEST);
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.ran, ["events", "base", "frozen", "other", "evaluation"]);
    assert!(summary.cached.is_empty() && summary.failed.is_empty() && summary.cancelled.is_empty());
    assert!(matches!(events.last(), Some(Event::RunFinished { ran, .. }) if *ran == summary.ran));
    assert_eq!(bench.worked().len(), 5);

    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.cached.len(), 5);
    assert_eq!(events.len(), 6, "five stages are cached, and the run is over");
    assert!(bench.worked().is_empty());
}

#[test]
fn a_record_leads_back_to_all_that_made_it() {
    let bench = Bench::new(r#"echo '{"says":"notice","message":"hear"}'; finish x"#);
    let (_, events) = bench.run(YAML);
    let record = bench.record(YAML, "evaluation");
    assert_eq!(record.notices, ["hear"]);
    assert_eq!(record.metrics, [("models[0].ks".to_owned(), 0.5)].into());
    assert_eq!(record.provenance.argv, ["pgan-pipe", "run"]);
    assert_eq!(record.provenance.inputs["models"], ["frozen", "other"]);
    assert_eq!(bench.record(YAML, "events").provenance.sources["file"], Path::new("events.csv"));
    let named = |event: &Event| match event {
        Event::StageFinished { stage, metrics, .. } => stage == "evaluation" && metrics.contains_key("frozen.ks"),
        _ => false,
    };
    assert!(events.iter().any(named));
}

#[test]
fn events_are_flat_json_objects_named_by_event() {
    let bench = Bench::new(HONEST);
    let (_, events) = bench.run(YAML);
    let json: Vec<serde_json::Value> = events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    assert_eq!(json[0]["event"], "stage_started");
    assert_eq!(json[0]["stage"], "events");
    assert_eq!(json[0]["why"][0]["reason"], "never_ran");
    assert_eq!(json.last().unwrap()["event"], "run_finished");
    assert_eq!(json.last().unwrap()["failed"], serde_json::json!([]));
}

#[test]
fn only_what_a_change_reaches_runs_again() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    bench.worked();
    let (summary, events) = bench.run(&YAML.replace("steps: 50", "steps: 60"));
    assert_eq!((summary.ran.len(), summary.cached.len()), (2, 3));
    assert_eq!(bench.worked(), ["train_gan", "evaluate"]);
    let why: Vec<(&str, String)> = events
        .iter()
        .filter_map(|event| match event {
            Event::StageStarted { stage, why, .. } => Some((stage.as_str(), why[0].to_string())),
            _ => None,
        })
        .collect();
    let changed = "input `models` (stage `other`) changed".to_owned();
    assert_eq!(why, [("other", "`steps` 50 → 60".to_owned()), ("evaluation", changed)]);
}

#[test]
fn a_stage_that_reproduces_its_output_leaves_its_dependants_cached() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let (summary, _) = bench.run(&YAML.replace("file: events.csv", "file: events.csv, limit: 5"));
    assert_eq!(summary.ran, ["events"]);
    assert_eq!(summary.cached.len(), 4);
}

#[test]
fn a_failed_stage_fails_with_its_reason_and_cancels_the_rest() {
    let bench = Bench::new(&format!(
        r#"[ "$kind" = freeze ] && {{ echo '{{"says":"failed","message":"it is too cold","kind":"stage"}}'; exit 1; }}; {HONEST}"#
    ));
    let (summary, events) =
        bench.run_with(YAML, &RunOptions { capacity: Capacity { jobs: 1, ..CAPACITY }, ..bench.options() });
    assert_eq!(summary.failed, ["frozen"]);
    assert_eq!(summary.cancelled, ["other", "evaluation"]);
    assert_eq!(failures(&events)[0].1, "it is too cold");
    bench.behave(HONEST);
    assert_eq!(bench.run(YAML).0.cached, ["events", "base"]);
}

#[test]
fn keep_going_cancels_only_what_needs_the_failed_stage() {
    let bench = Bench::new(&format!(r#"[ "$kind" = freeze ] && exit 3; {HONEST}"#));
    let (summary, _) = bench.run_with(
        YAML,
        &RunOptions { keep_going: true, capacity: Capacity { jobs: 1, ..CAPACITY }, ..bench.options() },
    );
    assert_eq!(summary.ran, ["events", "base", "other"]);
    assert_eq!((summary.failed, summary.cancelled), (vec!["frozen".to_owned()], vec!["evaluation".to_owned()]));
}

#[test]
fn a_forced_stage_that_gives_other_bytes_replaces_its_record_and_says_so() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    bench.behave(r#"finish "a second $kind""#);
    let options = RunOptions { force: vec!["evaluation".to_owned()], ..bench.options() };
    let (summary, events) = bench.run_with(YAML, &options);
    assert_eq!(summary.ran, ["evaluation"]);
    let said =
        |event: &Event| matches!(event, Event::StageNotice { message, .. } if message.contains("another result"));
    assert!(events.iter().any(said));
    let object = bench.store.object(bench.record(YAML, "evaluation").outputs["model.json"].digest);
    assert_eq!(fs::read_to_string(object).unwrap(), "a second evaluate");
}

#[test]
fn only_the_targets_and_what_they_need_run() {
    let bench = Bench::new(HONEST);
    let options = RunOptions { targets: vec!["frozen".to_owned()], ..bench.options() };
    assert_eq!(bench.run_with(YAML, &options).0.ran, ["events", "base", "frozen"]);
}

#[test]
fn independent_stages_run_side_by_side_up_to_the_number_of_jobs() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1 }
  b: { kind: train_gan, data: events, steps: 2 }
  c: { kind: train_gan, data: events, steps: 3 }
";
    // Each training notes how many are at work, itself included.
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { mkdir -p "$here/at"; touch "$here/at/$steps"; sleep 0.3; ls "$here/at" | wc -l >> "$here/crowd"; rm "$here/at/$steps"; }
finish "$kind $steps""#,
    );
    for (jobs, most) in [(1, 1), (2, 2)] {
        let _ = fs::remove_dir_all(bench.path("cache"));
        let _ = fs::remove_file(bench.path("crowd"));
        bench.run_with(yaml, &RunOptions { capacity: Capacity { jobs, ..CAPACITY }, ..bench.options() });
        let crowd = fs::read_to_string(bench.path("crowd")).unwrap();
        let seen = crowd.lines().map(|line| line.trim().parse::<usize>().unwrap()).max();
        assert_eq!(seen, Some(most), "with {jobs} jobs");
    }
}

#[test]
fn of_a_thousand_cached_stages_none_is_hashed_or_run() {
    let mut yaml = String::from("stages:\n  events: { kind: dataset, file: events.csv }\n");
    for i in 1..1000 {
        writeln!(yaml, "  s{i}: {{ kind: train_gan, data: events, steps: {i} }}").unwrap();
    }
    let bench = Bench::new(HONEST);
    // A worker a stage would take a minute: fill the store by hand.
    bench.run_with(&yaml, &RunOptions { targets: vec!["events".to_owned()], ..bench.options() });
    let pipeline = bench.pipeline(&yaml);
    let template = bench.record(&yaml, "events");
    for planned in Plan::make(&pipeline, &bench.store, &[], &[]).unwrap().stages {
        let StageState::Run { key, .. } = planned.state else { continue };
        let Lookup::Miss(slot) = bench.store.lookup(key).unwrap() else { continue };
        fs::write(slot.out().join("model.json"), &planned.name).unwrap();
        slot.commit(Outcome {
            material: template.material.clone(),
            produces: ArtifactKind::Model,
            files: vec!["model.json".to_owned()],
            metrics: template.metrics.clone(),
            notices: Vec::new(),
            provenance: template.provenance.clone(),
        })
        .unwrap();
    }
    bench.worked();
    let since = Instant::now();
    let (summary, _) = bench.run(&yaml);
    let took = since.elapsed();
    assert_eq!(summary.cached.len(), 1000);
    assert!(bench.worked().is_empty());
    assert!(took < Duration::from_secs(3), "a no-op run took {took:?}");
}
