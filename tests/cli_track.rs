//! Curves and metrics for programs that show experiments.

use std::fs;

mod program;

use program::Folder;

const PIPELINE: &str = "\
name: track
seed: 3
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 1000 }, coordinates: { x0: log } }
  base:
    kind: train_gan
    data: events
    generator: { layers: [4], latent: 2 }
    discriminator: { layers: [4] }
    steps: 60
    batch: 8
  frozen: { kind: freeze, model: base }
";

fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    folder
}

fn error(folder: &Folder, code: i32, arguments: &[&str]) -> String {
    let output = folder.run(&[&["export", "pipeline.yaml", "--format"], arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

#[test]
fn stages_that_have_run_become_runs_of_tensorboard() {
    let folder = bench();
    let tensorboard = ["tensorboard", "-o", "tb"];
    assert!(error(&folder, 1, &tensorboard).contains("run it first: pgan-pipe run pipeline.yaml"));
    folder.print(&["run", "pipeline.yaml", "base"]);
    assert!(error(&folder, 1, &["tensorboard", "-o", "tb", "frozen"]).contains("the stage `frozen` has not run"));
    assert!(error(&folder, 2, &["tensorboard", "-o", "tb", "bse"]).contains("did you mean `base`?"));
    assert!(!folder.path("tb").exists());
    let output = folder.run(&["export", "pipeline.yaml", "--format", "tensorboard", "-o", "tb"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("left out, since they have not run as they stand now: frozen")
    );
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("wrote 2 runs to tb; "));
    let file = folder.path("tb/base/events.out.tfevents.pgan-pipe");
    let written = fs::read(&file).unwrap();
    let holds = |text: &str| written.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("brain.Event:2") && holds("d_loss") && holds("metrics/steps") && holds("| generator.layers | [4] |"));
    folder.print(&["export", "pipeline.yaml", "base", "--format", "tensorboard", "-o", "tb"]);
    assert_eq!(fs::read(&file).unwrap(), written, "the same bytes");
    fs::write(folder.path("file"), "").unwrap();
    assert!(error(&folder, 3, &["tensorboard", "-o", "file"]).contains("cannot create file"));
    assert!(error(&folder, 2, &["tensorboard"]).contains("-o tensorboard"));
    assert!(error(&folder, 2, &["tensorboard", "-o", "tb", "--device", "cpu"]).contains("`--device` is for"));
}

#[test]
fn curves_that_are_corrupted_are_not_shown() {
    let folder = bench();
    folder.print(&["run", "pipeline.yaml"]);
    let record = folder.print(&["show", "pipeline.yaml", "base", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let digest = record["outputs"]["history.json"]["digest"].as_str().unwrap();
    let object = folder.path(&format!("cache/v1/objects/{}/{}", &digest[..2], &digest[2..]));
    let altered = fs::read_to_string(&object).unwrap().replace("\"stride\":50", "\"stride\":51");
    fs::remove_file(&object).unwrap();
    fs::write(&object, altered).unwrap();
    assert!(error(&folder, 5, &["tensorboard", "-o", "tb"]).contains("the curves of `base` are missing or corrupted"));
}

#[test]
fn a_server_that_cannot_be_used_is_said() {
    let folder = bench();
    folder.print(&["run", "pipeline.yaml", "base"]);
    assert!(error(&folder, 2, &["mlflow"]).contains("MLFLOW_TRACKING_URI"));
    assert!(error(&folder, 2, &["mlflow", "-o", "mlruns"]).contains("leave `--output` out"));
    assert!(error(&folder, 2, &["mlflow", "--tracking-uri", "sqlite:///mlflow.db"]).contains("mlflow server"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = error(&folder, 6, &["mlflow", "--tracking-uri", &format!("http://{port}")]);
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_tracking_address_is_shown_without_what_is_secret() {
    let folder = bench();
    folder.print(&["run", "pipeline.yaml", "events"]);
    let refused = "http://user:hush@host:port:bad";
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = format!("http://user:hush@{port}/?token=hush");
    for (address, code) in [(refused, 2), (&*silent, 6), ("ftp://user:hush@host", 2), ("user:hush@host", 2)] {
        let told = error(&folder, code, &["mlflow", "--tracking-uri", address]);
        assert!(!told.contains("hush") && !told.contains("user"), "{told}");
        let mut command = folder.command(&["export", "pipeline.yaml", "--format", "mlflow"]);
        let output = command.env("MLFLOW_TRACKING_URI", address).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), told);
    }
    // An empty variable is none, and an empty option a mistake.
    let mut command = folder.command(&["export", "pipeline.yaml", "--format", "mlflow"]);
    let output = command.env("MLFLOW_TRACKING_URI", "").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("say which MLflow server"));
    assert!(error(&folder, 2, &["mlflow", "--tracking-uri", ""]).contains("a value is required for '--tracking-uri"));
}
