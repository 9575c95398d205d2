//! What a plan says, on stores filled by hand.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::store::{Lookup, Outcome, Provenance};

const YAML: &str = "
name: study
seed: 48
stages:
  evaluation: { kind: evaluate, data: events, models: [frozen, other] }
  events: { kind: dataset, file: events.csv }
  base: { kind: train_gan, data: events, steps: 2000, loss: { r1: 0.1 } }
  frozen: { kind: freeze, model: base }
  other: { kind: train_gan, data: events, steps: 50 }
";

/// A folder with a store, a source and pipelines.
struct Bench {
    folder: TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.csv"), "x\n1\n2\n").unwrap();
        let store = Store::at(&folder.path().join("cache"));
        Self { folder, store }
    }

    fn pipeline(&self, yaml: &str) -> Pipeline {
        Pipeline::parse(yaml.as_bytes(), &self.folder.path().join("study.yaml"), &[]).unwrap()
    }

    fn plan(&self, yaml: &str) -> Plan {
        Plan::make(&self.pipeline(yaml), &self.store, &[], &[]).unwrap()
    }

    /// Stores a result for every stage of the pipeline; the content is that of `content`, by stage name.
    fn fill(&self, yaml: &str, content: impl Fn(&str) -> String) {
        let pipeline = self.pipeline(yaml);
        while let Some((stage, key)) = next_to_run(&Plan::make(&pipeline, &self.store, &[], &[]).unwrap()) {
            let declared = &pipeline.stages[stage.index];
            let Lookup::Miss(slot) = self.store.lookup(key).unwrap() else { panic!("a planned run must miss") };
            fs::write(slot.out().join("file"), content(&stage.name)).unwrap();
            let plan = Plan::make(&pipeline, &self.store, &[], &[]).unwrap();
            let mut inputs = BTreeMap::<String, Vec<Digest>>::new();
            for &(role, index) in &stage.inputs {
                let producer = plan.stages.iter().find(|producer| producer.index == index).unwrap();
                let StageState::Cached { record, .. } = &producer.state else { panic!("an input that is not cached") };
                inputs.entry(role.to_owned()).or_default().push(record.artifact());
            }
            let material = declared_material(&pipeline, &self.store, declared, inputs).unwrap();
            let mut names = BTreeMap::<String, Vec<String>>::new();
            for port in declared.stage.ports() {
                names.entry(port.role.to_owned()).or_default().push(port.reference.to_owned());
            }
            let provenance = Provenance {
                stage: stage.name.clone(),
                pipeline: pipeline.name.clone(),
                version: "0".to_owned(),
                device: "cpu".to_owned(),
                host: "linux".to_owned(),
                started: jiff::Timestamp::now().to_string(),
                seconds: 0.0,
                argv: Vec::new(),
                inputs: names,
                sources: declared.source_paths(),
            };
            let (produces, metrics, notices) = (declared.stage.produces(), BTreeMap::new(), Vec::new());
            let files = fs::read_dir(slot.out()).unwrap();
            let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            slot.commit(Outcome { material, produces, files, metrics, notices, provenance }).unwrap();
        }
    }
}

fn next_to_run(plan: &Plan) -> Option<(PlannedStage, CacheKey)> {
    plan.stages.iter().find_map(|stage| match stage.state {
        StageState::Run { key, .. } => Some((stage.clone(), key)),
        _ => None,
    })
}

fn own_name(stage: &str) -> String {
    stage.to_owned()
}

/// The plan in one line a stage: `name: cached`, `name: run (why; why)`, `name: after x (why)`.
fn told(plan: &Plan) -> Vec<String> {
    let join = |why: &[Reason]| why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    plan.stages
        .iter()
        .map(|stage| match &stage.state {
            StageState::Cached { .. } => format!("{}: cached", stage.name),
            StageState::Elsewhere { .. } => format!("{}: elsewhere", stage.name),
            StageState::Run { why, .. } => format!("{}: run ({})", stage.name, join(why)),
            StageState::DependsOn { stages, why } => {
                format!("{}: after {} ({})", stage.name, stages.join(" "), join(why))
            }
        })
        .collect()
}

