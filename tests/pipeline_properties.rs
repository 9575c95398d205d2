//! Whatever bytes a pipeline file holds, reading it ends with a pipeline or with words, never with a panic.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pgan_pipe::pipeline::{Files, Pipeline, PipelineError};
use proptest::prelude::*;

const QUICKSTART: &str = include_str!("../pipelines/quickstart.yaml");

/// A sweep, with dots where something may be put in.
const SWEPT: &str = "
params: { many: [VALUES] }
stages:
  events: { kind: dataset, file: x.csv, tail: { observable: x, above: 1 } }
  base: { kind: train_gan, matrix: { AXIS: [1, 2, VALUES], lr: \"${params.many}\"· }, data: events·, steps: \"${matrix.AXIS}·\" }
  frozen: { kind: freeze, model: base· }
  tail: { kind: pretrain_tail, data: events, like: frozen, method: none, matrix: { lr: [3·] } }
  boosted: { kind: boost, base: frozen, candidate: tail, data: events, steps: 5, rounds: 2 }
  evaluation: { kind: evaluate, data: events, models: [frozen, boosted, boosted@round1·] }
";

/// Reads the bytes, and renders what is wrong with them.
fn read(bytes: &[u8], overrides: &[(String, String)]) {
    match Pipeline::parse(bytes, Path::new("p.yaml"), overrides) {
        Ok(pipeline) => assert!(!pipeline.stages.is_empty()),
        Err(PipelineError::Invalid(diagnostics)) => {
            assert!(diagnostics.count() > 0);
            assert!(!diagnostics.render(true).is_empty());
        }
        Err(PipelineError::Io { .. }) => panic!("bytes in memory cannot fail to be read"),
    }
}

/// Pieces of YAML that mean something to a pipeline.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        ":",
        " ",
        "\n",
        "\n  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "<<: *a",
        "!x ",
        "!!str ",
        "|",
        "\"",
        "'",
        "#",
        "---\n",
        "\u{feff}",
        "\t",
        "1.5",
        "-3",
        "1e999",
        ".nan",
        "null",
        "é",
        "${params.steps}",
        "${params.x}",
        "${",
        "kind",
        "seed",
        "data",
        "include: p.yaml",
        "include: [\"1\", \"2\"]\n",
        "matrix: { x: [1, 2], y: [3] }",
        "exclude: [{ x: 1 }]",
        "${matrix.x}",
        "base@x=1",
        "stages",
        "params",
        "train_gan",
        "boost",
        "evaluate",
        "aggregate",
        "replicas",
        "rounds: 3",
        "@round1",
        "models",
        "events",
        "steps",
        "coordinates",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes, &[]);
    }

    #[test]
    fn texts_of_yaml_pieces_never_panic(pieces in prop::collection::vec(piece(), 0..80)) {
        read(pieces.concat().as_bytes(), &[]);
    }

    #[test]
    fn files_of_yaml_pieces_that_include_each_other_never_panic(
        texts in prop::collection::vec(prop::collection::vec(piece(), 0..40), 1..4), include: bool,
    ) {
        let text = |pieces: Vec<&str>| if include { format!("include: [1, '0', \"2\"]\n{}", pieces.concat()) } else { pieces.concat() };
        let files: BTreeMap<PathBuf, Vec<u8>> =
            texts.into_iter().enumerate().map(|(index, pieces)| (index.to_string().into(), text(pieces).into())).collect();
        let first = files[Path::new("0")].clone();
        if let Err(error) = Pipeline::parse_from(Files::Memory(&files), &first, Path::new("0"), &[]) {
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_sweep_over_anything_never_panics(
        field in 0..SWEPT.matches('\u{b7}').count(), axis in "[a-z]{1,3}", values in prop::collection::vec(piece(), 0..4), more in piece(),
    ) {
        let mut places = SWEPT.split('\u{b7}');
        let mut text = places.next().unwrap_or_default().to_owned();
        for (at, rest) in places.enumerate() {
            text += if at == field { more } else { "" };
            text += rest;
        }
        let values = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
        read(text.replace("AXIS", &axis).replace("VALUES", &values).as_bytes(), &[]);
    }

    #[test]
    fn a_changed_pipeline_never_panics(
        edits in prop::collection::vec((0..QUICKSTART.len(), 0..12_usize, piece()), 1..6),
    ) {
        let mut bytes = QUICKSTART.as_bytes().to_vec();
        for (at, removed, piece) in edits {
            let start = at.min(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, piece.bytes());
        }
        read(&bytes, &[]);
    }

    #[test]
    fn any_override_is_taken_or_refused(key in "[a-z._0-9]{0,12}", field in piece(), value in ".{0,12}") {
        let overrides = [(key.clone(), value.clone()), (format!("base.{field}.{key}"), value.clone()), (field.into(), value.clone()), ("replicas".into(), value.clone()), ("boosted.rounds".into(), value)];
        read(QUICKSTART.as_bytes(), &overrides);
    }
}
