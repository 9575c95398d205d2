//! Files of the user through the program: what is no file is refused at once, and readers say what they leave out.

use std::{
    fs::{self, File},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

mod program;

use program::Folder;

/// A process that waits as long as this waits for ever.
const PATIENCE: Duration = Duration::from_mins(1);

const PIPELINE: &str = "stages:\n  events: { kind: dataset, file: events.csv }\n";
const EVENTS: &str = "a,b\n1,2\n2,3\n3,5\n4,4\n5,1\n6,2\n7,7\n8,9\n9,1\n10,3\n11,4\n12,2\n";

fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
    fs::write(folder.path("events.csv"), EVENTS).unwrap();
    folder
}

fn pipe(folder: &Folder, name: &str) {
    drop(fs::remove_file(folder.path(name)));
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path(name), rustix::fs::Mode::RWXU).unwrap();
}

/// Runs the program, which must come to an end.
fn ends(folder: &Folder, arguments: &[&str], stdin: Stdio) -> Output {
    let mut command = folder.command(arguments);
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{arguments:?} waits");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn refused(folder: &Folder, arguments: &[&str], code: i32) {
    let output = ends(folder, arguments, Stdio::null());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("it is a named pipe, not a regular file"), "{arguments:?}: {said}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
}

#[test]
fn a_pipe_in_the_place_of_a_source_is_refused() {
    let folder = bench();
    pipe(&folder, "events.csv");
    for verb in ["check", "run"] {
        refused(&folder, &[verb, "p.yaml"], 2);
    }
    for verb in ["plan", "status"] {
        let output = ends(&folder, &[verb, "p.yaml"], Stdio::null());
        assert!(String::from_utf8_lossy(&output.stderr).contains("it is a named pipe"), "{output:?}");
        assert!(!output.status.success());
    }
    let truth = "\
stages:
  events: { kind: dataset, synthetic: { density: normal, events: 100 } }
  base: { kind: train_gan, data: events, generator: { layers: [8] }, discriminator: { layers: [8] }, steps: 1 }
  frozen: { kind: freeze, model: base }
  evaluation:
    kind: evaluate
    data: events
    models: [frozen]
    truth: { file: events.csv, observable: x0, weight: w, edges: [1, 2], cross_section: 1 }
";
    fs::write(folder.path("truth.yaml"), truth).unwrap();
    refused(&folder, &["check", "truth.yaml"], 2);
    // A link to a pipe is one, a link to a file is that file.
    fs::rename(folder.path("events.csv"), folder.path("pipe")).unwrap();
    std::os::unix::fs::symlink("pipe", folder.path("events.csv")).unwrap();
    refused(&folder, &["check", "p.yaml"], 2);
    fs::remove_file(folder.path("events.csv")).unwrap();
    fs::write(folder.path("there.csv"), EVENTS).unwrap();
    std::os::unix::fs::symlink("there.csv", folder.path("events.csv")).unwrap();
    folder.print(&["run", "p.yaml", "-q"]);
}

#[test]
fn a_pipe_in_the_place_of_a_pipeline_an_included_file_a_lock_or_a_pack_is_refused() {
    let folder = bench();
    pipe(&folder, "pipe.yaml");
    refused(&folder, &["check", "pipe.yaml"], 2);
    fs::write(folder.path("including.yaml"), format!("include: pipe.yaml\n{PIPELINE}")).unwrap();
    refused(&folder, &["check", "including.yaml"], 2);
    pipe(&folder, "p.lock");
    refused(&folder, &["run", "p.yaml", "--locked"], 3);
    refused(&folder, &["diff", "p.lock", "p.yaml"], 3);
    refused(&folder, &["pack", "p.yaml"], 2);
    pipe(&folder, "p.pgan");
    refused(&folder, &["unpack", "p.pgan"], 2);
}

#[test]
fn a_file_that_is_too_large_to_be_a_lock_is_not_read() {
    let folder = bench();
    File::create(folder.path("p.lock")).unwrap().set_len(3 << 30).unwrap();
    let output = ends(&folder, &["run", "p.yaml", "--locked"], Stdio::null());
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is larger than 64 MiB"), "{output:?}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_the_shell_pipes_in_is_a_pipeline_or_a_pack() {
    let folder = bench();
    folder.print(&["run", "p.yaml", "-q"]);
    folder.print(&["pack", "p.yaml", "-o", "p.pgan"]);
    let feed = |name: &str| {
        let mut cat = std::process::Command::new("cat");
        let mut cat = cat.arg(folder.path(name)).stdout(Stdio::piped()).spawn().unwrap();
        (Stdio::from(cat.stdout.take().unwrap()), cat)
    };
    for (name, arguments) in
        [("p.yaml", &["check", "/dev/stdin"][..]), ("p.pgan", &["unpack", "/dev/stdin", "-C", "out"])]
    {
        let (stdin, mut cat) = feed(name);
        let output = ends(&folder, arguments, stdin);
        cat.wait().unwrap();
        // The pipeline's paths are relative to `/dev`.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("there is no file /dev/events.csv"), "{arguments:?}: {said}");
    }
    assert!(folder.path("out/p.yaml").is_file());
}

#[test]
fn columns_that_are_left_out_are_told_by_check_and_by_the_run() {
    let folder = bench();
    let row = |i: u32| format!("{i},jet,{}\n", i * i);
    fs::write(folder.path("events.csv"), ",tag,pt\n".to_owned() + &(0..12).map(row).collect::<String>()).unwrap();
    let says = "events.csv these columns are left out: `` (an index of pandas), `tag` (text: `jet` in row 1)";
    for verb in ["check", "run"] {
        let output = folder.run(&[verb, "p.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(says), "{verb}: {said}");
    }
    assert!(folder.print(&["show", "p.yaml", "events"]).contains(says));
}

#[test]
fn a_source_whose_path_leads_elsewhere_while_its_stage_runs_is_not_read_under_the_key_of_the_other() {
    let folder = Folder::new();
    let events =
        |factor: u32| "x\n".to_owned() + &(1..=50).map(|i| (i * factor).to_string()).collect::<Vec<_>>().join("\n");
    for name in ["one", "two"] {
        fs::create_dir(folder.path(name)).unwrap();
        fs::write(folder.path(name).join("events.csv"), events(if name == "one" { 1 } else { 100 })).unwrap();
    }
    fs::write(
        folder.path("pipeline.yaml"),
        "name: switched\nstages:\n  events: { kind: dataset, file: here/events.csv, tail: { observable: x, quantile: 0.5 } }\n",
    )
    .unwrap();
    let program = env!("CARGO_BIN_EXE_pgan-pipe");
    // A link that is switched, and a folder that is renamed, each switched back when the worker is done.
    let switches = [
        ("ln -s one here", "ln -sfn two here", "ln -sfn one here"),
        ("rm here; mv one here", "mv here one; mv two here", "mv here two; mv one here"),
    ];
    for (before, away, back) in switches {
        let shell = |script: &str| {
            assert!(Command::new("sh").args(["-c", script]).current_dir(folder.path(".")).status().unwrap().success());
        };
        shell(before);
        let worker = folder.path("worker");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = worker ] && {{ {away}; }}\n{program} \"$@\"; code=$?\n[ \"$1\" = worker ] && {{ {back}; }}\nexit $code\n"
        );
        fs::write(&worker, script).unwrap();
        fs::set_permissions(&worker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = folder.run(&["run", "pipeline.yaml", "-q", "--worker", worker.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{away}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("changed") && said.contains("run again"), "{said}");
        assert_eq!(folder.print(&["cache", "ls", "--json"]), "");
    }
}
