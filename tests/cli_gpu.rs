//! Stages that share a GPU, with programs that stand in for NVIDIA's and for a worker with CUDA.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

mod program;

use program::Folder;

/// Notes what it is asked, and where it listens; `-d` fails where `broken` is.
const CONTROL: &str = r#"#!/bin/sh
if [ "$1" = -d ]; then
  [ ! -e "$HERE/broken" ] || exit 1
  touch "$CUDA_MPS_PIPE_DIRECTORY/control"
  echo "start $CUDA_MPS_PIPE_DIRECTORY" >> "$HERE/control.log"
else
  echo "$(cat) $CUDA_MPS_PIPE_DIRECTORY" >> "$HERE/control.log"
fi
"#;

/// A GPU that works unless `gone` is there, and no service is asked for; jobs for it are done on the CPU.
const WORKER: &str = r#"#!/bin/sh
if [ "$1" = devices ]; then
  [ -e "$HERE/gone" ] && [ -n "$CUDA_MPS_PIPE_DIRECTORY" ] || echo '{"device":"libtorch-cuda:0","available":true}'
  exit
fi
read -r job
echo "${CUDA_MPS_PIPE_DIRECTORY:-none}" >> "$HERE/workers.log"
[ ! -e "$HERE/slow" ] || sleep 60
{ echo "$job" | sed 's/"libtorch-cuda:0"/"cpu"/; s/"libtorch"/"cpu"/'; cat; } | "$PROGRAM" "$1"
"#;

const PIPELINE: &str = "
seed: 1
replicas: 3
stages:
  events: { kind: dataset, file: events.csv, features: [x, y] }
  base: { kind: train_gan, data: events, steps: 20, batch: 16, generator: { layers: [8] }, discriminator: { layers: [8] } }
";

struct Machine(Folder);

impl Machine {
    fn new() -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path("bin")).unwrap();
        for (name, text) in [("bin/nvidia-cuda-mps-control", CONTROL), ("worker", WORKER)] {
            fs::write(folder.path(name), text).unwrap();
            fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let events: Vec<String> = (0..600).map(|i| format!("{}.5,{}", i % 37, i % 11)).collect();
        fs::write(folder.path("events.csv"), "x,y\n".to_owned() + &events.join("\n") + "\n").unwrap();
        fs::write(folder.path("gpus.yaml"), PIPELINE).unwrap();
        Self(folder)
    }

    fn with(name: &str) -> Self {
        let machine = Self::new();
        fs::write(machine.0.path(name), "").unwrap();
        machine
    }

    fn command(&self, jobs: &str, stages: &[&str]) -> Command {
        let mut command =
            self.0.command(&["run", "gpus.yaml", "--device", "libtorch-cuda:0", "--jobs", jobs, "--json"]);
        let path = std::env::var("PATH").unwrap();
        command
            .args(stages)
            .env("PATH", format!("{}:{path}", self.0.path("bin").display()))
            .env("HERE", self.0.path(""))
            .env("PROGRAM", env!("CARGO_BIN_EXE_pgan-pipe"))
            .env("PGAN_WORKER", self.0.path("worker"))
            .env("CUDA_VISIBLE_DEVICES", "0")
            .env_remove("CUDA_MPS_PIPE_DIRECTORY");
        command
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.0.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// What the run itself had to say.
fn notices(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let notices = events.filter(|event| event["event"] == "run_notice");
    notices.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn stages_that_share_a_gpu_are_served_for_the_time_of_the_run() {
    let machine = Machine::new();
    let said = notices(&machine.command("4", &[]).output().unwrap());
    assert_eq!(said, ["stages run side by side on a GPU, by NVIDIA's Multi-Process Service"]);
    let control = machine.lines("control.log");
    let folder = control[0].strip_prefix("start ").unwrap();
    assert_eq!(control[1..], [format!("quit -t 5 {folder}")]);
    assert!(!PathBuf::from(folder).exists());
    assert_eq!(machine.lines("workers.log"), vec![folder; 4], "a dataset and three trainings");

    // All is cached: nobody needs it.
    assert!(notices(&machine.command("4", &[]).output().unwrap()).is_empty());
    assert_eq!(machine.lines("control.log").len(), 2);
}

#[test]
fn without_the_service_they_take_turns_and_the_run_says_why() {
    for (what, why) in [
        ("broken", "`nvidia-cuda-mps-control -d` does not start here"),
        ("gone", "no GPU works under NVIDIA's Multi-Process Service here"),
    ] {
        let machine = Machine::with(what);
        let said = notices(&machine.command("4", &[]).output().unwrap());
        assert_eq!(said, [format!("stages that share a GPU take turns on it: {why}")]);
        assert_eq!(machine.lines("workers.log"), ["none"; 4]);
    }
}

#[test]
fn whole_gpus_and_single_stages_need_no_service() {
    for (jobs, stages, share) in [("4", &[][..], "1"), ("1", &[], "0.5"), ("4", &["events"], "0.5")] {
        let machine = Machine::new();
        let whole = PIPELINE.replace("steps: 20", &format!("resources: {{ gpu: {share} }}, steps: 20"));
        fs::write(machine.0.path("gpus.yaml"), whole).unwrap();
        let said = notices(&machine.command(jobs, stages).output().unwrap());
        assert!(said.is_empty() && machine.lines("control.log").is_empty(), "{jobs} {stages:?} {share}");
    }
}

#[test]
fn a_run_that_is_killed_leaves_no_service_behind() {
    let machine = Machine::with("slow");
    let mut run = machine.command("4", &[]).stdout(Stdio::null()).spawn().unwrap();
    let wait = |what: &dyn Fn() -> bool| {
        let since = Instant::now();
        while !what() {
            assert!(since.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait(&|| !machine.lines("workers.log").is_empty());
    run.kill().unwrap();
    run.wait().unwrap();
    wait(&|| machine.lines("control.log").len() == 2);
    let folder = machine.lines("control.log")[0].replace("start ", "");
    wait(&|| !PathBuf::from(&folder).exists());
}
