// Exact on purpose: these numbers are copied or representable.
#![allow(clippy::float_cmp)]

use serde_json::{Value, json};

use super::*;
use crate::{device::DeviceName, rng::Streams, stage::Artifact};

const FEATURES: [&str; 7] = dijet::FEATURES;

fn stage(fields: Value) -> Dataset {
    serde_json::from_value(fields).unwrap()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dijet").join(name)
}

fn quickstart() -> Value {
    json!({
        "file": "train.parquet", "features": FEATURES, "coordinates": "dijet", "observables": "dijet",
        "symmetries": "dijet", "tail": { "observable": "jj_M", "above": 1500 },
    })
}

/// `quickstart` with a field changed.
fn with(field: &str, value: Value) -> Value {
    let mut fields = quickstart();
    fields[field] = value;
    fields
}

fn run(stage: &Dataset, sources: &[(&str, PathBuf)], seed: u64) -> Result<(Metrics, SplitEvents), StageError> {
    let out = tempfile::tempdir().unwrap();
    run_in(out.path(), &Scratch::memory(), stage, sources, seed)
}

fn run_in(
    out: &Path,
    scratch: &Scratch,
    stage: &Dataset,
    sources: &[(&str, PathBuf)],
    seed: u64,
) -> Result<(Metrics, SplitEvents), StageError> {
    run_and_hear(out, scratch, stage, sources, seed, &mut |_| {})
}

fn run_and_hear(
    out: &Path,
    scratch: &Scratch,
    stage: &Dataset,
    sources: &[(&str, PathBuf)],
    seed: u64,
    progress: &mut dyn FnMut(crate::stage::Progress),
) -> Result<(Metrics, SplitEvents), StageError> {
    let mut context = Context {
        inputs: BTreeMap::new(),
        sources: sources.iter().map(|(field, path)| ((*field).to_owned(), path.clone())).collect(),
        streams: Streams::new(seed, "dataset"),
        device: DeviceName::default(),
        out: out.to_owned(),
        scratch: scratch.clone(),
        checkpoints: crate::train::checkpoint::Checkpoints::none(),
        recorder: crate::train::history::Recorder::default(),
        progress,
    };
    let metrics = stage.run(&mut context)?;
    let files = ["dataset.json", "events.safetensors"].map(|name| (name.to_owned(), out.join(name)));
    let artifact = Artifact { kind: ArtifactKind::Dataset, files: BTreeMap::from(files) };
    Ok((metrics, SplitEvents::load(&artifact, scratch)?))
}

#[test]
fn the_embedded_events_make_a_dataset() {
    let stage = stage(quickstart());
    let sources = [("file", example("train.parquet"))];
    assert_eq!(stage.problems(), []);
    assert_eq!(stage.preflight(&BTreeMap::from(sources.clone().map(|(field, path)| (field.to_owned(), path)))), []);
    let (metrics, dataset) = run(&stage, &sources, 48).unwrap();
    assert_eq!(["train", "validation", "test"].map(|part| metrics[&format!("events.{part}")]), [21000., 3000., 6000.]);
    assert_eq!(metrics["tail.above"], 1500.0);
    // 7.90(6) % of the natural events lie above 1500 GeV.
    assert!((metrics["tail.fraction"] - 0.079).abs() < 0.006, "{}", metrics["tail.fraction"]);
    assert_eq!(dataset.description.symmetries, [[5, 6]]);
    assert_eq!(dataset.description.observable_names(), stage.observable_names().unwrap());
    assert_eq!(run(&stage, &sources, 48).unwrap().1, dataset);
    assert_ne!(run(&stage, &sources, 49).unwrap().1.train, dataset.train);
}

#[test]
fn a_test_file_gives_all_test_events_and_takes_none_from_the_file() {
    let stage = stage(with("test_file", json!("test.parquet")));
    assert_eq!(stage.problems(), []);
    let (metrics, _) =
        run(&stage, &[("file", example("train.parquet")), ("test_file", example("test.parquet"))], 1).unwrap();
    assert_eq!(["train", "validation", "test"].map(|part| metrics[&format!("events.{part}")]), [27000., 3000., 30000.]);
}

#[test]
fn filter_and_limit_choose_the_events_and_a_quantile_sets_the_cut() {
    let mut fields = with("filter", json!([{ "observable": "jj_M", "above": 600, "below": 3000 }]));
    fields["limit"] = json!(1000);
    fields["tail"] = json!({ "observable": "ljet1_M", "quantile": 0.9 });
    let (metrics, dataset) = run(&stage(fields), &[("file", example("train.parquet"))], 1).unwrap();
    assert_eq!(metrics["events.train"], 700.0);
    assert_eq!(metrics["tail.fraction"], 0.1);
    let masses = Observables::Dijet.values(&dataset.train.table().unwrap(), "jj_M").unwrap();
    assert!(masses.iter().all(|mass| (600.0..3000.0).contains(mass)));
}

