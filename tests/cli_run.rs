//! A pipeline from `init` to events of the boosted model, through the program.

use serde_json::Value;

mod program;

use program::Folder;

/// Few steps, so that the whole pipeline takes seconds.
const QUICK: &[&str] = &["--set", "steps=30", "--set", "tail.steps=20", "--set", "boosted.steps=20"];

fn with_quick<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().chain(QUICK).copied().collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn a_pipeline_runs_once_and_is_cached_then() {
    let folder = Folder::with_pipeline();
    let events = lines(&folder.print(&with_quick(&["run", "pipeline.yaml", "--json", "-q"])));
    let last = events.last().unwrap();
    assert_eq!(last["event"], "run_finished");
    assert_eq!(names(&last["ran"]), ["events", "base", "frozen", "tail", "boosted", "evaluation"]);
    assert!(events.iter().any(|event| event["event"] == "stage_started" && event["stage"] == "base"));

    let again = lines(&folder.print(&with_quick(&["run", "pipeline.yaml", "--json", "-q"])));
    let last = again.last().unwrap();
    assert_eq!(names(&last["cached"]).len(), 6);
    assert!(names(&last["ran"]).is_empty() && names(&last["failed"]).is_empty());
    folder.print(&with_quick(&["plan", "pipeline.yaml", "--exit-code"]));

    // An edit reaches only what hangs on it, and `plan` says why.
    let mut changed = with_quick(&["plan", "pipeline.yaml"]);
    changed.extend(["--set", "boosted.mixture.floor=0.01"]);
    let plan = folder.print(&changed);
    assert!(plan.contains("`mixture.floor` 0.001 → 0.01"), "{plan}");
    assert!(plan.contains("1 to run, 1 depending on them, 4 cached"), "{plan}");

    let shown = lines(&folder.print(&with_quick(&["show", "pipeline.yaml", "evaluation", "--json"])));
    let metrics = shown[0]["metrics"].as_object().unwrap();
    assert!(metrics.keys().any(|name| name.starts_with("boosted.")), "{metrics:?}");
    assert!(!metrics.keys().any(|name| name.starts_with("models[")), "{metrics:?}");
    assert!(std::fs::read_dir(folder.path("results/quickstart/evaluation")).unwrap().count() >= 9);

    for file in ["a.csv", "b.csv"] {
        let sample = ["sample", "pipeline.yaml", "boosted", "-n", "50", "-o", file, "--seed", "3"];
        folder.print(&with_quick(&sample));
    }
    let csv = std::fs::read_to_string(folder.path("a.csv")).unwrap();
    assert_eq!(csv, std::fs::read_to_string(folder.path("b.csv")).unwrap());
    assert_eq!(csv.lines().count(), 51);
    assert!(csv.lines().next().unwrap().ends_with("jj_pt,jj_eta,jj_M"), "{csv}");

    let tail = [
        "sample",
        "pipeline.yaml",
        "boosted",
        "-n",
        "40",
        "-o",
        "tail.csv",
        "--where",
        "jj_M > 1200",
        "--where",
        "ljet1_eta<0",
    ];
    folder.print(&with_quick(&tail));
    let csv = std::fs::read_to_string(folder.path("tail.csv")).unwrap();
    let number = |field: Option<&str>| -> f64 { field.unwrap().parse().unwrap() };
    let fits = |line: &str| number(line.rsplit(',').next()) > 1200.0 && number(line.split(',').nth(1)) < 0.0;
    assert!(csv.lines().count() == 41 && csv.lines().skip(1).all(fits), "{csv}");
    let unknown = folder.run(&with_quick(&[
        "sample",
        "pipeline.yaml",
        "boosted",
        "-n",
        "4",
        "-o",
        "x.csv",
        "--where",
        "mass > 1",
    ]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no column `mass`; the columns are ljet1_pt"));

    assert!(folder.print(&["cache", "ls"]).contains("quickstart/boosted"));
    assert!(folder.print(&["cache", "verify"]).contains("all intact"));
}

/// Puts other bytes in the place of a file of a stage's result.
fn spoil(folder: &Folder, pipeline: &str, stage: &str) {
    let record = lines(&folder.print(&["show", pipeline, stage, "--json"])).remove(0);
    let (_, output) = record["outputs"].as_object().unwrap().iter().next().unwrap();
    let digest = output["digest"].as_str().unwrap();
    let object = folder.path("cache/v1/objects").join(&digest[..2]).join(&digest[2..]);
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, vec![b'x'; usize::try_from(output["size"].as_u64().unwrap()).unwrap()]).unwrap();
}

#[test]
fn nothing_is_drawn_from_a_spoilt_evaluation_and_the_next_run_mends_it() {
    let folder = Folder::new();
    let pipeline = "
name: drawn
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 1, events: 900 }, coordinates: { x0: log } }
  base:
    kind: train_gan
    data: events
    generator: { layers: [4], latent: 2 }
    discriminator: { layers: [4] }
    steps: 20
    batch: 8
  evaluation: { kind: evaluate, data: events, models: [base], metrics: [chi2], bootstrap: 2 }
";
    std::fs::write(folder.path("pipeline.yaml"), pipeline).unwrap();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    let plots = folder.path("results/drawn/evaluation");
    std::fs::remove_dir_all(&plots).unwrap();
    spoil(&folder, "pipeline.yaml", "evaluation");
    let output = folder.run(&["run", "pipeline.yaml", "-q"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`evaluation` were corrupted"));
    assert!(!plots.exists());
    folder.print(&["run", "pipeline.yaml", "-q"]);
    assert!(plots.read_dir().unwrap().count() > 0);
    folder.print(&["cache", "verify"]);
}

#[test]
fn a_spoilt_object_is_found_with_exit_code_5() {
    let folder = Folder::with_pipeline();
    folder.print(&["run", "pipeline.yaml", "events", "-q"]);
    spoil(&folder, "pipeline.yaml", "events");
    let output = folder.run(&["cache", "verify"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stdout).contains("corrupted, set aside (events: "));
    folder.print(&["run", "pipeline.yaml", "events", "-q"]);
    folder.print(&["cache", "verify"]);
}