#[test]
fn a_new_pipeline_runs_its_roots_and_knows_what_waits_for_them() {
    let told = told(&Bench::new().plan(YAML));
    assert_eq!(
        told,
        [
            "events: run (never ran)",
            "base: after events (never ran)",
            "frozen: after base (never ran)",
            "other: after events (never ran)",
            "evaluation: after events frozen other (never ran)",
        ]
    );
}

#[test]
fn what_has_run_is_cached_whatever_its_names_order_and_comments() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    assert!(bench.plan(YAML).up_to_date());
    let rewritten = "
# the same study, told otherwise
stages:
  second: { steps: 50, batch: 512, data: data, kind: train_gan }   # batch: the default
  fixed: { model: first, kind: freeze }
  data: { file: ./events.csv, kind: dataset }
  verdict: { models: [fixed, second], data: data, kind: evaluate }
  first: { kind: train_gan, loss: { r1: 1e-1, kind: relativistic }, data: data, steps: 2_000 }
seed: 48
name: another-name
";
    assert!(bench.plan(rewritten).up_to_date(), "{:#?}", told(&bench.plan(rewritten)));
}

#[test]
fn a_changed_parameter_is_named_with_both_values_and_runs_what_needs_it() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    let changed = YAML.replace("steps: 2000, loss: { r1: 0.1 }", "steps: 3000, loss: { r1: 0.5, r2: 1 }");
    assert_eq!(
        told(&bench.plan(&changed)),
        [
            "events: cached",
            "base: run (`loss.r1` 0.1 → 0.5; `loss.r2` null → 1.0; `steps` 2000 → 3000)",
            "frozen: after base ()",
            "other: cached",
            "evaluation: after frozen ()",
        ]
    );
}

#[test]
fn a_stage_that_reproduces_its_output_stops_the_invalidation() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    let changed = YAML.replace("steps: 2000", "steps: 3000");
    bench.fill(&changed, own_name);
    let keys = bench.store.list().unwrap().len();
    assert_eq!(keys, 6, "only `base` has a second record");
}

#[test]
fn an_input_that_came_out_otherwise_is_named() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    let changed = YAML.replace("steps: 50", "steps: 60");
    let pipeline = bench.pipeline(&changed);
    // Only `other` runs, and gives something new.
    let (stage, key) = next_to_run(&Plan::make(&pipeline, &bench.store, &[], &[]).unwrap()).unwrap();
    assert_eq!(stage.name, "other");
    bench.fill(
        &changed.replace("  evaluation: { kind: evaluate, data: events, models: [frozen, other] }\n", ""),
        |name| format!("another {name}"),
    );
    assert!(matches!(bench.store.find(key).unwrap(), Found::Complete(_)));
    let told = told(&bench.plan(&changed));
    assert_eq!(told[4], "evaluation: run (input `models` (stage `other`) changed)");
}

#[test]
fn a_seed_and_a_source_that_changed_are_named() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    let reseeded = told(&bench.plan(&YAML.replace("steps: 50", "steps: 50, seed: 7")));
    assert_eq!(reseeded[3], "other: run (seed 48 → 7)");
    fs::write(bench.folder.path().join("events.csv"), "x\n3\n").unwrap();
    assert_eq!(told(&bench.plan(YAML))[0], "events: run (source file events.csv changed)");
}