#[test]
fn events_that_do_not_fit_into_memory_make_the_same_dataset() {
    let mut fields = with("coordinates", json!({ "ljet1_pt": "log", "ljet2_M": "quantile", "ljet1_M": "min_max" }));
    fields["filter"] = json!([{ "observable": "jj_M", "above": 600 }]);
    fields["tail"] = json!({ "observable": "jj_M", "quantile": 0.9 });
    for stage in [stage(quickstart()), stage(fields)] {
        let sources = [("file", example("train.parquet"))];
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [inside, outside] = folders.each_ref().map(tempfile::TempDir::path);
        let (metrics, dataset) = run_in(inside, &Scratch::memory(), &stage, &sources, 48).unwrap();
        let (the_same, in_files) = run_in(outside, &Scratch::new(outside, 10_000), &stage, &sources, 48).unwrap();
        assert!(in_files.train.values().is_mapped() && !dataset.train.values().is_mapped());
        assert_eq!((metrics, dataset), (the_same, in_files));
        for name in ["dataset.json", "events.safetensors"] {
            assert!(std::fs::read(inside.join(name)).unwrap() == std::fs::read(outside.join(name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn columns_that_a_symmetry_flips_keep_mean_zero() {
    let stage = stage(with("coordinates", json!({ "ljet1_pt": "log", "ljet2_M": "quantile" })));
    assert_eq!(stage.problems(), []);
    let (_, dataset) = run(&stage, &[("file", example("train.parquet"))], 1).unwrap();
    assert_eq!(dataset.description.symmetries, [vec![1, 4], vec![5]]);
    let Coordinates::Columns(maps) = dataset.description.coordinates else { panic!("not a map for each column") };
    for index in [1, 4, 5] {
        assert!(matches!(maps[index], crate::data::coordinates::ColumnMap::Standard { mean: 0.0, .. }));
    }
}

#[test]
fn synthetic_events_carry_their_truth() {
    let fields = json!({
        "synthetic": { "density": "student_t", "degrees": 3, "dimensions": 3, "events": 20000 },
        "tail": { "observable": "x0", "quantile": 0.99 },
    });
    let stage = stage(fields);
    assert_eq!(stage.problems(), []);
    assert_eq!(stage.observable_names().unwrap(), ["x0", "x1", "x2"]);
    let (metrics, dataset) = run(&stage, &[], 1).unwrap();
    let truth = dataset.description.truth.unwrap();
    assert_eq!(truth, Truth::StudentT { degrees: 3.0 });
    assert!((metrics["tail.above"] / truth.quantile(0.99) - 1.0).abs() < 0.15, "{}", metrics["tail.above"]);
    assert_eq!(metrics["events.train"], 14000.0);
}

#[test]
fn each_mistake_is_told_at_its_field() {
    let synthetic = |extra: Value| {
        let mut fields = json!({ "density": "normal", "events": 10 });
        fields.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "synthetic": fields })
    };
    for (fields, field, says) in [
        (json!({}), "file", "`file` or `synthetic`"),
        (with("synthetic", json!({ "density": "normal", "events": 10 })), "synthetic", "not both"),
        (synthetic(json!({ "density": "pareto" })), "synthetic.index", "needs `index`"),
        (synthetic(json!({ "degrees": 3 })), "synthetic.degrees", "belongs to the density `student_t`"),
        (synthetic(json!({ "events": 1_000_000_000, "dimensions": 9 })), "synthetic.events", "events × dimensions"),
        (with("features", json!([])), "features", "at least one"),
        (with("features", json!(["ljet1_pt", "ljet1_pt"])), "features.1", "twice"),
        (with("features", json!(["jj_M"])), "features.0", "derived"),
        (with("features", json!(FEATURES[1..])), "coordinates", "ljet1_pt missing"),
        (json!({ "file": "a.csv", "coordinates": "dijet" }), "features", "need `features`"),
        (json!({ "file": "a.csv", "features": ["a"], "observables": "dijet" }), "observables", "needs the features"),
        (with("coordinates", json!({ "ljet_pt": "log" })), "coordinates.ljet_pt", "not a feature"),
        (with("tail", json!({ "observable": "jj_M" })), "tail", "needs `above` or `quantile`"),
        (with("tail", json!({ "observable": "jj_M", "above": 1, "quantile": 0.5 })), "tail.quantile", "not both"),
        (with("tail", json!({ "observable": "jj_m", "above": 1 })), "tail.observable", "`jj_m` is neither"),
        (with("filter", json!([{ "observable": "jj_M" }])), "filter.0", "needs `above`"),
        (with("filter", json!([{ "observable": "jj_M", "above": 2, "below": 1 }])), "filter.0.below", "nothing lies"),
        (with("filter", json!([{ "observable": "mass", "above": 2 }])), "filter.0.observable", "`mass`"),
        (with("split", json!({ "validation": 0.5, "test": 0.5 })), "split", "leave nothing to train on"),
        (with("split", json!({ "test": 0.0 })), "split.test", "no events would be left"),
        (with("symmetries", json!([["ljet1_eta"]])), "symmetries", "cannot be flipped one by one"),
        (json!({ "file": "a.csv", "features": ["a"], "symmetries": [["b"]] }), "symmetries.0.0", "not a feature"),
    ] {
        let problems = stage(fields.clone()).problems();
        let told = problems.iter().any(|problem| problem.field == field && problem.message.contains(says));
        assert!(told, "{fields}: {problems:?}");
    }
    let mut both = with("test_file", json!("test.parquet"));
    both["split"] = json!({ "test": 0.2 });
    assert_eq!(stage(both).problems()[0].field, "split.test");
    let misspelt = stage(with("tail", json!({ "observable": "jj_m", "above": 1 }))).problems();
    assert_eq!(misspelt[0].help.as_deref(), Some("did you mean `jj_M`?"));
}

#[test]
fn files_that_do_not_fit_are_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let preflight = |fields: Value, content: Option<&str>| {
        let path = folder.path().join("events.csv");
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
        stage(fields).preflight(&BTreeMap::from([("file".to_owned(), path)]))
    };
    let fields = json!({ "file": "events.csv", "features": ["mass", "pt"] });

    let missing = preflight(fields.clone(), None);
    assert_eq!(missing[0].field, "file");
    assert!(missing[0].message.contains(folder.path().to_str().unwrap()), "{missing:?}");

    let column = preflight(fields.clone(), Some("mas,pt\n1,2\n"));
    assert_eq!((column[0].field.as_str(), column[0].help.as_deref()), ("features.0", Some("did you mean `mas`?")));

    let nan = preflight(fields.clone(), Some("mass,pt\n1,2\n3,NaN\n"));
    assert_eq!(nan[0].field, "file");
    assert!(nan[0].message.contains("column `pt`, row 2"), "{nan:?}");

    let constant = preflight(fields.clone(), Some("mass,pt\n1,2\n1,3\n"));
    assert_eq!(constant[0].field, "coordinates");
    assert!(constant[0].message.contains("`mass` is 1 in all"), "{constant:?}");

    let mut log = fields.clone();
    log["coordinates"] = json!({ "mass": "log" });
    log["filter"] = json!([{ "observable": "pt", "above": 2.5 }]);
    let zero = preflight(log, Some("mass,pt\n1,2\n0,3\n"));
    assert!(zero[0].message.contains("row 2: `mass` is 0"), "{zero:?}");

    let unnamed = json!({ "file": "events.csv", "tail": { "observable": "energy", "above": 1 } });
    assert_eq!(preflight(unnamed, Some("mass,pt\n1,2\n2,3\n"))[0].field, "tail.observable");
    assert_eq!(preflight(fields, Some("mass,pt\n1,2\n2,3\n")), []);
}

#[test]
fn too_few_events_and_an_empty_tail_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, "x\n1\n2\n").unwrap();
    let few = run(&stage(json!({ "file": "events.csv" })), &[("file", path)], 1).unwrap_err().to_string();
    assert!(few.contains("2 events leave 2 for training and 0 for testing"), "{few}");
    let tail = with("tail", json!({ "observable": "jj_M", "above": 20000 }));
    let empty = run(&stage(tail), &[("file", example("train.parquet"))], 1).unwrap_err().to_string();
    assert!(empty.contains("no training event has `jj_M` above 20000"), "{empty}");
}

#[test]
fn a_misspelt_set_is_told_with_the_known_ones() {
    for (fields, says) in [
        (
            json!({ "file": "a.csv", "coordinates": "dijett" }),
            "unknown variant `dijett`, expected `standard` or `dijet`",
        ),
        (
            json!({ "file": "a.csv", "coordinates": { "a": "logg" } }),
            "unknown variant `logg`, expected one of `standard`",
        ),
        (json!({ "file": "a.csv", "coordinates": 3 }), "`standard`, `dijet`, or a map for each column"),
        (json!({ "file": "a.csv", "symmetries": "jets" }), "unknown variant `jets`, expected `none` or `dijet`"),
        (json!({ "file": "a.csv", "symmetries": ["a"] }), "expected a sequence"),
    ] {
        let message = serde_json::from_value::<Dataset>(fields).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_test_file_is_read_by_the_columns_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, test_file) = (folder.path().join("events.csv"), folder.path().join("test.csv"));
    std::fs::write(&file, "b,a\n1,2\n2,3\n3,4\n").unwrap();
    let stage = stage(json!({ "file": "events.csv", "test_file": "test.csv", "split": { "validation": 0 } }));
    let sources = [("file", file), ("test_file", test_file.clone())];
    let preflight =
        || stage.preflight(&sources.iter().map(|(field, path)| ((*field).to_owned(), path.clone())).collect());

    std::fs::write(&test_file, "a,other,b\n5,nan,6\n").unwrap();
    assert_eq!(preflight(), []);
    assert_eq!(run(&stage, &sources, 1).unwrap().1.test.table().unwrap().columns(), [[6.0], [5.0]]);

    std::fs::write(&test_file, "a,c\n5,6\n").unwrap();
    let problems = preflight();
    assert_eq!(problems[0].field, "test_file");
    assert!(problems[0].message.contains("`b`"), "{problems:?}");
}

/// A file of this content, what the stage tells of it before it runs, and what it tells while it runs.
fn told(name: &str, content: &str, mut fields: Value) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    fields["file"] = json!(name);
    let (stage, mut notices) = (stage(fields), Vec::new());
    let remarks = stage.remarks(&BTreeMap::from([("file".to_owned(), path.clone())]));
    let mut hear = |progress| {
        if let crate::stage::Progress::Notice { message } = progress {
            notices.push(message);
        }
    };
    run_and_hear(folder.path(), &Scratch::memory(), &stage, &[("file", path)], 1, &mut hear).unwrap();
    (remarks, notices)
}

