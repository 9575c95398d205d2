//! Machines that share nothing with the one that submits but a remote.

use std::{fs, process::Command};

use serde_json::Value;

use super::{ALL, Cluster, PIPELINE, names};

/// A cluster whose machines share nothing with the one that submits but a remote: what lies in `away` at the time of a job is not there.
struct Apart {
    cluster: Cluster,
    remote: String,
}

impl Apart {
    fn new() -> Self {
        let cluster = Cluster::new();
        fs::create_dir(cluster.folder.path("remote")).unwrap();
        let remote = cluster.folder.path("remote").to_str().unwrap().to_owned();
        let here = "file: events.csv, features: [x0, x1], ";
        let text = PIPELINE.replace("synthetic: { density: pareto, index: 3, dimensions: 2, events: 500 }, ", here);
        let text = text.replace("file:", "split: { validation: 0.2, test: 0.2 }, file:");
        fs::write(cluster.folder.path("p.yaml"), text).unwrap();
        let row = |i: u32| format!("{}.{},{}\n", i % 97, i % 7, (i * i) % 89);
        fs::write(cluster.folder.path("events.csv"), format!("x0,x1\n{}", (0..500).map(row).collect::<String>()))
            .unwrap();
        Self { cluster, remote }
    }

    fn arguments<'a>(&'a self, verb: &'a str) -> Vec<&'a str> {
        let cache = "--node-cache=$NODE/cache";
        let apart: &[&str] = if verb == "submit" { &[cache] } else { &[] };
        [&[verb, "p.yaml", "--remote", &self.remote], apart].concat()
    }

    fn submit(&self, more: &[&str]) -> Value {
        self.cluster.last(&[&self.arguments("submit"), more].concat())
    }

    /// Runs the job of this number on a machine of this name; says whether it succeeded.
    fn job(&self, number: u32, node: &str) -> bool {
        let folder = &self.cluster.folder;
        fs::create_dir_all(folder.path("away")).unwrap();
        let hidden = ["p.yaml", "events.csv", "cache"];
        let hidden: Vec<&str> = hidden.into_iter().filter(|name| folder.path(name).exists()).collect();
        let shift = |from: &str, to: &str| {
            for name in &hidden {
                fs::rename(folder.path(from).join(name), folder.path(to).join(name)).unwrap();
            }
        };
        shift("", "away");
        let mut script = Command::new("sh");
        script.arg(folder.path("bin").join(format!("script-{number}"))).env("NODE", folder.path(node));
        let succeeded = script.env_remove("PGAN_CACHE").env_remove("PGAN_REMOTE").status().unwrap().success();
        shift("away", "");
        let state = if succeeded { "COMPLETED|None" } else { "FAILED|NonZeroExitCode" };
        let states = self
            .cluster
            .noted("states")
            .replace(&format!("\n{number}|PENDING|Priority|"), &format!("\n{number}|{state}|"));
        self.cluster.set("states", &states);
        succeeded
    }

