//! Files that the user names, and standard output, through the program: what is there is respected, and no failure goes unnoticed.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

mod program;

use program::Folder;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const PIPELINE: &str = "\
name: study
seed: 1
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 2000 }, coordinates: { x0: log } }
  base:
    kind: train_gan
    data: events
    generator: { layers: [8], latent: 2 }
    discriminator: { layers: [8] }
    steps: 5
    batch: 16
  frozen: { kind: freeze, model: base }
";

/// A folder with a pipeline that has run.
fn bench() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    folder
}

/// The arguments of each verb that writes a file, but the file; and the ending that it needs.
const VERBS: [(&[&str], &str); 7] = [
    (&["sample", "pipeline.yaml", "frozen", "-n", "100", "-o"], ".csv"),
    (&["sample", "pipeline.yaml", "frozen", "-n", "100", "-o"], ".parquet"),
    (&["sample", "pipeline.yaml", "frozen", "-n", "100", "-o"], ".npy"),
    (&["pack", "pipeline.yaml", "-o"], ".pgan"),
    (&["report", "pipeline.yaml", "-o"], ".html"),
    (&["export", "pipeline.yaml", "frozen", "--format", "onnx", "--force", "-o"], ".onnx"),
    (&["export", "pipeline.yaml", "--format", "snakemake", "--force", "-o"], ".smk"),
];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_linked_file_is_written_where_its_link_leads_and_the_link_stays() {
    let folder = bench();
    for (verb, ending) in VERBS {
        let at = |name: &str| folder.path(&format!("{name}{ending}"));
        let deep = folder.path("deep");
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("there"), "old").unwrap();
        fs::set_permissions(deep.join("there"), fs::Permissions::from_mode(0o640)).unwrap();
        for target in ["there", "new"] {
            symlink(Path::new("deep").join(target), at(target)).unwrap();
            folder.print(&[verb, &[at(target).to_str().unwrap()]].concat());
            assert!(at(target).is_symlink(), "{verb:?}");
        }
        let read = |name: &str| fs::read(deep.join(name)).unwrap();
        assert!(!read("new").is_empty() && read("there") == read("new"), "{verb:?}");
        assert_eq!(fs::metadata(deep.join("there")).unwrap().mode() & 0o777, 0o640, "{verb:?}");
        assert_eq!(names(&deep), ["new", "there"], "{verb:?}");
        fs::remove_dir_all(&deep).unwrap();
        fs::remove_file(at("there")).unwrap();
        fs::remove_file(at("new")).unwrap();
    }
}

#[test]
fn linked_locks_plots_pages_and_files_of_results_stay_links() {
    let folder = bench();
    fs::create_dir_all(folder.path("kept")).unwrap();
    fs::create_dir_all(folder.path("man")).unwrap();
    fs::create_dir_all(folder.path("reference")).unwrap();
    fs::create_dir_all(folder.path("out")).unwrap();
    let links = [
        ("pipeline.lock", &["run", "pipeline.yaml", "-q", "--lock"][..]),
        ("man/pgan-pipe.1", &["man", "man"]),
        ("reference/README.md", &["schema", "--reference", "reference"]),
        ("out/model.json", &["cache", "get", "pipeline.yaml", "frozen", "-o", "out"]),
        ("out/model.json", &["cache", "get", "pipeline.yaml", "frozen", "-o", "out", "--link"]),
    ];
    for (name, arguments) in links {
        let (link, target) = (folder.path(name), folder.path("kept/target"));
        let _ = fs::remove_file(&link);
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        folder.print(arguments);
        assert!(link.is_symlink() && fs::metadata(&target).unwrap().len() > 100, "{arguments:?}");
        assert_eq!(names(&folder.path("kept")), ["target"], "{arguments:?}");
        fs::remove_file(&target).unwrap();
    }
    assert!(names(&folder.path("out")).iter().all(|name| !name.starts_with('.')));
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_takes_the_bytes_that_a_file_would_hold_and_stays() {
    let folder = bench();
    for (verb, ending) in VERBS {
        let (file, pipe) = (folder.path(&format!("file{ending}")), folder.path(&format!("pipe{ending}")));
        folder.print(&[verb, &[file.to_str().unwrap()]].concat());
        mkfifo(&pipe);
        let (sender, receiver) = channel();
        thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut read = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut read).unwrap();
                sender.send(read)
            }
        });
        folder.print(&[verb, &[pipe.to_str().unwrap()]].concat());
        let read = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{verb:?} writes nothing into the pipe"));
        assert!(read == fs::read(file).unwrap(), "{verb:?}");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{verb:?}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_lock_is_refused() {
    let folder = bench();
    let lock = folder.path("pipeline.lock");
    mkfifo(&lock);
    let mut running = folder.command(&["run", "pipeline.yaml", "-q", "--lock"]);
    let mut running = Background(running.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    assert!(!running.reaches(|| false));
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("pipeline.lock: it is a pipe or a device"), "{said}");
    assert!(fs::symlink_metadata(lock).unwrap().file_type().is_fifo());
}

