//! Submission to a cluster, with programs in the place of Slurm's that do little: `scripts/test-slurm` has the real ones.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

#[path = "submit/apart.rs"]
mod apart;
mod program;

use program::Folder;

const PIPELINE: &str = "\
name: clustered
seed: 1
replicas: 2
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 500 }, tail: { observable: x0, quantile: 0.9 } }
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 2 }
    discriminator: { layers: [8] }
    steps: 20
    batch: 16
    resources: { threads: 2, memory: 1GiB }
    timeout: 1h
  frozen: { kind: freeze, model: base }
";

/// Notes its arguments, runs the job at once unless its own settings say otherwise, and keeps a list of states.
const SBATCH: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
printf '%s ' "$@" >> calls; echo >> calls
n=$(($(cat count 2>/dev/null || echo 0) + 1)); echo $n > count
[ -e refuse_from ] && [ $n -ge "$(cat refuse_from)" ] && { echo "sbatch: error: invalid partition specified: none" >&2; exit 1; }
[ -e says ] && { cat says; exit 0; }
cat > "script-$n"
state=PENDING
if [ -e run ]; then
  for argument in "$@"; do case "$argument" in --output=*) out="${argument#--output=}" ;; esac; done
  if sh "script-$n" >> "$out" 2>&1; then state=COMPLETED; else state=FAILED; fi
fi
echo "$n|$state|$(cat reason 2>/dev/null || echo Priority)|node7" >> states
echo "$n;cluster"
"#;