    /// The digests of files, by key.
    fn outputs(&self, cache: &str) -> Vec<(String, Value)> {
        let mut found: Vec<(String, Value)> = Vec::new();
        for shard in fs::read_dir(self.cluster.folder.path(cache).join("v1/records")).unwrap().flatten() {
            for record in fs::read_dir(shard.path()).unwrap().flatten() {
                let text: Value = serde_json::from_slice(&fs::read(record.path()).unwrap()).unwrap();
                found.push((record.file_name().into_string().unwrap(), text["outputs"].clone()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

#[test]
fn machines_that_share_nothing_but_a_remote_give_what_a_run_gives() {
    let apart = Apart::new();
    assert_eq!(names(&apart.submit(&[])["submitted"]), ALL);
    for number in 1..=5 {
        assert!(apart.job(number, &format!("node{}", number % 2)), "job {number}");
    }
    apart.cluster.folder.print(&["run", "p.yaml", "-q", "--cache", "local"]);
    assert_eq!(apart.outputs("remote"), apart.outputs("local"));
    assert!(!apart.cluster.folder.path("cache/v1/records").exists(), "nothing came here by itself");
    assert!(apart.outputs("node0/cache").len() < apart.outputs("local").len(), "a job takes what it needs");

    let status = apart.cluster.status("frozen");
    assert_eq!((&status["state"], &status["job"]["remote"]), (&"done".into(), &apart.remote.as_str().into()));
    let lines = apart.cluster.json(0, &apart.arguments("status"));
    assert!(lines.iter().all(|line| line["state"] == "to_pull"), "{lines:?}");
    let again = apart.submit(&["--wait"]);
    assert_eq!((names(&again["done"]).len(), names(&again["failed"]).len()), (0, 0));
}

#[test]
fn a_job_apart_tells_how_it_failed_and_begins_anew_when_it_is_queued_again() {
    let apart = Apart::new();
    let text = fs::read_to_string(apart.cluster.folder.path("p.yaml")).unwrap();
    let text = text.replace("replicas: 2", "replicas: 1").replace("steps: 20", "steps: 10000000").replace("1h", "1s");
    fs::write(apart.cluster.folder.path("p.yaml"), text).unwrap();
    apart.submit(&[]);
    assert!(apart.job(1, "node0") && !apart.job(2, "node1"));
    let base = apart.cluster.status("base");
    assert!(base["job"]["detail"].as_str().unwrap().contains("`timeout` of 1 s"), "{base}");
    assert!(base["job"]["log_tail"].as_str().unwrap().contains("base: failed"), "{base}");
    let said = String::from_utf8(apart.cluster.run(&["status", "p.yaml"]).stdout).unwrap();
    assert!(said.contains("base: the stage took longer") && said.contains("  base: failed"), "{said}");
    assert_eq!(names(&apart.submit(&[])["cached"]), ["events"]);
    let elsewhere = apart.cluster.last(&["submit", "p.yaml"]);
    assert_eq!(names(&elsewhere["submitted"]).len(), 3, "what comes to the remote is not what comes to the cache");
}

#[test]
fn nothing_is_queued_where_jobs_could_not_share_their_results() {
    let apart = Apart::new();
    for (arguments, code, said) in [
        (&["--node-cache"][..], 2, "none is named: give `--remote URL`"),
        (&["--node-cache", "--remote", "http://127.0.0.1:1"], 2, "is read-only"),
        (&["--node-cache", "--remote", "nowhere"], 6, "there is no such folder"),
        (&["--node-cache=here", "--remote", "remote"], 2, "write an absolute path"),
        (&["--program", "pgan-pipe"], 2, "--node-cache"),
    ] {
        let error = apart.cluster.error(code, &[&["submit", "p.yaml"], arguments].concat());
        assert!(error.contains(said), "{error}");
    }
    fs::write(apart.cluster.folder.path("pgan.toml"), "[remote]\nurl = \"remote\"\npush = false\n").unwrap();
    let error = apart.cluster.error(2, &["submit", "p.yaml", "--node-cache"]);
    assert!(error.contains("`push = false` in pgan.toml forbids"), "{error}");
    fs::remove_file(apart.cluster.folder.path("pgan.toml")).unwrap();
    fs::remove_file(apart.cluster.folder.path("events.csv")).unwrap();
    apart.cluster.error(2, &apart.arguments("submit"));
    assert_eq!(apart.cluster.noted("calls"), "");
}

#[test]
fn a_job_of_stages_that_come_from_a_pack_needs_no_pack() {
    let apart = Apart::new();
    let folder = &apart.cluster.folder;
    folder.print(&["run", "p.yaml", "events", "-q"]);
    folder.print(&["pack", "p.yaml", "-o", "p.pgan"]);
    fs::write(folder.path("p.yaml"), "include: p.pgan\n").unwrap();
    fs::remove_file(folder.path("events.csv")).unwrap();
    let submitted = apart.cluster.last(&["submit", "p.yaml", "base"]);
    assert_eq!((names(&submitted["cached"]), names(&submitted["submitted"])), (vec!["events"], vec!["base"]));
    fs::remove_file(folder.path("p.pgan")).unwrap();
    assert!(Command::new("sh").arg(folder.path("bin/script-1")).status().unwrap().success());
}
