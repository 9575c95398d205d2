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