/// A device of our own that takes everything: the machine's is not put at risk. `None`, with a note, where it cannot be made.
#[expect(clippy::print_stderr, reason = "whoever reads the log should know that nothing was tested")]
fn null(path: &Path) -> Option<()> {
    let made = Command::new("mknod").arg(path).args(["c", "1", "3"]).output();
    // Where devices may be made but not used, there is nothing to test either.
    let usable = made.is_ok_and(|made| made.status.success()) && fs::write(path, "x").is_ok();
    if !usable {
        eprintln!("devices cannot be made here: they are not tested as targets");
    }
    usable.then_some(())
}

#[test]
fn a_device_is_written_into_and_stays_a_device() {
    let folder = bench();
    for (verb, ending) in VERBS {
        let (device, link) = (folder.path(&format!("null{ending}")), folder.path(&format!("link{ending}")));
        let Some(()) = null(&device) else { return };
        symlink(&device, &link).unwrap();
        for path in [&device, &link] {
            folder.print(&[verb, &[path.to_str().unwrap()]].concat());
        }
        assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device(), "{verb:?}");
        assert!(link.is_symlink(), "{verb:?}");
    }
}

#[test]
fn what_is_no_file_to_write_is_refused_with_its_name() {
    let folder = bench();
    for (verb, ending) in VERBS {
        let place = format!("taken{ending}");
        fs::create_dir(folder.path(&place)).unwrap();
        let nowhere = format!("nowhere{ending}");
        symlink("missing/file", folder.path(&nowhere)).unwrap();
        for (name, why) in [(&place, "it is a folder"), (&nowhere, "there is no folder")] {
            let output = folder.run(&[verb, &[name]].concat());
            let said = said(&output);
            assert_eq!(output.status.code(), Some(3), "{verb:?}: {said}");
            assert!(said.contains(why) && said.contains(name), "{verb:?}: {said}");
        }
        assert!(folder.path(&nowhere).is_symlink() && names(&folder.path(&place)).is_empty());
    }
}

/// A process beside the test. Dropped, it is killed.
struct Background(Child);