#[test]
fn columns_that_are_left_out_are_told_before_and_while_the_stage_runs() {
    let row = |i: u32| format!("{i},tag{i},{i}.5\n");
    let content = ",tag,pt\n".to_owned() + &(0..20).map(row).collect::<String>();
    let (remarks, notices) = told("events.csv", &content, json!({}));
    assert_eq!(
        notices,
        [
            "of events.csv these columns are left out: `` (an index of pandas), `tag` (text: `tag0` in row 1); list what you want in \
          `features` to choose otherwise"
        ]
    );
    assert_eq!(remarks, notices);
    let (remarks, notices) = told("events.csv", &content, json!({ "features": ["pt"] }));
    assert!(remarks.is_empty() && notices.is_empty(), "{remarks:?} {notices:?}");
}

#[test]
fn values_that_single_precision_merges_are_told() {
    let row = |i: i32| format!("{},{}\n", 20_000_000 + i, f64::from(i).sin() + 100.0);
    let content = "id,x\n".to_owned() + &(0..300).map(row).collect::<String>();
    let (remarks, notices) = told("events.csv", &content, json!({}));
    assert_eq!(
        notices,
        [
            "`file`: column `id`: 300 different whole numbers beyond 16777216 become 151 in single precision; subtract an offset from them in \
          the file, or leave the column out of `features`"
        ]
    );
    assert!(remarks.is_empty(), "{remarks:?}");
}

