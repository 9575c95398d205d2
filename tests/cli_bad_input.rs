//! Bad input through the program: exit code 2, the place, and nothing left behind.

use std::{path::Path, process::Output};

mod program;

use program::Folder;

const BAD: &[(&str, &str)] = &[
    ("unknown_key", "unknown_key.yaml:11:5"),
    ("misspelt_kind", "misspelt_kind.yaml:9:11"),
    ("wrong_type", "wrong_type.yaml:11:12"),
    ("duplicate_key", "duplicate_key.yaml:12:5"),
    ("missing_reference", "missing_reference.yaml:10:11"),
    ("cycle", "cycle.yaml:"),
    ("self_reference", "self_reference.yaml:10:12"),
    ("wrong_artifact", "wrong_artifact.yaml:19:11"),
    ("probability_above_one", "probability_above_one.yaml:25:25"),
    ("alias_bomb", "alias_bomb.yaml:"),
    ("empty", "empty.yaml"),
    ("comments_only", "comments_only.yaml"),
    ("not_yaml", "not_yaml.yaml:5:16"),
    ("tabs", "tabs.yaml:2:"),
    ("not_a_map", "not_a_map.yaml:1:1"),
    ("not_utf8", "not_utf8.yaml"),
    ("second_document", "second_document.yaml:8:1"),
    ("unquoted_reference", "unquoted_reference.yaml:13:25"),
    ("unknown_parameter", "unknown_parameter.yaml:12:12"),
    ("parameter_of_wrong_type", "parameter_of_wrong_type.yaml:13:12"),
    ("several_mistakes", "several_mistakes.yaml: 14 problems"),
    ("no_stages", "no_stages.yaml"),
];

/// Mistakes in what a pipeline refers to.
const BAD_DATA: &[(&str, &str)] = &[
    ("missing_column", "missing_column.yaml:5:26"),
    ("nan_in_data", "nan_in_data.yaml:"),
    ("missing_file", "missing_file.yaml:4:11"),
];

fn assert_refused(output: &Output, place: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(place), "{place}:\n{error}");
    assert!(error.starts_with("error: ") && !error.contains("panicked"), "{error}");
    assert!(output.stdout.is_empty());
}

fn bad(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad").join(format!("{name}.yaml"));
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_bad_pipeline_is_refused_with_exit_code_2_and_its_place() {
    let folder = Folder::new();
    for (name, place) in BAD {
        for verb in ["check", "plan", "run", "status", "graph", "show"] {
            assert_refused(&folder.run(&[verb, &bad(name)]), place);
        }
    }
    assert!(folder.is_empty());
}

#[test]
fn check_and_run_refuse_sources_that_do_not_fit() {
    let folder = Folder::new();
    for (name, place) in BAD_DATA {
        for verb in ["check", "run"] {
            assert_refused(&folder.run(&[verb, &bad(name)]), place);
        }
    }
}

#[test]
fn a_pipeline_that_is_not_there_is_wrong_usage() {
    let output = Folder::new().run(&["check", "nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read the pipeline nowhere.yaml"));
}

#[test]
fn a_folder_is_no_pipeline() {
    assert_eq!(Folder::new().run(&["check", "."]).status.code(), Some(2));
}
