//! `pack` and `unpack`, through the program.

use std::fs;

use serde_json::Value;

mod program;

use program::Folder;

const DATA: &str = "\
params: { features: [a, b] }
stages:
  events: { kind: dataset, file: ../data/events.csv, features: '${params.features}', tail: { observable: a, quantile: 0.9 } }
";
const PIPELINE: &str = "\
name: shared
seed: 3
include: parts/data.yaml
params: { steps: 60 }
stages:
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 2 }
    discriminator: { layers: [8] }
    steps: ${params.steps}
    batch: 32
  frozen: { kind: freeze, model: base }
";

fn bench() -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("study/parts")).unwrap();
    fs::create_dir_all(folder.path("study/data")).unwrap();
    let row = |i: u32| format!("{},{}\n", f64::from(i * 37 % 101), f64::from(i * 53 % 97) / 7.0);
    fs::write(folder.path("study/data/events.csv"), "a,b\n".to_owned() + &(0..400).map(row).collect::<String>())
        .unwrap();
    fs::write(folder.path("study/parts/data.yaml"), DATA).unwrap();
    fs::write(folder.path("study/pipeline.yaml"), PIPELINE).unwrap();
    folder.print(&["run", "study/pipeline.yaml", "-q", "--set", "steps=40"]);
    folder
}

fn finished(folder: &Folder, arguments: &[&str]) -> Value {
    let lines = folder.print(&[&["run", "--json"], arguments].concat());
    serde_json::from_str(lines.lines().last().unwrap()).unwrap()
}

#[test]
fn a_pack_unpacked_elsewhere_runs_nothing() {
    let folder = bench();
    let said = folder.print(&["pack", "study/pipeline.yaml", "--set", "steps=40"]);
    assert!(said.starts_with("shared.pgan: 3 results, 4 files, "), "{said}");
    folder.print(&["pack", "study/pipeline.yaml", "--set", "steps=40", "-o", "again.pgan"]);
    assert!(fs::read(folder.path("shared.pgan")).unwrap() == fs::read(folder.path("again.pgan")).unwrap());

    let elsewhere = Folder::new();
    fs::copy(folder.path("shared.pgan"), elsewhere.path("shared.pgan")).unwrap();
    let said = elsewhere.print(&["unpack", "shared.pgan"]);
    assert!(said.contains("cd shared && pgan-pipe run pipeline.yaml --set steps=40"), "{said}");
    let arguments = ["shared/pipeline.yaml", "--cache", "shared/cache", "--set", "steps=40"];
    let run = finished(&elsewhere, &arguments);
    assert_eq!((run["ran"].as_array().unwrap().len(), run["cached"].as_array().unwrap().len()), (0, 3));
    let run = finished(&elsewhere, &[arguments.as_slice(), &["--locked"]].concat());
    assert_eq!(run["failed"].as_array().unwrap().len(), 0);
    let json: Value = serde_json::from_str(&elsewhere.print(&["unpack", "shared.pgan", "--json"])).unwrap();
    assert_eq!((&json["new_results"], &json["results"], &json["set"][0]), (&0.into(), &3.into(), &"steps=40".into()));
    assert_eq!(json["files"].as_array().unwrap().len(), 4);
}

