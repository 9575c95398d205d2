//! `diff` and `cache runs`, from runs to numbers.

use serde_json::Value;

mod program;

use program::Folder;

const PIPELINE: &str = "\
params: { rate: 1e-3 }
stages:
  events:
    kind: dataset
    synthetic: { density: pareto, index: 3, dimensions: 2, events: 4000 }
    coordinates: { x0: log }
    tail: { observable: x0, quantile: 0.9 }
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 4 }
    discriminator: { layers: [8] }
    steps: 200
    batch: 32
    optimizer: { rate: \"${params.rate}\" }
  evaluation: { kind: evaluate, data: events, models: [base], metrics: [tail, ks] }
";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_changed_parameter_and_what_it_did_are_told() {
    let folder = Folder::new();
    std::fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
    folder.print(&["run", "p.yaml", "-q", "--lock"]);
    folder.print(&["run", "p.yaml", "-q", "--set", "rate=2e-2"]);
    folder.print(&["run", "p.yaml", "-q", "--set", "rate=2e-2"]);

    let runs = lines(&folder.print(&["cache", "runs", "--json"]));
    assert_eq!(runs.len(), 3);
    // What is cached is known by name, too.
    assert_eq!((runs[0]["ran"].as_u64(), runs[0]["stages"].as_object().unwrap().len()), (Some(0), 3));
    assert!(folder.print(&["cache", "runs"]).contains("2 ran, 1 cached"));

    let id = format!("run:{}", runs[2]["run"].as_str().unwrap());
    for pair in [["run:latest", "run:latest~1"], ["p.yaml", "p.lock"], [&*id, "p.yaml"]] {
        let same = folder.print(&[&["diff"][..], &pair, &["--exit-code"]].concat());
        assert!(same.contains("nothing differs: 3 stages"), "{same}");
    }
    let text = folder.print(&["diff", "run:latest~2", "run:latest"]);
    assert!(
        text.contains("`optimizer.rate` 0.001 → 0.02") && text.contains("  by their inputs: evaluation\n"),
        "{text}"
    );
    let all = folder.print(&["diff", "run:latest~2", "run:latest", "--all"]);
    assert!(all.contains("  by its inputs: base") && all.matches(" files ").count() == 2, "{all}");
    assert!(text.contains("evaluation  base.tail_w1 ") && text.contains("1 stage the same"), "{text}");

    for sides in [["p.lock", "run:latest"], ["run:latest~2", "run:latest"]] {
        let found = lines(&folder.print(&[&["diff", "--json", "--metrics", "tail_w1"][..], &sides].concat()));
        let events: Vec<&str> = found.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["stage_differs", "stage_differs", "metric_differs", "diff_finished"]);
        let (change, number) = (&found[2], |value: &Value| value.as_f64().unwrap());
        assert_eq!(change["metric"], "base.tail_w1");
        assert_eq!(number(&change["difference"]), number(&change["b"]["value"]) - number(&change["a"]["value"]));
        let beyond = number(&change["difference"]).abs() > number(&change["uncertainty"]);
        assert_eq!(change["beyond"], beyond);
    }

    // A pipeline that has not run is compared as far as its parameters go.
    let text = folder.print(&["diff", "p.yaml", "p.yaml", "--set", "rate=0.5"]);
    assert!(text.contains("without a result in B: base, evaluation") && text.contains("0.001 → 0.5"), "{text}");
    assert_eq!(folder.run(&["diff", "p.yaml", "p.yaml", "--set", "rate=0.5", "--exit-code"]).status.code(), Some(4));
}

#[test]
fn what_cannot_be_compared_is_said_to_be_so() {
    let folder = Folder::new();
    std::fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
    for (arguments, said) in [
        (["run:latest", "p.yaml"], "there is no run `run:latest`: the cache knows of 0 runs"),
        (["run:later", "p.yaml"], "there is no run `run:later`"),
        (["run:latest~x", "p.yaml"], "write `run:latest~1`"),
        (["none.lock", "p.yaml"], "there is no lock none.lock"),
        (["p.yaml", "none.yaml"], "cannot read the pipeline none.yaml"),
    ] {
        let output = folder.run(&[&["diff"][..], &arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_renamed_stage_is_a_rename_and_its_metrics_are_the_same() {
    let folder = Folder::new();
    std::fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
    let renamed = PIPELINE.replace("base:", "first:").replace("[base]", "[first]").replace("events:\n", "data:\n");
    let renamed = renamed.replace("data: events", "data: data");
    std::fs::write(folder.path("q.yaml"), &renamed).unwrap();
    // It need not have run.
    assert!(folder.print(&["diff", "p.yaml", "q.yaml"]).contains("renamed: events → data\n"));
    folder.print(&["run", "p.yaml", "-q"]);
    let text = folder.print(&["diff", "p.yaml", "q.yaml"]);
    assert!(text.contains("renamed: base → first, events → data\n") && text.contains("3 stages the same"), "{text}");
    assert!(!text.contains("only in") && !text.contains("tail_w1"), "{text}");
    let found = lines(&folder.print(&["diff", "p.yaml", "q.yaml", "--json"]));
    assert_eq!(found[0], serde_json::json!({"event": "stage_renamed", "a": "base", "b": "first"}));
    assert_eq!((found.len(), &found[2]["same"]), (3, &Value::Bool(false)));
    // One that is another under another name is none.
    std::fs::write(folder.path("q.yaml"), renamed.replace("steps: 200", "steps: 20")).unwrap();
    let text = folder.print(&["diff", "p.yaml", "q.yaml"]);
    assert!(text.contains("only in A: base") && text.contains("only in B: first"), "{text}");
}
