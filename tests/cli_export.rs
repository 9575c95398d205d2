//! Models for other programs, through the program.

use std::fs;

use safetensors::SafeTensors;

mod program;

use program::Folder;

const PIPELINE: &str = "\
name: p
seed: 3
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 400 }, tail: { observable: x0, quantile: 0.9 } }
  base: { kind: train_gan, data: events, generator: { layers: [8], latent: 4 }, discriminator: { layers: [8] }, steps: 3, batch: 16 }
  frozen: { kind: freeze, model: base }
  mixed: { kind: mix, base: frozen, candidate: fresh, data: events, accept: always, mixture: { learn: fixed, initial: 0.4 } }
  fresh: { kind: pretrain_tail, data: events, like: frozen, method: none }
";

fn folder() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
    folder
}

fn trained() -> Folder {
    let folder = folder();
    folder.print(&["run", "p.yaml", "-q"]);
    folder
}

fn error(folder: &Folder, code: i32, arguments: &[&str]) -> String {
    let output = folder.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_model_is_written_in_either_format_with_the_same_bytes_each_time() {
    let folder = trained();
    for format in ["onnx", "safetensors"] {
        let export = ["export", "p.yaml", "mixed", "--format", format, "-o"];
        let said = folder.print(&[&export[..], &["one"]].concat());
        assert!(said.starts_with("wrote the model of `mixed` to one, "), "{said}");
        folder.print(&[&export[..], &["two"]].concat());
        assert_eq!(fs::read(folder.path("one")).unwrap(), fs::read(folder.path("two")).unwrap());
        assert!(
            error(&folder, 2, &[&export[..], &["one"]].concat())
                .contains("one is there already; `--force` replaces it")
        );
        folder.print(&[&export[..], &["one", "--force"]].concat());
        fs::remove_file(folder.path("one")).unwrap();
        fs::remove_file(folder.path("two")).unwrap();
    }
}

#[test]
fn what_cannot_be_exported_is_said_before_anything_is_written() {
    let folder = folder();
    let model = |more: &[&'static str]| [&["export", "p.yaml", "--format", "onnx"], more].concat();
    let messages = [
        (2, model(&[])),
        (2, model(&["frozen"])),
        (2, model(&["frozn", "-o", "m.onnx"])),
        (2, model(&["events", "-o", "m.onnx"])),
        (1, model(&["frozen", "-o", "m.onnx"])),
        (2, model(&["frozen", "-o", "m.onnx", "--folder", "x"])),
        (3, model(&["frozen", "-o", "no/m.onnx"])),
        (3, model(&["frozen", "-o", "."])),
        (2, vec!["export", "p.yaml", "frozen", "--format", "snakemake"]),
    ]
    .map(|(code, arguments)| format!("$ {}\n{}", arguments.join(" "), error(&folder, code, &arguments)));
    insta::assert_snapshot!("export_errors", messages.concat());
    assert_eq!(fs::read_dir(folder.path(".")).unwrap().count(), 1);
}

#[test]
fn a_snakefile_goes_to_a_file_or_to_standard_output() {
    let folder = folder();
    let printed = folder.print(&["export", "p.yaml", "--format", "snakemake"]);
    folder.print(&["export", "p.yaml", "--format", "snakemake", "-o", "Snakefile"]);
    assert_eq!(fs::read_to_string(folder.path("Snakefile")).unwrap(), printed);
}

#[test]
fn draws_are_written_beside_the_same_events() {
    let folder = trained();
    let sample = ["sample", "p.yaml", "mixed", "-n", "500", "-o"];
    folder.print(&[&sample[..], &["plain.npy"]].concat());
    folder.print(&[&sample[..], &["events.npy", "--draws", "draws.safetensors"]].concat());
    assert_eq!(fs::read(folder.path("plain.npy")).unwrap(), fs::read(folder.path("events.npy")).unwrap());
    let bytes = fs::read(folder.path("draws.safetensors")).unwrap();
    let draws = SafeTensors::deserialize(&bytes).unwrap();
    let shapes = ["z", "u", "accepted"].map(|name| draws.tensor(name).unwrap().shape().to_vec());
    assert_eq!(shapes, [vec![500, 4], vec![500, 1], vec![500]]);

    let many = ["sample", "p.yaml", "mixed", "-n", "1000001", "-o", "many.npy", "--draws", "d.safetensors"];
    assert!(error(&folder, 2, &many).contains("ask for at most 1000000 events"));
    let where_ = [&sample[..], &["w.npy", "--draws", "d.safetensors", "--where", "x0 > 1"]].concat();
    assert!(error(&folder, 2, &where_).contains("cannot be used with"));
    error(&folder, 3, &[&sample[..], &["events.npy", "--draws", "no/draws.safetensors"]].concat());
}
