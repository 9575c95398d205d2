//! Whatever bytes a pipeline file holds, reading it ends with a pipeline or with words, never with a panic.

use std::path::Path;

use pgan_pipe::pipeline::{Pipeline, PipelineError};
use proptest::prelude::*;

const QUICKSTART: &str = include_str!("../pipelines/quickstart.yaml");

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
