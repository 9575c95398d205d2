//! What goes wrong around a run, through the program: signals, caches that cannot be written, full disks, rot, and runs that meet.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

mod program;

use program::Folder;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A second of work; the first stage stores more than `FULL` holds.
const PIPELINE: &str = "\
name: faults
seed: 1
stages:
  events:
    kind: dataset
    synthetic: { density: pareto, index: 3, dimensions: 2, events: 60000 }
    coordinates: { x0: log }
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 2 }
    discriminator: { layers: [8] }
    steps: 6000
    batch: 16
    optimizer: { rate: 1e-3 }
  frozen: { kind: freeze, model: base }
";

const RUN: &[&str] = &["run", "pipeline.yaml", "--json", "-q"];

fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    folder
}

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The stages that a run finished itself, in order.
fn finished(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.lines().map(event).filter(|event| event["event"] == "stage_finished");
    events.map(|event| event["stage"].as_str().unwrap().to_owned()).collect()
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs to the end, and gives the stages that ran.
fn complete(folder: &Folder, arguments: &[&str]) -> Vec<String> {
    let output = folder.run(arguments);
    assert!(output.status.success(), "{}", error_of(&output));
    finished(&output)
}

/// A run that goes on beside the test. Dropped, it is killed.
struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut child = folder.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (stdout, (sender, lines)) = (child.stdout.take().unwrap(), channel());
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn wait_for(&self, name: &str, stage: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let event = event(&line.unwrap_or_else(|error| panic!("no {name} of {stage}: {error}")));
            if event["event"] == name && event["stage"] == stage {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < until, "the run does not end"),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_signal_interrupts(signal: &str, code: i32) {
    let folder = bench();
    let mut run = Background::start(&folder, RUN);
    run.wait_for("stage_progress", "base");
    run.signal(signal);
    assert_eq!(run.end().code(), Some(code));

    let status = folder.print(&["status", "pipeline.yaml", "--json"]);
    let states: Vec<(String, String)> = status
        .lines()
        .map(event)
        .map(|line| (line["stage"].as_str().unwrap().to_owned(), line["state"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [("events", "cached"), ("base", "interrupted"), ("frozen", "waiting")];
    assert_eq!(states, expected.map(|(stage, state)| (stage.to_owned(), state.to_owned())));
    let row = folder.print(&["status", "pipeline.yaml"]);
    assert!(row.contains("interrupted") && row.contains("of 6000"), "{row}");

    assert_eq!(complete(&folder, RUN), ["base", "frozen"]);
    folder.print(&["status", "pipeline.yaml", "--exit-code"]);
    folder.print(&["cache", "verify"]);
}

#[test]
fn an_interrupt_ends_with_130_and_the_next_run_goes_on() {
    a_signal_interrupts("INT", 130);
}

#[test]
fn a_termination_ends_with_143_and_the_next_run_goes_on() {
    a_signal_interrupts("TERM", 143);
}

#[test]
fn a_run_that_is_killed_leaves_a_store_that_the_next_one_takes_up() {
    let folder = bench();
    let mut run = Background::start(&folder, RUN);
    run.wait_for("stage_progress", "base");
    run.signal("KILL");
    assert_eq!(run.end().code(), None);
    assert_eq!(complete(&folder, RUN), ["base", "frozen"]);
    folder.print(&["cache", "verify"]);
}

#[test]
fn a_file_where_the_cache_should_be_is_named_with_exit_code_3() {
    let folder = bench();
    fs::write(folder.path("taken"), "not a folder").unwrap();
    let output = folder.run(&["run", "pipeline.yaml", "--cache", "taken"]);
    assert_eq!(output.status.code(), Some(3), "{}", error_of(&output));
    assert!(error_of(&output).contains("taken"), "{}", error_of(&output));
    assert_eq!(fs::read_to_string(folder.path("taken")).unwrap(), "not a folder");
}

/// A file system of its own that is soon full. Dropped, it is unmounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a note, where mounting is not permitted.
    #[expect(clippy::print_stderr, reason = "whoever reads the log should know that nothing was tested")]
    fn mount(folder: &Folder, limits: &str) -> Option<Self> {
        let path = folder.path("disk");
        fs::create_dir(&path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", limits, "tmpfs"], &path);
        if !mounted {
            eprintln!("mounting is not permitted here: a full disk is not tested");
        }
        mounted.then_some(Self(path))
    }

    fn grow(&self) {
        self.remount("size=64m,nr_inodes=10000");
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.0));
    }
}

fn mount(options: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(options).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

const RUN_ON_DISK: &[&str] = &["run", "pipeline.yaml", "--json", "-q", "--cache", "disk/cache"];

/// Fails on a full disk with this code and a message with these words, and loses nothing.
fn a_full_disk(folder: &Folder, disk: &SmallDisk, code: i32, words: &[&str]) {
    let output = folder.run(RUN_ON_DISK);
    let said = error_of(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    folder.print(&["cache", "verify", "--cache", "disk/cache"]);
    disk.grow();
    complete(folder, RUN_ON_DISK);
    folder.print(&["status", "pipeline.yaml", "--exit-code", "--cache", "disk/cache"]);
    folder.print(&["cache", "verify", "--cache", "disk/cache"]);
}

#[test]
fn a_disk_that_fills_up_is_named_with_exit_code_3_and_is_survived() {
    let folder = bench();
    let Some(disk) = SmallDisk::mount(&folder, "size=200k") else { return };
    a_full_disk(&folder, &disk, 3, &["disk/cache", "No space left", "--cache"]);
}

#[test]
fn a_disk_that_is_full_already_is_named_with_exit_code_3() {
    let folder = bench();
    let Some(disk) = SmallDisk::mount(&folder, "size=8k") else { return };
    // The last write of the ballast fails: then the disk is full.
    let _ = fs::write(folder.path("disk/ballast"), vec![0; 1 << 16]);
    a_full_disk(&folder, &disk, 3, &["disk/cache", "No space left", "--cache"]);
}

#[test]
fn a_disk_without_room_for_another_file_is_named_and_not_blamed_on_the_worker() {
    let arguments = [RUN_ON_DISK, &["events"]].concat();
    let mut failures = 0;
    // Each number of files makes another step fail, from the first folder to the record.
    loop {
        let (folder, files) = (bench(), failures + 3);
        let Some(disk) = SmallDisk::mount(&folder, &format!("nr_inodes={files}")) else { return };
        let output = folder.run(&arguments);
        if output.status.success() {
            break;
        }
        let said = error_of(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(3) && files < 100, "{files}: {said}");
        assert!(said.contains("disk/cache") && said.contains("No space left"), "{files}: {said}");
        assert!(!said.contains("--worker"), "{files}: {said}");
        failures += 1;
        folder.print(&["cache", "verify", "--cache", "disk/cache"]);
        disk.grow();
        assert_eq!(complete(&folder, &arguments), ["events"]);
        folder.print(&["cache", "verify", "--cache", "disk/cache"]);
    }
    assert!(failures > 3);
}

#[test]
fn a_cache_that_cannot_be_written_gives_what_it_has_and_is_named_where_more_is_needed() {
    let folder = bench();
    let Some(disk) = SmallDisk::mount(&folder, "size=64m") else { return };
    assert_eq!(complete(&folder, RUN_ON_DISK).len(), 3);
    disk.remount("ro");
    assert!(complete(&folder, RUN_ON_DISK).is_empty(), "all is cached");
    for arguments in [&["plan", "pipeline.yaml"], &["status", "pipeline.yaml"], &["cache", "ls"], &["cache", "verify"]]
    {
        folder.print(&[&arguments[..], &["--cache", "disk/cache"]].concat());
    }
    for more in [["--set", "frozen.seed=2"], ["--force", "frozen"]] {
        let output = folder.run(&[RUN_ON_DISK, &more].concat());
        let said = error_of(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("disk/cache") && said.contains("Read-only") && said.contains("--cache"), "{said}");
    }
    disk.remount("rw");
    assert_eq!(complete(&folder, &[RUN_ON_DISK, &["--set", "frozen.seed=2"]].concat()), ["frozen"]);
    folder.print(&["cache", "verify", "--cache", "disk/cache"]);
}

#[test]
fn what_is_written_for_the_user_stays_as_it_was_when_the_disk_is_full() {
    let folder = bench();
    complete(&folder, RUN);
    let Some(disk) = SmallDisk::mount(&folder, "size=48k") else { return };
    let verbs: [(&str, &[&str]); 6] = [
        ("page.html", &["report", "pipeline.yaml", "-o", "disk/page.html"]),
        ("events.csv", &["sample", "pipeline.yaml", "frozen", "-n", "1e5", "-o", "disk/events.csv"]),
        ("events.parquet", &["sample", "pipeline.yaml", "frozen", "-n", "1e5", "-o", "disk/events.parquet"]),
        ("a.pgan", &["pack", "pipeline.yaml", "-o", "disk/a.pgan"]),
        ("boost.md", &["schema", "--reference", "disk"]),
        ("model.json", &["cache", "get", "pipeline.yaml", "events", "-o", "disk"]),
    ];
    for (name, arguments) in verbs {
        let path = folder.path("disk").join(name);
        fs::write(&path, "good").unwrap();
        // The last write of the ballast fails: then the disk is full.
        let _ = fs::write(folder.path("disk/ballast"), vec![0; 1 << 17]);
        let before = fs::read_dir(folder.path("disk")).unwrap().count();
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", error_of(&output));
        assert!(error_of(&output).contains("No space left"), "{arguments:?}: {}", error_of(&output));
        assert_eq!(fs::read_to_string(&path).unwrap(), "good", "{arguments:?}");
        assert_eq!(fs::read_dir(folder.path("disk")).unwrap().count(), before, "{arguments:?}");
        fs::remove_file(folder.path("disk/ballast")).unwrap();
        fs::remove_file(&path).unwrap();
    }
    disk.grow();
    folder.print(verbs[0].1);
}

#[test]
fn a_signal_ends_a_run_that_still_looks_at_its_sources() {
    let folder = bench();
    // Hours of hashing.
    let header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000, 1), }  ";
    fs::write(folder.path("events.npy"), header).unwrap();
    fs::File::options().write(true).open(folder.path("events.npy")).unwrap().set_len(400_000_000_080).unwrap();
    let pipeline = "name: large\nstages:\n  events: { kind: dataset, file: events.npy }\n";
    fs::write(folder.path("pipeline.yaml"), pipeline).unwrap();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut run = Background::start(&folder, RUN);
        thread::sleep(Duration::from_millis(300));
        run.signal(signal);
        assert_eq!(run.end().code(), Some(code));
    }
}

/// Flips a bit of a file of a stage's result, in the store.
fn spoil(folder: &Folder, stage: &str) {
    let record = event(folder.print(&["show", "pipeline.yaml", stage, "--json"]).lines().next().unwrap());
    let (_, output) = record["outputs"].as_object().unwrap().iter().next().unwrap();
    let digest = output["digest"].as_str().unwrap();
    let object = folder.path("cache/v1/objects").join(&digest[..2]).join(&digest[2..]);
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_mended_when_a_descendant_needs_the_file() {
    let folder = bench();
    complete(&folder, RUN);
    spoil(&folder, "base");
    assert!(complete(&folder, RUN).is_empty(), "nothing reads it");
    assert_eq!(complete(&folder, &[RUN, &["--force", "frozen"]].concat()), ["base", "frozen"]);
    folder.print(&["cache", "verify"]);

    spoil(&folder, "base");
    let output = folder.run(&["cache", "verify"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stdout).contains("base: "));
    assert_eq!(complete(&folder, RUN), ["base"]);
    folder.print(&["cache", "verify"]);
}

#[test]
fn two_runs_on_one_store_compute_each_stage_once() {
    let folder = bench();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| complete(&folder, RUN));
        let second = scope.spawn(|| complete(&folder, RUN));
        (first.join().unwrap(), second.join().unwrap())
    });
    let mut all = [first, second].concat();
    all.sort_unstable();
    assert_eq!(all, ["base", "events", "frozen"]);
    folder.print(&["cache", "verify"]);
}
