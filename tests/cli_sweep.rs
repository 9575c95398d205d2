//! A sweep through the program: in files that include each other, from the plan to the table.

use serde_json::Value;

mod program;

use program::Folder;

const EVENTS: &str = "\
params: { events: 3000 }
stages:
  events:
    kind: dataset
    synthetic: { density: pareto, index: 3, dimensions: 2, events: \"${params.events}\" }
    coordinates: { x0: log }
    tail: { observable: x0, quantile: 0.9 }
";

const SWEEP: &str = "\
name: sweep
include: lib/events.yaml
stages:
  base:
    kind: train_gan
    matrix: { lr: [1e-3, 1e-2], width: [4, 8, 16, 32] }
    data: events
    generator: { layers: [\"${matrix.width}\"], latent: 4 }
    discriminator: { layers: [8] }
    optimizer: { rate: \"${matrix.lr}\" }
    steps: 20
    batch: 32
  frozen: { kind: freeze, model: base }
  evaluation: { kind: evaluate, data: events, models: [frozen], metrics: [tail, chi2, classifier] }
";

fn sweep() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("lib")).unwrap();
    std::fs::write(folder.path("lib/events.yaml"), EVENTS).unwrap();
    std::fs::write(folder.path("sweep.yaml"), SWEEP).unwrap();
    folder
}

/// The last event of a run with these options.
fn run(folder: &Folder, options: &[&str]) -> Value {
    let text = folder.print(&[&["run", "--json", "-q"], options].concat());
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn count(names: &Value) -> usize {
    names.as_array().unwrap().len()
}

#[test]
fn a_sweep_is_cached_point_by_point_and_shares_with_plain_stages() {
    let folder = sweep();
    let plain = SWEEP
        .replace("    matrix: { lr: [1e-3, 1e-2], width: [4, 8, 16, 32] }\n", "")
        .replace("\"${matrix.width}\"", "16")
        .replace("\"${matrix.lr}\"", "0.01");
    std::fs::write(folder.path("plain.yaml"), plain).unwrap();
    run(&folder, &["plain.yaml"]);

    assert!(folder.print(&["check", "sweep.yaml"]).contains("valid, 4 stages; 18 with sweeps, rounds and replicas"));
    insta::assert_snapshot!("sweep_graph", folder.print(&["graph", "sweep.yaml"]));
    let last = run(&folder, &["sweep.yaml", "base@lr=0.01"]);
    assert_eq!((count(&last["cached"]), count(&last["ran"])), (2, 3), "{last}");
    let last = run(&folder, &["sweep.yaml", "base"]);
    assert_eq!((count(&last["cached"]), count(&last["ran"])), (5, 4), "{last}");
    let last = run(&folder, &["sweep.yaml", "--lock"]);
    assert_eq!((count(&last["cached"]), count(&last["ran"])), (10, 8), "{last}");
    let last = run(&folder, &["sweep.yaml", "--locked", "--force", "frozen"]);
    assert_eq!((count(&last["cached"]), count(&last["ran"])), (10, 8), "{last}");

    let said = String::from_utf8(folder.run(&["run", "sweep.yaml"]).stderr).unwrap();
    let (cached, table) = said.split_once("\nevaluation\n").unwrap();
    assert!(cached.starts_with("cached: events, base@lr=0.001,width=4, … evaluation (18 in all)\n"), "{cached}");
    assert!(table.contains("frozen@lr=0.001,width=16") && !table.contains('…'), "{table}");
    assert!(folder.path("results/sweep/evaluation/x0.svg").exists());

    folder.print(&["sample", "sweep.yaml", "frozen@lr=0.01,width=8", "-n", "5", "-o", "a.csv"]);
    let refused = folder.run(&["cache", "get", "sweep.yaml", "base", "-o", "x"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("name one, as in `base@lr=0.001,width=4`"));
    assert_eq!(folder.print(&["show", "sweep.yaml", "frozen@width=8"]).matches("(freeze)").count(), 2);

    let snakefile = folder.print(&["export", "sweep.yaml", "--format", "snakemake"]);
    assert!(snakefile.contains("INCLUDED = [\"lib/events.yaml\"]"), "{snakefile}");
    assert!(
        snakefile.contains("rule base_lr_0_01_width_16:") && snakefile.contains("RUN + \" base@lr=0.01,width=16 && \"")
    );

    // An added value runs alone.
    let last = run(&folder, &["sweep.yaml", "base", "--set", "base.matrix.width=[64, 4]"]);
    assert_eq!((count(&last["cached"]), count(&last["ran"])), (3, 2), "{last}");
    let refused = folder.run(&["plan", "sweep.yaml", "--set", "base@lr=0.01.steps=5"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("set `base.FIELD` for all points"), "{refused:?}");
}
