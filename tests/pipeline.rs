//! Pipelines as users write them: what is refused, and with which words.

use std::{fmt::Write, path::Path, time::Instant};

use pgan_pipe::{
    pipeline::{Pipeline, PipelineError},
    stage::Stage,
};

fn set(overrides: &[(&str, &str)]) -> Vec<(String, String)> {
    overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn refused_with(name: &str, overrides: &[(&str, &str)]) -> String {
    let path = format!("tests/bad/{name}.yaml");
    match Pipeline::load(Path::new(&path), &set(overrides)) {
        Ok(_) => panic!("{path} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn refused(name: &str) -> String {
    refused_with(name, &[])
}

fn refused_data(name: &str) -> String {
    let path = format!("tests/bad/{name}.yaml");
    let pipeline = Pipeline::load(Path::new(&path), &[]).unwrap();
    pipeline.preflight(&[0]).unwrap_err().to_string().replace(env!("CARGO_MANIFEST_DIR"), "[PROJECT]")
}

fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Pipeline, PipelineError> {
    Pipeline::parse(text.as_bytes(), Path::new("p.yaml"), &set(overrides))
}

macro_rules! refusals {
    ($($test:ident: $file:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            insta::assert_snapshot!($file, refused($file));
        })*
    };
}

refusals! {
    an_unknown_key_is_shown_with_what_is_known: "unknown_key",
    a_misspelt_kind_is_shown_with_the_near_one: "misspelt_kind",
    values_of_the_wrong_type_are_all_shown: "wrong_type",
    a_duplicate_key_is_shown_in_both_places: "duplicate_key",
    a_missing_reference_is_shown_with_the_near_one: "missing_reference",
    a_cycle_is_shown_as_a_path: "cycle",
    a_self_reference_is_refused: "self_reference",
    a_port_refuses_the_wrong_artifact: "wrong_artifact",
    a_probability_of_one_and_a_half_is_refused: "probability_above_one",
    an_alias_bomb_is_refused: "alias_bomb",
    an_empty_file_is_refused: "empty",
    comments_alone_are_refused: "comments_only",
    text_that_is_not_yaml_is_refused: "not_yaml",
    tabs_are_refused: "tabs",
    a_list_is_no_pipeline: "not_a_map",
    bytes_that_are_not_utf8_are_refused: "not_utf8",
    a_second_document_is_refused: "second_document",
    an_unquoted_reference_in_brackets_is_explained: "unquoted_reference",
    an_unknown_parameter_is_refused: "unknown_parameter",
    a_parameter_of_the_wrong_type_is_shown_where_it_is_used: "parameter_of_wrong_type",
    several_mistakes_are_reported_at_once: "several_mistakes",
    a_pipeline_without_stages_is_refused: "no_stages",
}

#[test]
fn a_column_that_the_file_lacks_is_refused() {
    insta::assert_snapshot!("missing_column", refused_data("missing_column"));
}

#[test]
fn nan_in_the_data_is_refused() {
    insta::assert_snapshot!("nan_in_data", refused_data("nan_in_data"));
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let message = refused_data("missing_file");
    assert!(message.contains("no_such_events.parquet") && message.contains("missing_file.yaml:4:11"), "{message}");
}

#[test]
fn overrides_with_mistakes_name_their_set() {
    let overrides = [("stpes", "5"), ("base_gan.data.x", "1"), ("base_gan.steps", "abc"), ("base_gan.layers", "[1,")];
    insta::assert_snapshot!("overrides", refused_with("unknown_key", &overrides));
}

#[test]
fn an_override_of_a_parameter_is_named_where_the_parameter_is_used() {
    insta::assert_snapshot!("override_of_parameter", refused_with("parameter_of_wrong_type", &[("steps", "-1")]));
}

const SMALL: &str = "
params: { steps: 100, data: events, rate: 2 }
stages:
  base:
    steps: ${params.steps}
    data: ${params.data}
    seed: 7
    optimizer: { rate: 1e-3, warmup: 1e1 }
    kind: train_gan
  events: { kind: dataset, file: 'ev${params.rate}.csv', limit: 1_000, coordinates: { x: log }, symmetries: [[x]] }
";

fn train(pipeline: &Pipeline) -> &pgan_pipe::stage::train_gan::TrainGan {
    match &pipeline.stages[0].stage {
        Stage::TrainGan(train) => train,
        other => panic!("{other:?}"),
    }
}

#[test]
fn kind_may_stand_anywhere_and_parameters_take_their_type() {
    let pipeline = parse(SMALL, &[]).unwrap();
    assert_eq!(pipeline.name, "p");
    assert_eq!(train(&pipeline).steps.get(), 100);
    assert_eq!(train(&pipeline).data, "events");
    assert_eq!(train(&pipeline).optimizer.warmup, 10);
    assert_eq!((pipeline.stages[0].seed, pipeline.stages[1].seed), (7, 0));
    let Stage::Dataset(dataset) = &pipeline.stages[1].stage else { panic!("a dataset") };
    assert_eq!(dataset.file.as_deref(), Some(Path::new("ev2.csv")));
    assert_eq!(dataset.limit.map(pgan_pipe::value::EventCount::get), Some(1000));
    assert!(pipeline.sources(&pipeline.stages[1])["file"].is_absolute());
}

#[test]
fn overrides_reach_parameters_fields_and_the_seed() {
    let overrides = [("steps", "5"), ("base.generator.layers", "[8, 8]"), ("base.ema", "0.5"), ("seed", "9")];
    let pipeline = parse(SMALL, &overrides).unwrap();
    let base = train(&pipeline);
    assert_eq!(base.steps.get(), 5);
    assert_eq!(base.generator.layers.len(), 2);
    assert!((base.ema.get() - 0.5).abs() < 1e-12);
    assert_eq!((pipeline.stages[0].seed, pipeline.stages[1].seed), (7, 9));
}

#[test]
fn the_order_of_stages_is_that_of_the_file() {
    let names: Vec<String> = parse(SMALL, &[]).unwrap().stages.into_iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["base", "events"]);
}

#[test]
fn ready_pipelines_are_valid() {
    for entry in std::fs::read_dir("pipelines").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            Pipeline::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            let three = Pipeline::load(&path, &set(&[("replicas", "3")])).unwrap_or_else(|error| panic!("{error}"));
            assert!(three.stages.iter().any(|declared| declared.replica == 3), "{}", path.display());
        }
    }
}

