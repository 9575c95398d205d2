//! Training that is cut off, again and again, and ends with the same bytes as if it had not been.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

mod program;

use program::Folder;

/// Every loop that trains, with all that it may keep from step to step.
const PIPELINE: &str = "\
name: resume
seed: 3
params: { steps: 400, strata: [2.2, 4.6] }
stages:
  events:
    kind: dataset
    synthetic: { density: pareto, index: 3, dimensions: 2, events: 4000 }
    coordinates: { x0: log }
    tail: { observable: x0, quantile: 0.9 }
    split: { validation: 0.2, test: 0.2 }
  base:
    kind: train_gan
    data: events
    generator: { architecture: mlp, layers: [8], latent: 3 }
    discriminator: { layers: [8], dropout: 0.1 }
    strata: { shares: [0.5, 0.5], weights: tempered, power: 0.5 }
    latents: { method: stratified }
    optimizer: { rate: 1e-3, beta1: 0.5 }
    steps: 400
    batch: 32
  frozen: { kind: freeze, model: base }
  normalised:
    kind: train_gan
    data: events
    generator: { architecture: precisegan_fc, latent: 3 }
    discriminator: { layers: [8] }
    loss: { kind: wgan_gp }
    steps: 20
    batch: 8
  vae: { kind: pretrain_tail, data: events, like: frozen, method: vae, steps: 200, batch: 32 }
  matched: { kind: pretrain_tail, data: events, like: frozen, method: moment_matching, steps: 200, batch: 32 }
  reweighted_data:
    { kind: pretrain_tail, data: events, like: frozen, method: adagan, weight: 0.2, steps: 200, classifier_steps: 200, batch: 32 }
  boosted_em:
    kind: boost
    base: frozen
    candidate: vae
    data: events
    mixture: { learn: em, initial: 0.1, every: 20 }
    accept: always
    steps: 200
    batch: 32
  boosted_moments:
    { kind: boost, base: frozen, candidate: matched, data: events, accept: always, steps: 200, batch: 32, mixture: { learn: adversarial, initial: 0.1 } }
  reweighted: { kind: reweight, model: frozen, data: events, steps: 200, batch: 32, classifier: { layers: [8] } }
  inverted: { kind: invert, model: frozen, data: events, steps: 200, batch: 32 }
";

const RUN: &[&str] = &["run", "pipeline.yaml", "--json", "-q", "--checkpoint-every", "0.02"];

fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    folder
}

/// The stored results by the file of their record: digests of their files, and metrics.
fn results(folder: &Folder) -> BTreeMap<String, (Value, Value)> {
    fn collect(path: &Path, found: &mut BTreeMap<String, (Value, Value)>) {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), found);
                continue;
            }
            let record: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            found.insert(name, (record["outputs"].clone(), record["metrics"].clone()));
        }
    }
    let mut found = BTreeMap::new();
    collect(&folder.path("cache/v1/records"), &mut found);
    found
}

/// Starts a run and kills it after this time; tells whether it was done before, and what it said.
fn cut_off(folder: &Folder, after: Duration) -> (bool, String) {
    let said = fs::File::create(folder.path("said")).unwrap();
    let mut run = folder.command(RUN).stdout(said).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + after;
    let status = loop {
        match run.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= until => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    if let Some(status) = status {
        assert!(status.success(), "the run failed: {}", fs::read_to_string(folder.path("said")).unwrap());
    } else {
        run.kill().unwrap();
        run.wait().unwrap();
    }
    (status.is_some(), fs::read_to_string(folder.path("said")).unwrap())
}

#[test]
fn a_training_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    let straight = bench();
    assert!(straight.run(RUN).status.success());
    let left = fs::read_dir(straight.path("cache/v1/work")).unwrap().count();
    assert_eq!(left, 0, "what is done leaves nothing to go on from");

    let folder = bench();
    let mut resumed = Vec::new();
    // A little more time at each attempt: what is not training cannot be taken up where it was.
    let done = (0..400).any(|attempt| {
        let (done, said) = cut_off(&folder, Duration::from_millis(150 + 37 * (attempt % 11) + 20 * attempt));
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        resumed.extend(events.filter(|event| event["event"] == "stage_resumed"));
        done
    });
    assert!(done, "the run does not come to its end");
    assert!(!resumed.is_empty() && resumed.iter().all(|event| event["step"].as_u64() > Some(0)), "{resumed:?}");
    assert_eq!(results(&folder), results(&straight));
    folder.print(&["cache", "verify"]);
    for (stage, loops) in [
        ("base", vec!["gan"]),
        ("vae", vec!["vae"]),
        ("matched", vec!["moments"]),
        ("reweighted_data", vec!["ratio", "gan"]),
        ("boosted_em", vec!["boost"]),
        ("reweighted", vec!["ratio"]),
        ("inverted", vec!["invert"]),
    ] {
        let history = curves(&folder, &[], stage);
        let series = history["series"].as_array().unwrap();
        assert_eq!(series.iter().map(|series| &series["loop"]).collect::<Vec<_>>(), loops, "{stage}");
        assert!(series.iter().all(|series| series["step"].as_array().unwrap().len() >= 4), "{stage}");
        assert!(!fs::read_to_string(folder.path("got/history.json")).unwrap().contains("NaN"));
    }
}

