//! The executor against a worker that a test writes itself: a shell script that speaks the worker's protocol.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pgan_pipe::{
    device::DeviceName,
    pipeline::Pipeline,
    plan::{Plan, Reason, StageState},
    run::{Event, RunError, RunOptions, Summary, run},
    store::{Found, Lookup, Record, Store, Work},
};
use tempfile::TempDir;

const YAML: &str = "
name: study
stages:
  events: { kind: dataset, file: events.csv }
  base: { kind: train_gan, data: events, steps: 2000 }
  frozen: { kind: freeze, model: base }
  other: { kind: train_gan, data: events, steps: 50 }
  evaluation: { kind: evaluate, data: events, models: [frozen, other] }
";

/// Reads the job, then does what the file `behaviour` beside it says.
const WORKER: &str = r#"#!/bin/sh
here=$(dirname "$0")
read -r job
field() { printf '%s' "$job" | grep -o "\"$1\":\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^[^:]*:"\{0,1\}//'; }
out=$(field out) kind=$(field kind) steps=$(field steps)
finish() { printf '%s' "$1" > "$out/model.json"; echo '{"says":"finished","metrics":{"models[0].ks":0.5}}'; exit 0; }
echo "$kind" >> "$here/ran"
. "$here/behaviour"
"#;

/// Each kind gives the same bytes whatever its parameters, but a training depends on its steps.
const HONEST: &str = r#"finish "$kind $steps""#;

struct Bench {
    folder: TempDir,
    store: Store,
    stop: Arc<AtomicUsize>,
}

impl Bench {
    fn new(behaviour: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("events.csv"), "x\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n").unwrap();
        fs::write(path.join("worker"), WORKER).unwrap();
        fs::set_permissions(path.join("worker"), fs::Permissions::from_mode(0o755)).unwrap();
        let store = Store::at(&path.join("cache"));
        let bench = Self { folder, store, stop: Arc::default() };
        bench.behave(behaviour);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn behave(&self, behaviour: &str) {
        fs::write(self.path("behaviour"), behaviour).unwrap();
    }

    fn pipeline(&self, yaml: &str) -> Pipeline {
        Pipeline::parse(yaml.as_bytes(), &self.path("study.yaml"), &[]).unwrap()
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            targets: Vec::new(),
            force: Vec::new(),
            keep_going: false,
            jobs: 2,
            device: DeviceName::Cpu,
            worker: self.path("worker"),
            stop: Arc::clone(&self.stop),
            argv: vec!["pgan-pipe".to_owned(), "run".to_owned()],
        }
    }

    fn try_run(&self, yaml: &str, options: &RunOptions) -> (Result<Summary, RunError>, Vec<Event>) {
        let mut events = Vec::new();
        let result = run(&self.pipeline(yaml), &self.store, options, &mut |event| events.push(event.clone()));
        (result, events)
    }

    fn run_with(&self, yaml: &str, options: &RunOptions) -> (Summary, Vec<Event>) {
        let (result, events) = self.try_run(yaml, options);
        (result.unwrap(), events)
    }

    fn run(&self, yaml: &str) -> (Summary, Vec<Event>) {
        self.run_with(yaml, &self.options())
    }

    /// The kinds that workers ran since the last question.
    fn worked(&self) -> Vec<String> {
        let ran = fs::read_to_string(self.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ran"));
        ran.lines().map(str::to_owned).collect()
    }

    fn record(&self, yaml: &str, stage: &str) -> Record {
        let plan = Plan::make(&self.pipeline(yaml), &self.store, &[], &[]).unwrap();
        match plan.stages.into_iter().find(|planned| planned.name == stage).unwrap().state {
            StageState::Cached { record, .. } => *record,
            state => panic!("`{stage}` is not cached: {state:?}"),
        }
    }

    fn flip_a_bit(&self, record: &Record) {
        let object = self.store.object(record.outputs["model.json"].digest);
        let mut bytes = fs::read(&object).unwrap();
        bytes[0] ^= 1;
        fs::remove_file(&object).unwrap();
        fs::write(&object, bytes).unwrap();
    }
}

fn wait_for(path: &Path) {
    let since = Instant::now();
    while !path.exists() {
        assert!(since.elapsed() < Duration::from_secs(30), "{} never came", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

fn failures(events: &[Event]) -> Vec<(&str, &str, Option<&Path>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::StageFailed { stage, message, log } => Some((stage.as_str(), message.as_str(), log.as_deref())),
            _ => None,
        })
        .collect()
}

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
    let (summary, events) = bench.run_with(YAML, &RunOptions { jobs: 1, ..bench.options() });
    assert_eq!(summary.failed, ["frozen"]);
    assert_eq!(summary.cancelled, ["other", "evaluation"]);
    assert_eq!(failures(&events)[0].1, "it is too cold");
    bench.behave(HONEST);
    assert_eq!(bench.run(YAML).0.cached, ["events", "base"]);
}

#[test]
fn keep_going_cancels_only_what_needs_the_failed_stage() {
    let bench = Bench::new(&format!(r#"[ "$kind" = freeze ] && exit 3; {HONEST}"#));
    let (summary, _) = bench.run_with(YAML, &RunOptions { keep_going: true, jobs: 1, ..bench.options() });
    assert_eq!(summary.ran, ["events", "base", "other"]);
    assert_eq!((summary.failed, summary.cancelled), (vec!["frozen".to_owned()], vec!["evaluation".to_owned()]));
}

#[test]
fn a_worker_that_crashes_is_reported_with_its_signal_and_the_end_of_its_log() {
    let bench = Bench::new(r#"echo "out of luck" >&2; kill -SEGV $$"#);
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    let (_, message, log) = failures(&events)[0];
    assert_eq!(message, "the worker was killed by signal 11; its log ends with\n  out of luck");
    assert_eq!(fs::read_to_string(log.unwrap()).unwrap(), "out of luck\n");
}

#[test]
fn a_worker_that_ends_without_a_last_word_has_failed() {
    let bench = Bench::new("echo half > $out/model.json; exit 0");
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    assert_eq!(failures(&events)[0].1, "the worker ended with exit code 0 before the stage was done");
    assert!(bench.store.list().unwrap().is_empty(), "half a result is no result");
}

#[test]
fn a_stage_that_leaves_a_folder_fails_alone() {
    let bench = Bench::new(&format!(r#"[ "$kind" = freeze ] && mkdir "$out/folder"; {HONEST}"#));
    let (summary, events) = bench.run_with(YAML, &RunOptions { keep_going: true, ..bench.options() });
    assert_eq!((summary.failed, summary.ran.len()), (vec!["frozen".to_owned()], 3));
    assert!(failures(&events)[0].1.contains("plain files only"), "{events:#?}");
}

#[test]
fn a_worker_that_prints_other_things_is_understood_all_the_same() {
    let bench = Bench::new(&format!("echo 'loading libtorch'; echo '{{}}'; printf '\\377\\n'; {HONEST}"));
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
}

#[test]
fn a_worker_that_cannot_be_started_is_named() {
    let bench = Bench::new(HONEST);
    let options = RunOptions { worker: bench.path("nowhere"), ..bench.options() };
    let error = bench.try_run(YAML, &options).0.unwrap_err();
    assert!(matches!(error, RunError::Worker { .. }));
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_corrupted_input_is_noticed_set_aside_and_made_again() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let base = bench.record(YAML, "base");
    bench.flip_a_bit(&base);
    bench.worked();
    // Nothing reads `base` until something that takes it runs.
    assert_eq!(bench.run(YAML).0.cached.len(), 5);
    let options = RunOptions { force: vec!["frozen".to_owned()], ..bench.options() };
    let (summary, events) = bench.run_with(YAML, &options);
    assert_eq!(summary.ran, ["base", "frozen"]);
    let corrupted = [Reason::Corrupted { file: "model.json".to_owned() }];
    let rerun =
        |event: &Event| matches!(event, Event::StageStarted { stage, why, .. } if stage == "base" && *why == corrupted);
    assert!(events.iter().any(rerun), "{events:#?}");
    assert!(bench.store.verify().unwrap().faults.is_empty());
}

#[test]
fn an_object_of_another_size_is_made_again_without_being_asked() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let object = bench.store.object(bench.record(YAML, "evaluation").outputs["model.json"].digest);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "").unwrap();
    assert_eq!(bench.run(YAML).0.ran, ["evaluation"]);
    assert!(bench.store.verify().unwrap().faults.is_empty());
}

#[test]
fn a_source_that_changes_while_it_is_read_is_not_committed() {
    let bench = Bench::new(&format!(r#"[ "$kind" = dataset ] && echo 11 >> "$here/events.csv"; {HONEST}"#));
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    assert!(failures(&events)[0].1.contains("changed while the stage read it"), "{events:#?}");
    assert!(bench.store.list().unwrap().is_empty());
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
        bench.run_with(yaml, &RunOptions { jobs, ..bench.options() });
        let crowd = fs::read_to_string(bench.path("crowd")).unwrap();
        let seen = crowd.lines().map(|line| line.trim().parse::<usize>().unwrap()).max();
        assert_eq!(seen, Some(most), "with {jobs} jobs");
    }
}

#[test]
fn a_signal_stops_the_run_keeps_what_is_finished_and_notes_the_step() {
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { echo '{"says":"progress","step":7,"steps":2000,"values":{"loss":1.0}}'; touch "$here/training"; sleep 60; }
finish x"#,
    );
    let (stop, training) = (Arc::clone(&bench.stop), bench.path("training"));
    let signaller = thread::spawn(move || {
        wait_for(&training);
        stop.store(15, Ordering::Relaxed);
    });
    let since = Instant::now();
    let (result, events) = bench.try_run(YAML, &RunOptions { jobs: 1, ..bench.options() });
    signaller.join().unwrap();
    assert!(matches!(result, Err(RunError::Stopped(15))), "{result:?}");
    assert!(since.elapsed() < Duration::from_secs(20), "the worker was not killed");
    let key = events.iter().find_map(|event| match event {
        Event::StageStarted { stage, key, .. } if stage == "base" => Some(*key),
        _ => None,
    });
    let mark = pgan_pipe::store::Mark { step: 7, steps: 2000 };
    assert_eq!(bench.store.work(key.unwrap()).unwrap(), Work::Interrupted(mark));

    bench.stop.store(0, Ordering::Relaxed);
    bench.behave(HONEST);
    let (summary, _) = bench.run(YAML);
    assert_eq!(summary.cached, ["events"]);
    assert_eq!(summary.ran.len(), 4);
    assert_eq!(bench.store.work(key.unwrap()).unwrap(), Work::Idle);
}

#[test]
fn a_second_run_waits_names_the_holder_and_takes_the_result() {
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { touch "$here/training"; while [ ! -e "$here/go" ]; do sleep 0.05; done; }
finish "$kind $steps""#,
    );
    let options = RunOptions { targets: vec!["base".to_owned()], ..bench.options() };
    thread::scope(|scope| {
        let first = scope.spawn(|| bench.run_with(YAML, &options).0);
        wait_for(&bench.path("training"));
        let mut holders = Vec::new();
        let second = run(&bench.pipeline(YAML), &bench.store, &options, &mut |event| {
            if let Event::StageWaiting { stage, holder } = event {
                assert_eq!(stage, "base");
                holders.push(holder.clone());
                fs::write(bench.path("go"), "").unwrap();
            }
        });
        assert_eq!(first.join().unwrap().ran, ["events", "base"]);
        assert_eq!(second.unwrap().cached, ["events", "base"]);
        assert!(holders[0].starts_with(&format!("process {} on ", std::process::id())), "{holders:?}");
    });
    assert_eq!(bench.worked(), ["dataset", "train_gan"]);
}

#[test]
fn a_lock_that_nobody_holds_does_not_stop_a_run() {
    let bench = Bench::new(HONEST);
    let plan = Plan::make(&bench.pipeline(YAML), &bench.store, &[], &[]).unwrap();
    let StageState::Run { key, .. } = &plan.stages[0].state else { panic!("a first stage runs") };
    let Lookup::Miss(slot) = bench.store.lookup(*key).unwrap() else { panic!("nothing is stored") };
    drop(slot);
    assert!(matches!(bench.store.find(*key).unwrap(), Found::Absent));
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_of_the_store() {
    let bench = Bench::new(HONEST);
    fs::write(bench.path("cache"), "a file where a folder should be").unwrap();
    let error = bench.try_run(YAML, &bench.options()).0.unwrap_err();
    assert!(matches!(error, RunError::Store(_) | RunError::Plan(pgan_pipe::plan::PlanError::Store(_))), "{error:?}");
    assert!(error.to_string().contains("cache"), "{error}");
}

#[test]
fn of_a_thousand_cached_stages_none_is_hashed_or_run() {
    use std::fmt::Write as _;
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
        slot.commit(pgan_pipe::store::Outcome {
            material: template.material.clone(),
            produces: pgan_pipe::stage::ArtifactKind::Model,
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
