//! The reference in `docs/reference` and the schema that `init` writes are what the program says of itself.

use std::{collections::BTreeMap, fs, path::Path};

use pgan_pipe::{
    pipeline::{
        Pipeline,
        schema::{self, options},
    },
    stage::Stage,
};

use program::Folder;

mod program;

/// Files of a folder by name.
fn texts(folder: &Path) -> BTreeMap<String, String> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

#[test]
fn the_committed_reference_is_what_the_program_writes() {
    let folder = Folder::new();
    assert!(folder.run(&["schema", "--reference", "new"]).status.success());
    let committed = texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference"));
    let written = texts(&folder.path("new"));
    assert_eq!(committed.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (name, text) in written {
        assert!(text == committed[&name], "{name} is stale: run `pgan-pipe schema --reference docs/reference`");
    }
}

/// Stages that the examples take from.
const OTHERS: [(&str, &str); 8] = [
    (
        "events",
        "{ kind: dataset, file: events.csv, features: [pt, eta, mass], tail: { observable: pt, quantile: 0.95 } }",
    ),
    ("base", "{ kind: train_gan, data: events, steps: 10 }"),
    ("tail_gan", "{ kind: train_gan, data: events, region: tail, steps: 10 }"),
    ("frozen", "{ kind: freeze, model: base }"),
    ("tail", "{ kind: pretrain_tail, data: events, like: frozen, method: copy }"),
    ("boosted", "{ kind: boost, base: frozen, candidate: tail, data: events, steps: 10 }"),
    ("evaluation", "{ kind: evaluate, data: events, models: [frozen, boosted] }"),
    ("evaluation_of_seed_2", "{ kind: evaluate, seed: 2, data: events, models: [frozen, boosted] }"),
];

#[test]
fn the_example_of_every_kind_is_a_valid_stage_of_that_kind() {
    for kind in Stage::KINDS {
        let example = options::of_kind(kind).unwrap().example.unwrap_or_else(|| panic!("`{kind}` has no example"));
        let name = example.split(':').next().unwrap();
        let mut text = "stages:\n".to_owned();
        text.extend(example.lines().map(|line| format!("  {line}\n")));
        text.extend(
            OTHERS.iter().filter(|(other, _)| *other != name).map(|(other, stage)| format!("  {other}: {stage}\n")),
        );
        let pipeline =
            Pipeline::parse(text.as_bytes(), Path::new("p.yaml"), &[]).unwrap_or_else(|error| panic!("{error}"));
        let stage = pipeline.stages.iter().find(|stage| stage.name == name).unwrap();
        assert_eq!(stage.stage.kind(), *kind);
    }
}

#[test]
fn every_field_has_a_row_with_a_description() {
    for (kind, options) in options::all() {
        let page = fs::read_to_string(format!("docs/reference/{kind}.md")).unwrap();
        let survey = schema::survey(kind).unwrap();
        for field in survey.structs.values().copied().flatten() {
            let inner = format!(".{field}` | ");
            assert!(page.contains(&format!("| `{field}` | ")) || page.contains(&inner), "{kind}: {field}");
        }
        for field in &options.fields {
            assert!(!field.takes.is_empty() && field.about.len() > 3, "{kind}: {field:?}");
        }
    }
}

#[test]
fn init_writes_the_schema_that_its_pipeline_names() {
    let folder = Folder::with_pipeline();
    let pipeline = fs::read_to_string(folder.path("pipeline.yaml")).unwrap();
    let name = pipeline.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
    let written: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.path(name)).unwrap()).unwrap();
    assert_eq!(written, schema::pipeline());
    assert_eq!(folder.print(&["schema"]), fs::read_to_string(folder.path(name)).unwrap());
}

#[test]
fn a_topic_that_is_not_known_is_refused_with_the_near_one() {
    let folder = Folder::new();
    let output = folder.run(&["schema", "bost"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `boost`?"));
    assert!(folder.print(&["schema", "metrics"]).contains("tail_w1: Wasserstein-1 distance"));
    assert!(folder.print(&["schema", "common"]).contains("\n  timeout: text\n"));
}

#[test]
fn the_fields_of_a_kind_read_well() {
    insta::assert_snapshot!("schema_of_pretrain_tail", Folder::new().print(&["schema", "pretrain_tail"]));
}