/// The recorded curves of a stage.
fn curves(folder: &Folder, set: &[&str], stage: &str) -> Value {
    let got = folder.path("got");
    if got.exists() {
        fs::remove_dir_all(&got).unwrap();
    }
    folder.print(&[&["cache", "get", "pipeline.yaml", stage, "-o", "got"], set].concat());
    serde_json::from_slice(&fs::read(got.join("history.json")).unwrap()).unwrap()
}

#[test]
fn a_forced_stage_starts_anew() {
    let folder = bench();
    let mut after = Duration::from_millis(300);
    // Until a checkpoint of a training that is not done lies there.
    while !folder
        .path("cache/v1/work")
        .read_dir()
        .is_ok_and(|mut keys| keys.any(|key| key.unwrap().path().join("checkpoints/cpu").is_dir()))
    {
        assert!(!cut_off(&folder, after).0, "the run was done before it could be cut off");
        after += Duration::from_millis(50);
    }
    let forced = folder.run(&[RUN, &["--force", "base", "base"]].concat());
    assert!(forced.status.success());
    assert!(!String::from_utf8_lossy(&forced.stdout).contains("stage_resumed"));
}

/// A training with a constant rate, and what is made of it.
const TRAINING: &str = "\
name: longer
seed: 3
params: { steps: 300, schedule: constant }
stages:
  events:
    kind: dataset
    synthetic: { density: pareto, index: 3, dimensions: 2, events: 4000 }
    coordinates: { x0: log }
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 2 }
    discriminator: { layers: [8] }
    steps: ${params.steps}
    batch: 16
    optimizer: { rate: 1e-3, schedule: '${params.schedule}', warmup: 20 }
";

/// Runs with this parameter set; gives the step that the training went on from, if it did.
fn went_on_from(folder: &Folder, set: &[&str]) -> Option<u64> {
    let sets = set.iter().flat_map(|set| ["--set", set]);
    let said = folder.print(&["run", "pipeline.yaml", "--json", "-q"].into_iter().chain(sets).collect::<Vec<_>>());
    let events = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.into_iter().find(|event| event["event"] == "stage_resumed").map(|event| event["step"].as_u64().unwrap())
}

#[test]
fn more_steps_go_on_from_fewer_where_the_schedule_knows_no_end() {
    let bench = || {
        let folder = Folder::new();
        fs::write(folder.path("pipeline.yaml"), TRAINING).unwrap();
        folder
    };
    let folder = bench();
    assert_eq!(went_on_from(&folder, &[]), None);
    assert_eq!(went_on_from(&folder, &["steps=600"]), Some(300));
    assert_eq!(went_on_from(&folder, &["steps=450"]), Some(300));
    assert_eq!(went_on_from(&folder, &["steps=200"]), None, "one cannot go back");
    assert_eq!(went_on_from(&folder, &["steps=620"]), Some(600));
    assert_eq!(went_on_from(&folder, &["steps=640"]), Some(620));
    assert_eq!(went_on_from(&folder, &["steps=700", "schedule=cosine"]), None);
    assert_eq!(went_on_from(&folder, &["steps=900", "schedule=cosine"]), None);

    let straight = bench();
    assert_eq!(went_on_from(&straight, &["steps=600"]), None);
    let at_once = results(&straight);
    assert!(at_once.iter().all(|(record, result)| results(&folder).get(record) == Some(result)), "the same bytes");

    // The curves end at the last step, which is none that others report at, and which no longer training knows of.
    let straight = bench();
    assert_eq!(went_on_from(&straight, &["steps=640"]), None);
    let at_once = results(&straight);
    assert!(at_once.iter().all(|(record, result)| results(&folder).get(record) == Some(result)), "the same bytes");
    let history = &curves(&straight, &["--set", "steps=640"], "base")["series"][0];
    assert_eq!((&history["loop"], &history["stride"]), (&json!("gan"), &json!(50)));
    assert_eq!(history["step"].as_array().unwrap()[10..], [json!(550), json!(600), json!(640)]);
    assert!(history["values"]["d_loss"].as_array().unwrap().iter().all(Value::is_f64));

    // A result that is lost is made again of the last state alone.
    let records = folder.path("cache/v1/records");
    let before = results(&folder);
    fs::remove_dir_all(&records).unwrap();
    assert_eq!(went_on_from(&folder, &["steps=640"]), Some(640));
    assert!(results(&folder).iter().all(|(record, result)| before.get(record) == Some(result)), "the same bytes");
}