#[test]
fn a_pipeline_of_a_thousand_stages_reads_at_once() {
    let mut text = String::from("stages:\n  events: { kind: dataset, file: x.csv }\n");
    for index in 0..1000 {
        let _ = writeln!(text, "  base{index}:\n    kind: train_gan\n    data: events\n    steps: 100\n    batch: 64");
        let _ = writeln!(text, "  frozen{index}:\n    kind: freeze\n    model: base{index}");
    }
    let started = Instant::now();
    let pipeline = parse(&text, &[]).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(pipeline.stages.len(), 2001);
    assert!(seconds < 0.5, "{seconds} s"); // 50 ms on an idle core
}

#[test]
fn a_file_with_thousands_of_mistakes_shows_some_and_counts_all() {
    let mut text = String::from("stages:\n");
    for index in 0..3000 {
        let _ = writeln!(text, "  s{index}: {{ kind: freeze, model: nothing }}");
    }
    let message = parse(&text, &[]).unwrap_err().to_string();
    assert!(message.contains("… and 2950 more") && message.ends_with("p.yaml: 3000 problems"), "{message}");
}

#[test]
fn a_pipeline_of_seventeen_mebibytes_is_refused() {
    let text = "#".repeat(17 << 20);
    assert!(parse(&text, &[]).unwrap_err().to_string().contains("larger than 16 MiB"));
}

#[test]
fn names_that_are_too_long_for_files_are_refused_with_the_limit() {
    let long = "a".repeat(101);
    let dataset = "{ kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 100 } }";
    for (text, place) in [
        (format!("stages:\n  {long}: {dataset}\n"), "p.yaml:2:3"),
        (format!("name: {long}\nstages:\n  events: {dataset}\n"), "p.yaml:1:7"),
    ] {
        let message = parse(&text, &[]).unwrap_err().to_string();
        assert!(message.contains(place) && message.contains(": it has 101 characters"), "{message}");
        assert!(message.contains("at most 100 characters"), "{message}");
    }
    // The point of a sweep has a share of its own, and what comes of rounds and replicas still fits.
    let axes = ["b", "c", "d"].map(|letter| letter.repeat(40));
    let swept = |count: usize| {
        let matrix: Vec<String> = axes[..count].iter().map(|axis| format!("{axis}: [2, 3]")).collect();
        let value = |axis: usize| if axis < count { format!("\"${{matrix.{}}}\"", axes[axis]) } else { "4".to_owned() };
        format!(
            "replicas: 2\nstages:\n  {}:\n    matrix: {{ {} }}\n    kind: dataset\n    seed: {}\n    synthetic:\n      \
             {{ density: pareto, index: {}, dimensions: {}, events: 100 }}\n",
            "a".repeat(100),
            matrix.join(", "),
            value(0),
            value(1),
            value(2),
        )
    };
    let stages = parse(&swept(2), &[]).unwrap().stages;
    assert!(stages.iter().all(|stage| (180..240).contains(&stage.name.len())));
    let message = parse(&swept(3), &[]).unwrap_err().to_string();
    assert!(message.contains("p.yaml:3:3") && message.contains("all together may have 120 characters"), "{message}");
}

#[test]
fn a_frozen_model_is_not_told_to_be_frozen_again() {
    let text = "
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 100 } }
  base: { kind: train_gan, data: events, steps: 5 }
  frozen: { kind: freeze, model: base }
  again: { kind: freeze, model: frozen }
  wrong: { kind: freeze, model: events }
";
    let message = parse(text, &[]).unwrap_err().to_string();
    assert!(message.contains("`frozen` is frozen already: take it directly, and leave this stage out"), "{message}");
    assert!(message.contains("help: refer to a `train_gan` or `boost` stage"), "{message}");
}
