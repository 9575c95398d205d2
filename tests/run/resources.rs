//! What stages need of the machine, and what they are given of it.

use std::fs;

use pgan_pipe::{
    run::{Capacity, Event, RunError, RunOptions},
    store::Lookup,
};

use crate::bench::{Bench, CAPACITY, HONEST};

/// Each stage notes its steps, its threads and its device.
const NOTES: &str =
    r#"echo "$kind $steps $RAYON_NUM_THREADS $(field device)" >> "$here/notes"; sleep 0.2; finish "$kind $steps""#;

fn notes(bench: &Bench) -> Vec<String> {
    let text = fs::read_to_string(bench.path("notes")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_training_has_one_thread_another_stage_what_is_free_and_each_what_it_asks_for() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1 }
  b: { kind: train_gan, data: events, steps: 2, resources: { threads: 3, memory: 1MiB } }
  evaluation: { kind: evaluate, data: events, models: [a, b] }
";
    let bench = Bench::new(NOTES);
    bench.run(yaml);
    assert_eq!(notes(&bench), ["dataset  4 cpu", "evaluate  4 cpu", "train_gan 1 1 cpu", "train_gan 2 3 cpu"]);
}

#[test]
fn stages_spread_over_the_gpus_and_those_without_tensors_need_none() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1 }
  b: { kind: train_gan, data: events, steps: 2 }
  c: { kind: train_gan, data: events, steps: 3, device: cpu }
  d: { kind: train_gan, data: events, steps: 4, resources: { gpu: 0 } }
";
    let bench = Bench::new(NOTES);
    let capacity = Capacity { jobs: 4, ..CAPACITY };
    bench.run_with(yaml, &RunOptions { device: "libtorch-cuda".parse().unwrap(), capacity, ..bench.options() });
    let notes = notes(&bench);
    assert_eq!(notes[0], "dataset  4 libtorch");
    let mut devices: Vec<&str> = notes[1..].iter().map(|note| note.rsplit(' ').next().unwrap()).collect();
    assert_eq!(devices[2..], ["cpu", "libtorch"], "what stages say for themselves");
    devices.truncate(2);
    devices.sort_unstable();
    assert_eq!(devices, ["libtorch-cuda:0", "libtorch-cuda:1"]);
    assert_eq!(bench.record(yaml, "c").provenance.device, "cpu");
}

#[test]
fn the_device_auto_is_the_best_that_works_for_the_worker() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1, device: auto }
  b: { kind: train_gan, data: events, steps: 2 }
";
    let line = |device: &str, available: bool| format!("{{\"device\":\"{device}\",\"available\":{available}}}\n");
    for (gpu, device) in [(true, "libtorch-cuda:0"), (false, "cpu")] {
        let bench = Bench::new(NOTES);
        fs::write(bench.path("devices"), line("cpu", true) + &line("libtorch-cuda:0", gpu)).unwrap();
        bench.run(yaml);
        assert_eq!(notes(&bench)[1..], [format!("train_gan 1 1 {device}"), "train_gan 2 1 cpu".to_owned()]);
    }
}

#[test]
fn stages_that_need_the_memory_of_the_machine_run_one_after_another() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1, resources: { memory: 600MB } }
  b: { kind: train_gan, data: events, steps: 2, resources: { memory: 600MB } }
";
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { mkdir "$here/alone" || exit 1; sleep 0.3; rmdir "$here/alone"; }; finish "$kind $steps""#,
    );
    assert_eq!(bench.run(yaml).0.ran.len(), 3);
}

#[test]
fn more_memory_than_there_is_is_a_mistake_of_the_pipeline_at_its_place() {
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv, resources: { memory: 2GiB } }
";
    let bench = Bench::new(HONEST);
    let (result, events) = bench.try_run(yaml, &bench.options());
    let Err(RunError::Invalid(error)) = result else { panic!("{result:?}") };
    let error = error.to_string();
    assert!(error.contains("2 GiB is more than the 1 GiB") && error.contains("study.yaml:3:"), "{error}");
    assert!(events.is_empty());
}

#[test]
fn resources_and_device_change_no_key() {
    let bench = Bench::new(HONEST);
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
";
    bench.run(yaml);
    let more =
        "events.csv, device: libtorch, timeout: 1h, retries: 1, resources: { gpu: 0.5, threads: 2, memory: 1GB }";
    assert_eq!(bench.run(&yaml.replace("events.csv", more)).0.cached, ["events"]);
}

#[test]
fn a_stage_that_another_run_is_at_work_on_holds_no_place() {
    let bench = Bench::new(HONEST);
    let yaml = "
stages:
  events: { kind: dataset, file: events.csv }
  a: { kind: train_gan, data: events, steps: 1 }
  b: { kind: train_gan, data: events, steps: 2 }
";
    let options = RunOptions { targets: vec!["a".to_owned()], ..bench.options() };
    bench.run_with(yaml, &options);
    // Another holds `a`, whose result is gone.
    let record = bench.record(yaml, "a");
    fs::remove_file(bench.store.record(record.key)).unwrap();
    let mut slot = match bench.store.lookup(record.key).unwrap() {
        Lookup::Miss(slot) => Some(slot),
        other => panic!("{other:?}"),
    };
    let mut told = Vec::new();
    let options = RunOptions { capacity: Capacity { jobs: 1, ..CAPACITY }, ..bench.options() };
    let summary = pgan_pipe::run::run(&bench.pipeline(yaml), &bench.store, &options, &mut |event| {
        if let Event::StageFinished { stage, .. } = event {
            told.push(format!("{stage} finished"));
            // Only now the other gives it up.
            slot.take();
        }
        if let Event::StageWaiting { stage, .. } = event {
            told.push(format!("{stage} waits"));
        }
    });
    assert_eq!(summary.unwrap().ran, ["a", "b"]);
    assert_eq!(told, ["a waits", "b finished", "a finished"]);
}