const SQUEUE: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
[ -e silent ] && { echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }
[ -s states ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
cat states
"#;

const SCANCEL: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
for id in "$@"; do echo "$id" >> cancelled; sed -i "s/^$id|[A-Z]*|/$id|CANCELLED|/" states; done
"#;

struct Cluster {
    folder: Folder,
}

impl Cluster {
    fn new() -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path("bin")).unwrap();
        for (name, text) in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)] {
            let path = folder.path("bin").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(folder.path("p.yaml"), PIPELINE).unwrap();
        Self { folder }
    }

    /// Makes the programs behave.
    fn set(&self, what: &str, text: &str) {
        fs::write(self.folder.path("bin").join(what), text).unwrap();
    }

    fn forget(&self, what: &str) {
        let _ = fs::remove_file(self.folder.path("bin").join(what));
    }

    fn noted(&self, what: &str) -> String {
        fs::read_to_string(self.folder.path("bin").join(what)).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command(arguments);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.folder.path("bin").display()));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The lines of JSON of a call that ends with this code.
    fn json(&self, code: i32, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn last(&self, arguments: &[&str]) -> Value {
        self.json(0, arguments).pop().unwrap()
    }

    fn error(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        error
    }

    fn status(&self, stage: &str) -> Value {
        let lines = self.json(0, &["status", "p.yaml"]);
        lines.into_iter().find(|line| line["stage"] == stage).unwrap()
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

const ALL: [&str; 5] = ["events", "base", "frozen", "base@2", "frozen@2"];

#[test]
fn stages_become_jobs_in_order_each_after_those_it_takes_from() {
    let cluster = Cluster::new();
    let ended = cluster.last(&["submit", "p.yaml", "--engine-option=--partition=gpu", "--engine-option=base=--mem=3G"]);
    assert_eq!(names(&ended["submitted"]), ALL);
    let calls = cluster.noted("calls");
    let calls: Vec<&str> = calls.lines().collect();
    let has = |call: &str, options: &[&str]| options.iter().all(|option| call.contains(option));
    assert!(has(calls[0], &["--job-name=pgan:clustered:events", "--partition=gpu", "--cpus-per-task=1", "--requeue"]));
    assert!(!calls[0].contains("--dependency") && !calls[0].contains("--mem"), "{}", calls[0]);
    let wanted = ["--cpus-per-task=2", "--mem=1024M", "--mem=3G", "--time=0-01:10:00", "--dependency=afterok:1 "];
    assert!(has(calls[1], &wanted), "{}", calls[1]);
    assert!(
        has(calls[3], &["base@2", "--mem=3G", "afterok:1 "]),
        "an option of a stage is for its replicas, too: {}",
        calls[3]
    );
    assert!(has(calls[4], &["--dependency=afterok:4 ", "--kill-on-invalid-dep=yes"]), "{}", calls[4]);
}

#[test]
fn what_is_in_flight_is_not_submitted_again_whatever_file_names_it() {
    let cluster = Cluster::new();
    cluster.last(&["submit", "p.yaml", "base"]);
    let text = fs::read_to_string(cluster.folder.path("p.yaml")).unwrap();
    fs::write(cluster.folder.path("q.yaml"), text.replace("base", "other")).unwrap();
    let again = cluster.last(&["submit", "q.yaml"]);
    assert_eq!(names(&again["in_flight"]), ["events", "other"]);
    assert_eq!(names(&again["submitted"]), ["frozen", "other@2", "frozen@2"]);
    assert!(cluster.noted("calls").lines().nth(2).unwrap().contains("--dependency=afterok:2 "));
    let said = cluster.error(0, &["submit", "q.yaml"]);
    assert!(said.contains("other: not submitted again, for job 2 is queued (Priority)"), "{said}");
    assert!(said.contains("0 jobs submitted to slurm, 5 in flight already, 0 cached"), "{said}");
}

#[test]
fn jobs_give_what_a_run_gives_whatever_becomes_of_the_file() {
    let cluster = Cluster::new();
    cluster.set("run", "");
    let mut submit = cluster.command(&["submit", "p.yaml", "--wait", "--cache", "it's a cache", "--json"]);
    // Settings of whoever submits are no part of a job.
    let output = submit.env("PGAN_CACHE", "elsewhere").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let ended: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(names(&ended["done"]), ALL);
    cluster.folder.print(&["run", "p.yaml", "-q", "--cache", "local"]);
    let outputs = |cache: &str| {
        let mut found: Vec<(String, Value)> = Vec::new();
        for shard in fs::read_dir(cluster.folder.path(cache).join("v1/records")).unwrap().flatten() {
            for record in fs::read_dir(shard.path()).unwrap().flatten() {
                let text: Value = serde_json::from_slice(&fs::read(record.path()).unwrap()).unwrap();
                found.push((record.file_name().into_string().unwrap(), text["outputs"].clone()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    assert_eq!(outputs("it's a cache"), outputs("local"));
    assert_eq!(names(&cluster.last(&["submit", "p.yaml", "--cache", "local"])["cached"]), ALL);
}

#[test]
fn a_queued_job_runs_what_was_submitted_or_nothing() {
    let cluster = Cluster::new();
    fs::write(cluster.folder.path("events.csv"), "x0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n").unwrap();
    let of_file = PIPELINE.replace(
        "synthetic: { density: pareto, index: 3, dimensions: 2, events: 500 }, ",
        "file: events.csv, features: [x0], ",
    );
    fs::write(cluster.folder.path("p.yaml"), of_file).unwrap();
    let submission = cluster.last(&["submit", "p.yaml", "events"])["submission"].as_str().unwrap().to_owned();
    fs::remove_file(cluster.folder.path("p.yaml")).unwrap();
    fs::write(cluster.folder.path("events.csv"), "x0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n11\n").unwrap();
    let said = cluster.error(4, &["job", &submission, "events"]);
    assert!(said.contains("`events` is no longer what was submitted"), "{said}");
    fs::write(cluster.folder.path("events.csv"), "x0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n").unwrap();
    cluster.error(0, &["job", &submission, "events"]);
    let path = cluster.folder.path("cache/v1/submissions").join(&submission).join("submission.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("seed: 1", "seed: 2")).unwrap();
    let said = cluster.error(3, &["job", &submission, "events"]);
    assert!(said.contains("it was altered: submit the pipeline again"), "{said}");
}

#[test]
fn status_tells_where_jobs_stand_and_shows_the_log_of_one_that_failed() {
    let cluster = Cluster::new();
    cluster.last(&["submit", "p.yaml"]);
    let events = cluster.status("events");
    assert_eq!(
        (&events["state"], &events["job"]["detail"], &events["job"]["id"]),
        (&"queued".into(), &"Priority".into(), &"1".into())
    );
    cluster.set("states", "1|RUNNING|None|node7\n2|PENDING|Dependency|\n");
    let output = String::from_utf8(cluster.run(&["status", "p.yaml"]).stdout).unwrap();
    assert!(output.contains("job 1 on node7") && output.contains("job 2: Dependency"), "{output}");

    let log = events["job"]["log"].as_str().unwrap();
    fs::write(log, "one\ntwo\nout of luck\n").unwrap();
    cluster.set("states", "1|OUT_OF_MEMORY|OutOfMemory|node7\n2|CANCELLED|DependencyNeverSatisfied|\n");
    let (events, base, frozen) = (cluster.status("events"), cluster.status("base"), cluster.status("frozen"));
    assert_eq!((&events["state"], &events["job"]["detail"]), (&"failed".into(), &"out of memory".into()));
    assert!(events["job"]["log_tail"].as_str().unwrap().ends_with("out of luck"));
    assert_eq!((&base["state"], &base["job"]["detail"]), (&"cancelled".into(), &"`events` failed".into()));
    assert_eq!((&frozen["state"], &frozen["job"]["detail"]), (&"cancelled".into(), &"`base` was cancelled".into()));
    let output = String::from_utf8(cluster.run(&["status", "p.yaml"]).stdout).unwrap();
    assert!(
        output.contains(&format!("events: out of memory\n  log: {log}\n  one\n  two\n  out of luck\n")),
        "{output}"
    );

    let again = cluster.last(&["submit", "p.yaml"]);
    assert_eq!(names(&again["submitted"]), ALL, "what failed is submitted again");
}

#[test]
fn status_goes_without_an_engine_that_does_not_answer_and_submit_does_not() {
    let cluster = Cluster::new();
    cluster.last(&["submit", "p.yaml", "events"]);
    cluster.set("silent", "");
    let output = cluster.run(&["status", "p.yaml"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Unable to contact slurm controller"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("submitted  events"));
    assert!(cluster.error(3, &["submit", "p.yaml"]).contains("Unable to contact slurm controller"));
    assert!(cluster.error(3, &["cancel", "p.yaml"]).contains("Unable to contact slurm controller"));
}

#[test]
fn a_file_that_was_edited_is_said_to_differ_from_what_runs() {
    let cluster = Cluster::new();
    cluster.last(&["submit", "p.yaml", "base"]);
    let text = fs::read_to_string(cluster.folder.path("p.yaml")).unwrap();
    fs::write(cluster.folder.path("p.yaml"), text.replace("steps: 20", "steps: 30")).unwrap();
    assert_eq!(cluster.status("events")["job"]["outdated"], Value::Bool(false));
    assert_eq!(cluster.status("base")["job"]["outdated"], Value::Bool(true));
    let output = String::from_utf8(cluster.run(&["status", "p.yaml"]).stdout).unwrap();
    assert!(output.contains("job 2: Priority, which runs the stage as it was when submitted"), "{output}");
}

#[test]
fn cancel_ends_jobs_and_those_after_them_even_if_the_file_is_broken() {
    let cluster = Cluster::new();
    assert!(String::from_utf8(cluster.run(&["cancel", "p.yaml"]).stdout).unwrap().contains("nothing"));
    cluster.last(&["submit", "p.yaml"]);
    cluster.last(&["submit", "p.yaml", "--set", "base.steps=30"]);
    fs::write(cluster.folder.path("p.yaml"), "stages: [").unwrap();
    assert!(cluster.error(2, &["cancel", "p.yaml", "bse"]).contains("did you mean `base`?"));
    assert_eq!(names(&cluster.last(&["cancel", "p.yaml", "base"])["cancelled"]), ["base", "frozen"]);
    assert_eq!(cluster.noted("cancelled"), "3\n2\n");
    assert_eq!(names(&cluster.last(&["cancel", "p.yaml"])["cancelled"]), ["events", "base@2", "frozen@2"]);
    let with_set = cluster.last(&["cancel", "p.yaml", "--set", "base.steps=30"]);
    assert_eq!(names(&with_set["cancelled"]), ["base", "frozen", "base@2", "frozen@2"]);
}

#[test]
fn if_the_engine_takes_some_jobs_and_then_no_more_those_are_cancelled() {
    let cluster = Cluster::new();
    cluster.set("refuse_from", "3");
    let said = cluster.error(3, &["submit", "p.yaml"]);
    assert!(said.contains("the job of `frozen` could not be queued"), "{said}");
    assert!(said.contains("invalid partition specified") && said.contains("were cancelled (1, 2)"), "{said}");
    assert_eq!(cluster.noted("cancelled"), "1\n2\n");
    cluster.forget("refuse_from");
    assert_eq!(names(&cluster.last(&["submit", "p.yaml"])["submitted"]), ALL);
}

#[test]
fn what_cannot_be_submitted_is_said_before_anything_is_queued() {
    let cluster = Cluster::new();
    let output = cluster.folder.command(&["submit", "p.yaml"]).env("PATH", "/nowhere").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("slurm is not installed here"), "{error}");
    for (arguments, code, said) in [
        (&["--engine", "condor"][..], 2, "there is no engine `condor`"),
        (&["--engine-option", "partition=gpu"], 2, "STAGE=--NAME=VALUE"),
        (&["--engine-option", "bse=--mem=1G"], 2, "a stage `bse`, which this pipeline does not have"),
        (&["--set", "base.device=libtorch-cuda:1"], 2, "write `libtorch-cuda`"),
        (&["--worker", "no/such/program"], 3, "set `--worker` or PGAN_WORKER"),
        (&["bse"], 2, "did you mean `base`?"),
    ] {
        let error = cluster.error(code, &[&["submit", "p.yaml"], arguments].concat());
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(cluster.noted("calls"), "");
    cluster.set("says", "Welcome to the cluster\n");
    let error = cluster.error(3, &["submit", "p.yaml"]);
    assert!(error.contains("it gave no number of a job but \"Welcome to the cluster"), "{error}");
    assert!(
        !cluster.folder.path("cache/v1/submissions").read_dir().unwrap().any(|entry| entry.unwrap().path().is_dir())
    );
}

#[test]
fn a_dry_run_shows_the_jobs_and_queues_none() {
    let cluster = Cluster::new();
    let text =
        String::from_utf8(cluster.run(&["submit", "p.yaml", "--dry-run", "--device", "libtorch-cuda"]).stdout).unwrap();
    assert!(text.starts_with("# events\nsbatch --parsable --job-name=pgan:clustered:events "), "{text}");
    assert!(text.contains("--dependency=afterok:ID-OF-base@2"), "{text}");
    assert_eq!(text.matches("--gres=gpu:1").count(), 4, "the dataset needs no GPU: {text}");
    assert_eq!(cluster.noted("calls"), "");
    assert!(!cluster.folder.path("cache").exists());
}

#[test]
fn a_job_whose_inputs_are_not_there_does_not_make_them() {
    let cluster = Cluster::new();
    let submission = cluster.last(&["submit", "p.yaml"])["submission"].as_str().unwrap().to_owned();
    let job = cluster.command(&["job", &submission, "base"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    Command::new("kill").args(["-TERM", &job.id().to_string()]).status().unwrap();
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&cluster.folder.path("cache/v1/records")).exists());
}