impl Background {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = folder.command(arguments);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until something is there; says whether it came before the end of the program.
    fn reaches(&mut self, there: impl Fn() -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        while !there() {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < until, "nothing comes of it");
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Sends a signal, and gives the exit code.
    fn end(&mut self, signal: &str) -> Option<i32> {
        assert!(Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns whether a file that is on its way lies in the folder: its name has this one in it.
fn is_coming(folder: &Path, name: &str) -> bool {
    names(folder).iter().any(|found| found.starts_with(&format!(".{name}.")) && found.ends_with(".partial"))
}

#[test]
fn a_signal_during_a_large_sample_leaves_what_was_there() {
    let folder = bench();
    fs::create_dir(folder.path("out")).unwrap();
    fs::write(folder.path("out/events.csv"), "mine").unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let sample = ["sample", "pipeline.yaml", "frozen", "-n", "1e9", "-o", "out/events.csv"];
        let mut sampling = Background::start(&folder, &sample);
        assert!(sampling.reaches(|| is_coming(&folder.path("out"), "events.csv")));
        assert_eq!(sampling.end(signal), Some(code));
        assert_eq!(names(&folder.path("out")), ["events.csv"]);
        assert_eq!(fs::read_to_string(folder.path("out/events.csv")).unwrap(), "mine");
    }
}

#[test]
fn a_signal_while_a_pack_is_written_leaves_nothing_beside_it() {
    let folder = Folder::new();
    fs::create_dir(folder.path("out")).unwrap();
    let large = "stages:\n  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 8, events: 2000000 } }\n";
    fs::write(folder.path("large.yaml"), large).unwrap();
    folder.print(&["run", "large.yaml", "-q"]);
    // A signal that comes too late finds a complete pack, and is sent again to the next.
    let interrupted = (0..50).any(|_| {
        let mut packing = Background::start(&folder, &["pack", "large.yaml", "-o", "out/large.pgan"]);
        let begun = packing.reaches(|| is_coming(&folder.path("out"), "large.pgan"));
        let code = if begun { packing.end("TERM") } else { None };
        let left = names(&folder.path("out"));
        assert!(left.iter().all(|name| name == "large.pgan"), "{left:?}");
        code == Some(143)
    });
    assert!(interrupted, "packs are written faster than signals are sent");
}

#[test]
fn a_signal_while_a_pack_is_unpacked_leaves_no_part_of_it() {
    let folder = bench();
    folder.print(&["pack", "pipeline.yaml", "-o", "whole.pgan"]);
    let pack = fs::read(folder.path("whole.pgan")).unwrap();
    // Up to the middle of the first object, which is not published before its end.
    let first = pack.windows(8).position(|bytes| bytes == b"objects/").unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let out = folder.path("out");
        let mut unpacking = Background::start(&folder, &["unpack", "/dev/stdin", "-C", "out", "--cache", "other"]);
        let mut writer = unpacking.0.stdin.take().unwrap();
        writer.write_all(&pack[..first + 512 + 100]).unwrap();
        let tmp = folder.path("other/v1/tmp");
        let begun = || {
            fs::read_dir(&tmp).is_ok_and(|mut found| {
                found.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("unpack-"))
            })
        };
        assert!(unpacking.reaches(begun) && is_coming(&out, "unpacking"));
        assert_eq!(unpacking.end(signal), Some(code));
        assert!(names(&out).is_empty() && names(&tmp).is_empty(), "{:?} {:?}", names(&out), names(&tmp));
    }
}

#[test]
fn a_standard_output_that_takes_nothing_ends_with_3_and_a_message() {
    let folder = bench();
    let full = |arguments: &[&str]| {
        let output = folder.command(arguments).stdout(File::options().write(true).open("/dev/full").unwrap()).output();
        let output = output.unwrap();
        (output.status.code(), said(&output))
    };
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["schema"],
        &["schema", "boost"],
        &["completions", "zsh"],
        &["graph", "pipeline.yaml"],
        &["plan", "pipeline.yaml"],
        &["plan", "pipeline.yaml", "--json"],
        &["show", "pipeline.yaml", "--json"],
        &["cache", "ls"],
        &["devices"],
        &["run", "pipeline.yaml", "--json"],
        &["run", "pipeline.yaml", "--json", "-q", "--force", "events"],
        &["sample", "pipeline.yaml", "frozen", "-n", "10", "-o", "events.csv"],
        &["report", "pipeline.yaml", "--json"],
    ] {
        let (code, said) = full(arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{arguments:?}: {said}");
    }
    // The run has gone on to its end.
    let (code, _) = full(&["run", "pipeline.yaml", "--json", "-q", "--set", "base.steps=6"]);
    assert_eq!(code, Some(3));
    folder.print(&["status", "pipeline.yaml", "--exit-code", "--set", "base.steps=6"]);
}

#[test]
fn a_standard_output_that_nobody_reads_is_no_failure() {
    let folder = bench();
    for arguments in [
        &["schema"][..],
        &["--help"],
        &["completions", "bash"],
        &["run", "pipeline.yaml", "--json"],
        &["run", "pipeline.yaml", "--json", "--set", "base.steps=7"],
    ] {
        let mut child = folder.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
    folder.print(&["status", "pipeline.yaml", "--exit-code", "--set", "base.steps=7"]);
}

#[test]
fn what_init_could_not_finish_does_not_keep_it_from_beginning_again() {
    let folder = Folder::new();
    let place: PathBuf = folder.path("study");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("events"), "in the way of the folder").unwrap();
    assert_eq!(folder.run(&["init", "study"]).status.code(), Some(3));
    assert_eq!(names(&place), ["events"]);
    fs::remove_file(place.join("events")).unwrap();
    folder.print(&["init", "study"]);
    assert_eq!(names(&place), ["events", "pipeline.schema.json", "pipeline.yaml"]);
}