#[test]
fn a_feature_that_is_there_and_holds_no_numbers_is_told_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    let problems = |content: &str, features: &[&str]| {
        std::fs::write(&path, content).unwrap();
        let stage = stage(json!({ "file": "events.csv", "features": features }));
        stage.preflight(&BTreeMap::from([("file".to_owned(), path.clone())]))
    };
    let text = problems("mass,masses\nabc,1\nd,2\n", &["masses", "mass"]);
    assert_eq!((text[0].field.as_str(), &text[0].help), ("features.1", &None));
    assert!(text[0].message.ends_with("the column `mass` does not hold numbers but text: `abc` in row 1"), "{text:?}");
    let twice = problems("mass,mass\n1,2\n2,3\n", &["mass"]);
    assert!(twice[0].message.contains("the column `mass` occurs twice"), "{twice:?}");
    let empty = problems("a,b\n1,\n2,3\n3,4\n", &["a", "b"]);
    assert!(empty[0].message.contains("column `b`, row 1: a missing value"), "{empty:?}");
}

#[test]
fn a_source_that_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let problems = stage(json!({ "file": "events.csv" })).preflight(&BTreeMap::from([("file".to_owned(), path)]));
    assert!(problems[0].message.contains("it is a named pipe, not a regular file"), "{problems:?}");
}
