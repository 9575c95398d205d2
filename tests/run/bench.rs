//! A folder with a store, a source and a worker whose behaviour a test writes itself: a shell script that speaks the protocol.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};

use pgan_pipe::{
    device::DeviceName,
    pipeline::Pipeline,
    plan::{Plan, StageState},
    run::{Capacity, Event, RunError, RunOptions, Summary, run},
    store::{Record, Store},
};
use tempfile::TempDir;

pub(crate) const YAML: &str = "
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
[ "$1" = devices ] && { cat "$here/devices"; exit; }
read -r job
field() { printf '%s' "$job" | grep -o "\"$1\":\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^[^:]*:"\{0,1\}//'; }
out=$(field out) kind=$(field kind) steps=$(field steps)
finish() { printf '%s' "$1" > "$out/model.json"; echo '{"says":"finished","metrics":{"models[0].ks":0.5},"files":["model.json"]}'; exit 0; }
echo "$kind" >> "$here/ran"
. "$here/behaviour"
"#;

/// Each kind gives the same bytes whatever its parameters, but a training depends on its steps.
pub(crate) const HONEST: &str = r#"finish "$kind $steps""#;

/// The same on every machine.
pub(crate) const CAPACITY: Capacity = Capacity { jobs: 2, threads: 4, memory: 1 << 30, gpus: 2 };

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) stop: Arc<AtomicUsize>,
}

impl Bench {
    pub(crate) fn new(behaviour: &str) -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn behave(&self, behaviour: &str) {
        fs::write(self.path("behaviour"), behaviour).unwrap();
    }

    pub(crate) fn pipeline(&self, yaml: &str) -> Pipeline {
        Pipeline::parse(yaml.as_bytes(), &self.path("study.yaml"), &[]).unwrap()
    }

    pub(crate) fn options(&self) -> RunOptions {
        RunOptions {
            targets: Vec::new(),
            only_targets: false,
            force: Vec::new(),
            keep_going: false,
            capacity: CAPACITY,
            device: DeviceName::Cpu,
            worker: self.path("worker"),
            lock: None,
            known: std::collections::BTreeMap::new(),
            sharing: None,
            checkpoint_every: std::time::Duration::from_secs(10),
            stop: Arc::clone(&self.stop),
            argv: vec!["pgan-pipe".to_owned(), "run".to_owned()],
        }
    }

    pub(crate) fn try_run(&self, yaml: &str, options: &RunOptions) -> (Result<Summary, RunError>, Vec<Event>) {
        let mut events = Vec::new();
        let result = run(&self.pipeline(yaml), &self.store, options, &mut |event| events.push(event.clone()));
        (result, events)
    }

    pub(crate) fn run_with(&self, yaml: &str, options: &RunOptions) -> (Summary, Vec<Event>) {
        let (result, events) = self.try_run(yaml, options);
        (result.unwrap(), events)
    }

    pub(crate) fn run(&self, yaml: &str) -> (Summary, Vec<Event>) {
        self.run_with(yaml, &self.options())
    }

    /// The kinds that workers ran since the last question.
    pub(crate) fn worked(&self) -> Vec<String> {
        let ran = fs::read_to_string(self.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ran"));
        ran.lines().map(str::to_owned).collect()
    }

    pub(crate) fn record(&self, yaml: &str, stage: &str) -> Record {
        let plan = Plan::make(&self.pipeline(yaml), &self.store, &[], &[]).unwrap();
        match plan.stages.into_iter().find(|planned| planned.name == stage).unwrap().state {
            StageState::Cached { record, .. } => Arc::unwrap_or_clone(record),
            state => panic!("`{stage}` is not cached: {state:?}"),
        }
    }

    pub(crate) fn flip_a_bit(&self, record: &Record) {
        let object = self.store.object(record.outputs["model.json"].digest);
        let mut bytes = fs::read(&object).unwrap();
        bytes[0] ^= 1;
        fs::remove_file(&object).unwrap();
        fs::write(&object, bytes).unwrap();
    }
}

pub(crate) fn wait_for(path: &Path) {
    let since = Instant::now();
    while !path.exists() {
        assert!(since.elapsed() < Duration::from_secs(30), "{} never came", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn failures(events: &[Event]) -> Vec<(&str, &str, Option<&Path>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::StageFailed { stage, message, log } => Some((stage.as_str(), message.as_str(), log.as_deref())),
            _ => None,
        })
        .collect()
}