#[test]
fn what_is_left_out_is_made_again_and_the_rest_is_taken() {
    let folder = bench();
    let pack = ["pack", "study/pipeline.yaml", "--set", "steps=40", "-o", "small.pgan", "--without", "events"];
    folder.print(&pack);
    folder.print(&["unpack", "small.pgan", "-C", "there"]);
    let run = finished(&folder, &["there/pipeline.yaml", "--cache", "there/cache", "--set", "steps=40"]);
    assert_eq!(run["ran"], serde_json::json!(["events"]));

    let unknown = folder.run(&["pack", "study/pipeline.yaml", "--without", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
    // Nothing has run with these steps: the pipeline can be handed on all the same.
    let output = folder.run(&["pack", "study/pipeline.yaml", "-o", "bare.pgan"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no lock in it"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 result of 3"));
}

#[test]
fn what_cannot_be_packed_or_unpacked_says_why() {
    let folder = bench();
    let error = |arguments: &[&str], code: i32| {
        let output = folder.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        error
    };
    let absolute = folder.path("study/parts/data.yaml").display().to_string();
    fs::write(folder.path("study/bad.yaml"), PIPELINE.replace("parts/data.yaml", &absolute)).unwrap();
    assert!(error(&["pack", "study/bad.yaml"], 2).contains("include them by relative paths"));

    folder.print(&["pack", "study/pipeline.yaml", "--set", "steps=40"]);
    let mut bytes = fs::read(folder.path("shared.pgan")).unwrap();
    let place = bytes
        .windows(4)
        .position(|window| window == b"\na,b")
        .unwrap_or_else(|| bytes.windows(4).position(|w| w == b"a,b\n").unwrap());
    bytes[place] ^= 1;
    fs::write(folder.path("spoilt.pgan"), &bytes).unwrap();
    assert!(error(&["unpack", "spoilt.pgan"], 5).contains("data/events.csv: its content is not"));
    assert!(error(&["unpack", "study/pipeline.yaml"], 2).contains("no pack that this program can read"));
    assert!(error(&["unpack", "nowhere.pgan"], 2).contains("nowhere.pgan"));

    folder.print(&["unpack", "shared.pgan"]);
    fs::write(folder.path("shared/pipeline.yaml"), "mine").unwrap();
    assert!(error(&["unpack", "shared.pgan"], 2).contains("is there already"));
    folder.print(&["unpack", "shared.pgan", "--force"]);
    assert_eq!(fs::read_to_string(folder.path("shared/pipeline.yaml")).unwrap(), PIPELINE);
}

/// A folder with a pack of the study and a pipeline that includes it.
fn including(text: &str) -> (Folder, Folder) {
    let (made, folder) = (bench(), Folder::new());
    made.print(&["run", "study/pipeline.yaml", "-q"]);
    made.print(&["pack", "study/pipeline.yaml", "-o", folder.path("study.pgan").to_str().unwrap()]);
    fs::write(folder.path("top.yaml"), text).unwrap();
    (made, folder)
}

const TOP: &str = "include: study.pgan\nstages:\n  again: { kind: freeze, model: base }\n";

#[test]
fn a_pack_is_included_for_its_texts_and_its_sources_are_known_by_what_they_are() {
    let (made, folder) = including(TOP);
    let cache = made.path("cache");
    let finished = finished(&folder, &["top.yaml", "--cache", cache.to_str().unwrap()]);
    assert_eq!(finished["cached"].as_array().unwrap().len(), 4, "{finished}");
    assert!(!folder.path("study.pgan").is_dir() && !folder.path("cache").exists());

    let output = folder.run(&["run", "top.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("`data/events.csv` is in the pack study.pgan, which is included for its texts alone"),
        "{said}"
    );
    assert!(said.contains("study.pgan/parts/data.yaml:3:") && said.contains("`pgan-pipe unpack study.pgan`"), "{said}");
}

#[test]
fn a_pipeline_that_includes_a_pack_is_packed_with_it() {
    let (made, folder) = including(TOP);
    let cache = made.path("cache");
    let cache = ["--cache", cache.to_str().unwrap()];
    let pack = |to: &str| folder.print(&[&["pack", "top.yaml", "-o", to], &cache[..]].concat());
    let said = pack("one.pgan");
    assert!(said.contains("3 files"), "{said}");
    pack("two.pgan");
    assert!(fs::read(folder.path("one.pgan")).unwrap() == fs::read(folder.path("two.pgan")).unwrap());
    let elsewhere = Folder::new();
    fs::copy(folder.path("one.pgan"), elsewhere.path("one.pgan")).unwrap();
    elsewhere.print(&["unpack", "one.pgan", "-C", "."]);
    let finished = finished(&elsewhere, &["top.yaml"]);
    assert_eq!(finished["cached"].as_array().unwrap().len(), 4, "{finished}");
}

#[test]
fn what_is_wrong_with_an_included_pack_is_told_where_it_is_included() {
    let (_made, folder) = including("include: study.pgan/parts/data.yaml\nstages: { }\n");
    assert!(folder.print(&["graph", "top.yaml"]).contains("events"));
    let refused = |text: &str| {
        fs::write(folder.path("top.yaml"), text).unwrap();
        let output = folder.run(&["graph", "top.yaml"]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused("include: study.pgan/parts/dta.yaml\n");
    assert!(said.contains("the pack has no file `parts/dta.yaml`") && said.contains("top.yaml:1:10"), "{said}");
    let said = refused("include: study.pgan/../top.yaml\n");
    assert!(said.contains("the pack has no file `../top.yaml`"), "{said}");
    let said = refused("include: study.pgan\nparams: { steps: a lot }\n");
    assert!(said.contains("study.pgan/pipeline.yaml:11:12"), "{said}");
    fs::write(folder.path("fake.pgan"), "stages: {}\n").unwrap();
    let said = refused("include: fake.pgan\n");
    assert!(said.contains("this is no pack that this program can read"), "{said}");
    let mut pack = fs::read(folder.path("study.pgan")).unwrap();
    let at = pack.windows(9).position(|bytes| bytes == b"kind: tra").unwrap();
    pack[at] = b'K';
    fs::write(folder.path("study.pgan"), pack).unwrap();
    let said = refused("include: study.pgan\n");
    assert!(said.contains("files/pipeline.yaml: its content is not what the manifest announces"), "{said}");
}
