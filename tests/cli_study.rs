//! Rounds and replicas through the program, from the plan to the verdict.

use serde_json::Value;

mod program;

use program::Folder;

const STUDY: &str = "\
name: study
seed: 48
replicas: 2
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
    steps: 20
    batch: 32
  frozen: { kind: freeze, model: base }
  tail: { kind: pretrain_tail, data: events, like: frozen, method: none }
  boosted:
    kind: boost
    base: frozen
    candidate: tail
    data: events
    rounds: 2
    mixture: { learn: fixed, initial: 0.1 }
    steps: 10
    batch: 32
  evaluation: { kind: evaluate, data: events, models: [frozen, boosted@round1, boosted] }
";

fn study() -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.path("study.yaml"), STUDY).unwrap();
    folder
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// The last event of a run with these options.
fn run(folder: &Folder, options: &[&str]) -> Value {
    lines(&folder.print(&[&["run", "study.yaml", "--json", "-q"], options].concat())).pop().unwrap()
}

fn metrics(folder: &Folder, stage: &str) -> Value {
    lines(&folder.print(&["show", "study.yaml", stage, "--json"])).remove(0)["metrics"].take()
}

#[test]
fn plan_lists_every_round_and_replica() {
    let folder = study();
    insta::assert_snapshot!("study_plan", folder.print(&["plan", "study.yaml"]));
    assert!(folder.print(&["check", "study.yaml"]).contains("valid, 6 stages; 18 with sweeps, rounds and replicas"));
    let many = folder.print(&["plan", "study.yaml", "--set", "replicas=100"]);
    assert!(many.contains("on evaluation@1, evaluation@2, … evaluation@100 (100 in all)"), "{many}");
}

#[test]
fn graph_shows_the_first_replica_for_all() {
    let folder = study();
    insta::assert_snapshot!("study_graph", folder.print(&["graph", "study.yaml"]));
    let many = folder.print(&["graph", "study.yaml", "--set", "replicas=100"]);
    assert_eq!(many, folder.print(&["graph", "study.yaml"]).replace("×2", "×100"));
    for format in ["mermaid", "dot", "svg"] {
        let drawn = folder.print(&["graph", "study.yaml", "--format", format]);
        assert!(drawn.contains("boost ×2") && !drawn.contains("boosted@2"), "{drawn}");
    }
}

#[test]
fn a_study_runs_to_its_verdict_and_grows_without_repeating_itself() {
    let folder = study();
    let one = ["replicas=1", "boosted.rounds=1", "evaluation.models=[frozen, boosted]"];
    let first = run(&folder, &one.map(|value| ["--set", value]).concat());
    assert_eq!(names(&first["ran"]), ["events", "base", "frozen", "tail", "boosted", "evaluation"]);

    // What one round and one replica made is the beginning of two.
    let output = folder.run(&["run", "study.yaml", "--json"]);
    let events = lines(&String::from_utf8(output.stdout).unwrap());
    let last = events.last().unwrap();
    assert_eq!(names(&last["cached"]), ["events", "base", "frozen", "tail", "boosted@round1"]);
    let ran = names(&last["ran"]);
    assert_eq!(ran.len(), 13, "{ran:?}");
    assert!(ran.contains(&"boosted@candidate2@2") && ran.contains(&"evaluation@2"), "{ran:?}");
    assert!(events.iter().any(|event| event["event"] == "stage_finished" && event["stage"] == "boosted@2"));
    let said = String::from_utf8(output.stderr).unwrap();
    let table = said.split("\nevaluation\n").nth(1).unwrap();
    assert!(table.contains("boosted@round1") && table.contains(" ± "), "{said}");
    assert!(table.contains("boosted / frozen") && table.contains("boosted / boosted@round1"), "{said}");
    assert!(table.contains("2 seeds paired") && !said.contains("One seed"), "{said}");
    assert!(!said.contains("\nevaluation@1\n"), "{said}");
    assert!(folder.path("results/study/evaluation").is_dir());
    assert!(!folder.path("results/study/evaluation@1").exists());
    assert_eq!(names(&run(&folder, &[])["cached"]).len(), 18);

    // The mean is that of the evaluations, under the models' own names.
    let (all, one, two) =
        (metrics(&folder, "evaluation"), metrics(&folder, "evaluation@1"), metrics(&folder, "evaluation@2"));
    let number = |metrics: &Value, name: &str| metrics[name].as_f64().unwrap_or_else(|| panic!("{name}: {metrics}"));
    let mean = f64::midpoint(number(&one, "boosted.tail_w1"), number(&two, "boosted@2.tail_w1"));
    assert!((number(&all, "boosted.tail_w1") - mean).abs() < 1e-12);
    assert!(number(&all, "boosted.tail_w1_low") <= mean && mean <= number(&all, "boosted.tail_w1_high"));
    let ratio = |metrics: &Value, of: &str, to: &str| {
        (number(metrics, &format!("{of}.tail_w1")) / number(metrics, &format!("{to}.tail_w1"))).ln()
    };
    let log_ratio = f64::midpoint(ratio(&one, "boosted", "frozen"), ratio(&two, "boosted@2", "frozen@2"));
    assert!((number(&all, "boosted.log_ratio.tail_w1.frozen") - log_ratio).abs() < 1e-12);
    assert!(all.get("boosted.log_ratio_low.tail_w1.boosted@round1").is_some(), "{all}");
    assert_ne!(number(&one, "boosted.tail_w1"), number(&two, "boosted@2.tail_w1"));
    assert_eq!((number(&all, "seeds"), number(&all, "events.test")), (2.0, number(&one, "events.test")));

    // A margin is no part of what is computed; more replicas add to those that are there.
    let last = run(&folder, &["--set", "evaluation.margin=0.2"]);
    assert_eq!(names(&last["ran"]), ["evaluation"]);
    let last = run(&folder, &["--set", "replicas=3", "--jobs", "2"]);
    assert_eq!(names(&last["cached"]).len(), 17);
    assert!(names(&last["ran"]).iter().all(|name| name.ends_with("@3") || *name == "evaluation"), "{last}");

    // One replica is a stage like any other.
    folder.print(&["sample", "study.yaml", "boosted", "-n", "10", "-o", "a.csv"]);
    folder.print(&["sample", "study.yaml", "boosted@2", "-n", "10", "-o", "b.csv"]);
    let read = |name| std::fs::read(folder.path(name)).unwrap();
    assert_ne!(read("a.csv"), read("b.csv"));
    assert!(folder.print(&["status", "study.yaml"]).contains("boosted@frozen1@2"));
}

#[test]
fn rounds_after_a_declined_one_decline_without_training() {
    // A candidate that is the base's copy makes as many tail events as the base: no weight of it can help.
    let folder = Folder::new();
    let text =
        STUDY.replace("method: none", "method: copy").replace(", initial: 0.1", "").replace("rounds: 2", "rounds: 3");
    std::fs::write(folder.path("study.yaml"), text).unwrap();
    run(&folder, &["--set", "replicas=1"]);
    for stage in ["boosted@round1", "boosted@round2", "boosted"] {
        assert_eq!(metrics(&folder, stage)["declined"], 1.0, "{stage}");
    }
    let record = lines(&folder.print(&["show", "study.yaml", "boosted", "--set", "replicas=1", "--json"])).remove(0);
    assert!(record["notices"][0].as_str().unwrap().contains("so was the round before"), "{record}");
    let table = folder.run(&["run", "study.yaml", "--set", "replicas=1"]).stderr;
    assert!(String::from_utf8(table).unwrap().contains("score the same in all numbers"));
}