#[test]
fn a_field_that_became_a_reference_is_told_as_what_it_is() {
    let bench = Bench::new();
    let synthetic =
        YAML.replace("file: events.csv", "synthetic: { density: pareto, index: 3, dimensions: 2, events: 500 }");
    let told_of = |from: &str, to: &str, position: usize| {
        bench.fill(from, own_name);
        told(&bench.plan(to))[position].clone()
    };
    assert_eq!(told_of(&synthetic, YAML, 0), "events: run (`synthetic` is gone; source `file` is new (events.csv))");
    let back = told_of(YAML, &synthetic.replace("events: 500", "events: 501"), 0);
    assert!(back.starts_with("events: run (`synthetic` is new: {"), "{back}");
    assert!(back.ends_with("; source `file` is gone (events.csv))"), "{back}");

    let started = YAML.replace("steps: 50 }", "steps: 50, start: frozen }");
    assert_eq!(told_of(YAML, &started, 3), "other: run (input `start` is new (stage `frozen`))");
    let first = started.replace("steps: 2000", "steps: 2500");
    assert_eq!(told_of(YAML, &first, 3), "other: after frozen (input `start` is new (stage `frozen`))");
    let ended = YAML.replace("steps: 50 }", "steps: 51 }");
    assert_eq!(told_of(&started, &ended, 3), "other: run (`steps` 50 → 51; input `start` is gone (stage `frozen`))");
}

#[test]
fn a_file_that_is_gone_from_the_cache_is_named() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    fs::remove_file(bench.store.object(Digest::of(b"other"))).unwrap();
    assert_eq!(told(&bench.plan(YAML))[3], "other: run (`file` is missing from the cache)");
}

#[test]
fn a_forced_stage_runs_and_leaves_its_dependants_open() {
    let bench = Bench::new();
    bench.fill(YAML, own_name);
    let plan = Plan::make(&bench.pipeline(YAML), &bench.store, &[], &["base".to_owned()]).unwrap();
    assert_eq!(told(&plan)[1..3], ["base: run (forced)", "frozen: after base ()"]);
}

#[test]
fn targets_take_their_ancestors_along_and_nothing_else() {
    let bench = Bench::new();
    let plan = Plan::make(&bench.pipeline(YAML), &bench.store, &["frozen".to_owned()], &[]).unwrap();
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["events", "base", "frozen"]);
    let edges: Vec<_> =
        plan.graph().raw_edges().iter().map(|e| (e.source().index(), e.target().index(), e.weight)).collect();
    assert_eq!(edges, [(0, 1, "data"), (1, 2, "model")]);
}

#[test]
fn a_misspelt_target_is_answered_with_the_nearest_name() {
    let bench = Bench::new();
    for (targets, force) in [(vec!["frozn".to_owned()], vec![]), (vec![], vec!["frozn".to_owned()])] {
        let error = Plan::make(&bench.pipeline(YAML), &bench.store, &targets, &force).unwrap_err();
        assert_eq!(error.to_string(), "there is no stage `frozn` in this pipeline; did you mean `frozen`?");
    }
}

#[test]
fn a_source_that_cannot_be_read_is_named_with_its_stage() {
    let bench = Bench::new();
    let pipeline = bench.pipeline(YAML);
    fs::remove_file(bench.folder.path().join("events.csv")).unwrap();
    let error = Plan::make(&pipeline, &bench.store, &[], &[]).unwrap_err().to_string();
    assert!(error.starts_with("the stage `events` cannot read its `file` ") && error.contains("events.csv"), "{error}");
}

#[test]
fn a_plan_changes_nothing_in_the_store() {
    let bench = Bench::new();
    bench.plan(YAML);
    assert!(!bench.store.root().join("records").exists() && !bench.store.root().join("work").exists());
}

#[test]
fn metrics_by_position_get_the_names_of_the_models() {
    let models = |names: [&str; 2]| names.map(str::to_owned);
    let metrics = Metrics::from([
        ("floor.ks".to_owned(), 0.0),
        ("models[0].ks.jj_M".to_owned(), 1.0),
        ("models[1].ks.jj_M".to_owned(), 2.0),
        ("models[1].log_ratio.tail_w1.models[0]".to_owned(), 4.0),
        ("models[7].ks.jj_M".to_owned(), 3.0),
    ]);
    let named = named_metrics(&models(["frozen", "boosted"]), &metrics);
    let names: Vec<&str> = named.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["boosted.ks.jj_M", "boosted.log_ratio.tail_w1.frozen", "floor.ks", "frozen.ks.jj_M", "models[7].ks.jj_M"]
    );
    let twice = named_metrics(&models(["frozen", "frozen"]), &metrics);
    assert_eq!(twice, metrics);
}
