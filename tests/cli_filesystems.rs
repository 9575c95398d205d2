//! File systems that lack a feature, other disks, and other users of one cache.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

mod program;

use program::Folder;

const PIPELINE: &str = "\
name: shared
seed: 1
stages:
  events: { kind: dataset, synthetic: { density: pareto, index: 3, dimensions: 2, events: 2000 }, coordinates: { x0: log } }
  base: { kind: train_gan, data: events, generator: { layers: [4], latent: 2 }, discriminator: { layers: [4] }, steps: 20, batch: 16 }
  frozen: { kind: freeze, model: base }
";

/// The refusals of a file system, by the names that the library below knows. Its answers are those of real ones: some in user space
/// and on a network cannot sync folders, set modes or map files.
const REFUSALS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
static int lacks(const char *what) { const char *all = getenv("LACKS"); return all && strstr(all, what); }
static int is_folder(int fd) { struct stat s; return fstat(fd, &s) == 0 && S_ISDIR(s.st_mode); }
int fsync(int fd) {
    if (lacks("fsync") || (lacks("folders") && is_folder(fd))) { errno = EINVAL; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int chmod(const char *path, mode_t mode) {
    if (lacks("chmod")) { errno = EPERM; return -1; }
    return ((int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "chmod"))(path, mode);
}
int fchmod(int fd, mode_t mode) {
    if (lacks("chmod")) { errno = ENOTSUP; return -1; }
    return ((int (*)(int, mode_t))dlsym(RTLD_NEXT, "fchmod"))(fd, mode);
}
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (lacks("mmap") && fd >= 0) { errno = ENODEV; return MAP_FAILED; }
    return ((void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap64"))(at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (lacks("mmap") && fd >= 0) { errno = ENODEV; return MAP_FAILED; }
    return ((void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap"))(at, length, protection, flags, fd, offset);
}
int rename(const char *from, const char *to) {
    if (lacks("disk") && !strstr(from, "/objects/") != !strstr(to, "/objects/")) { errno = EXDEV; return -1; }
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
"#;

/// A library that refuses what `LACKS` lists, in a folder.
fn refusals(folder: &Folder) -> PathBuf {
    let (source, library) = (folder.path("refusals.c"), folder.path("refusals.so"));
    fs::write(&source, REFUSALS).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(built.unwrap().success(), "a C compiler is needed, as it is for the program");
    library
}

fn said(output: &Output) -> String {
    [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

#[test]
fn a_run_goes_on_where_a_file_system_lacks_a_feature_and_ends_with_the_same_bytes() {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    let library = refusals(&folder);
    let records = |cache: &str| {
        let show = ["show", "pipeline.yaml", "--json", "--cache", cache];
        let outputs = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["outputs"].clone();
        folder.print(&show).lines().map(outputs).collect::<Vec<_>>()
    };
    succeeds(&folder.run(&["run", "pipeline.yaml", "-q", "--cache", "plain"]));
    for lacks in ["fsync", "folders", "chmod", "mmap", "disk", "fsync,chmod,mmap,disk"] {
        // Little memory, so that events are kept in files.
        for arguments in [
            &["run", "pipeline.yaml", "-q", "--memory", "1KB"][..],
            &["run", "pipeline.yaml", "-q", "--force", "frozen"],
            &["cache", "verify"],
            &["sample", "pipeline.yaml", "frozen", "-n", "10", "-o", "events.csv"],
            &["cache", "gc", "--keep-days", "0", "--dry-run"],
        ] {
            let mut command = folder.command(arguments);
            command.env("LD_PRELOAD", &library).env("LACKS", lacks).args(["--cache", lacks]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "without {lacks}, {arguments:?}: {}", said(&output));
        }
        assert_eq!(records(lacks), records("plain"), "without {lacks}");
        assert_eq!(fs::read_dir(folder.path(lacks).join("v1/tmp")).unwrap().count(), 0, "without {lacks}");
    }
}

#[test]
fn a_corrupted_object_on_another_disk_is_set_aside_and_made_again() {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    let library = refusals(&folder);
    let run = |arguments: &[&str]| {
        folder.command(arguments).env("LD_PRELOAD", &library).env("LACKS", "disk").output().unwrap()
    };
    succeeds(&run(&["run", "pipeline.yaml", "-q"]));
    let object = objects(&folder.path("cache")).remove(0);
    let mut bytes = fs::read(&object).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
    assert_eq!(run(&["cache", "verify"]).status.code(), Some(5));
    succeeds(&run(&["run", "pipeline.yaml", "-q"]));
    succeeds(&run(&["cache", "verify"]));
}

#[test]
fn objects_may_lie_behind_a_link_to_another_folder() {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
    fs::create_dir_all(folder.path("large")).unwrap();
    fs::create_dir_all(folder.path("cache/v1")).unwrap();
    symlink(folder.path("large"), folder.path("cache/v1/objects")).unwrap();
    succeeds(&folder.run(&["run", "pipeline.yaml", "-q"]));
    succeeds(&folder.run(&["cache", "verify"]));
    assert!(fs::read_dir(folder.path("large")).unwrap().count() > 0);
}

/// All objects of a cache.
fn objects(cache: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(cache.join("v1/objects")).unwrap().map(|shard| shard.unwrap().path());
    shards.flat_map(|shard| fs::read_dir(shard).unwrap()).map(|object| object.unwrap().path()).collect()
}

/// Users of a group, who share a cache. Only root can start their programs.
struct Group {
    folder: Folder,
    program: PathBuf,
}

const GROUP: u32 = 47_110;
const ANNA: u32 = 47_111;
const BERT: u32 = 47_112;

impl Group {
    /// `None`, with a note, where this is not permitted.
    #[expect(clippy::print_stderr, reason = "whoever reads the log should know that nothing was tested")]
    fn new() -> Option<Self> {
        let folder = Folder::new();
        if fs::metadata(folder.path(".")).unwrap().uid() != 0 {
            eprintln!("only root can start programs of other users: a cache of a group is not tested");
            return None;
        }
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&folder.path("."), 0o755);
        let program = folder.path("pgan-pipe");
        fs::copy(env!("CARGO_BIN_EXE_pgan-pipe"), &program).unwrap();
        mode(&program, 0o755);
        fs::write(folder.path("pipeline.yaml"), PIPELINE).unwrap();
        fs::create_dir(folder.path("cache")).unwrap();
        std::os::unix::fs::chown(folder.path("cache"), Some(ANNA), Some(GROUP)).unwrap();
        mode(&folder.path("cache"), 0o2775);
        for user in [ANNA, BERT] {
            let home = folder.path(&user.to_string());
            fs::create_dir(&home).unwrap();
            std::os::unix::fs::chown(home, Some(user), Some(GROUP)).unwrap();
        }
        Some(Self { folder, program })
    }

    /// The program as one of its members calls it.
    fn run(&self, user: u32, umask: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(&self.program).args(arguments);
        command.current_dir(self.folder.path(&user.to_string())).uid(user).gid(GROUP);
        command.env("HOME", self.folder.path(&user.to_string())).env("PGAN_CACHE", self.folder.path("cache"));
        command.output().unwrap()
    }
}

#[test]
fn a_cache_that_a_group_shares_serves_each_of_them_what_the_others_have_made() {
    let Some(group) = Group::new() else { return };
    let run = ["run", "../pipeline.yaml", "--json", "-q"];
    succeeds(&group.run(ANNA, "002", &run));
    let output = group.run(BERT, "002", &run);
    succeeds(&output);
    assert!(!said(&output).contains("stage_finished"), "all is cached: {}", said(&output));
    // What Bert's stages take was made by Anna.
    let output = group.run(BERT, "002", &["run", "../pipeline.yaml", "--json", "-q", "--set", "base.steps=30"]);
    succeeds(&output);
    assert_eq!(said(&output).matches("\"stage_finished\"").count(), 2, "{}", said(&output));
    for arguments in [
        &["cache", "verify"][..],
        &["cache", "get", "../pipeline.yaml", "frozen", "-o", "here"],
        &["sample", "../pipeline.yaml", "frozen", "-n", "5", "-o", "events.csv"],
    ] {
        succeeds(&group.run(BERT, "002", arguments));
    }
    for user in [ANNA, BERT] {
        let (other, steps) = (if user == ANNA { BERT } else { ANNA }, user.to_string());
        let set = format!("base.steps={}", &steps[3..]);
        succeeds(&group.run(user, "002", &[&run[..], &["--set", &set]].concat()));
        let output = group.run(other, "002", &[&run[..], &["--set", &set]].concat());
        succeeds(&output);
        assert!(!said(&output).contains("stage_finished"), "{}", said(&output));
    }
    for object in objects(&group.folder.path("cache")) {
        assert_eq!(fs::metadata(&object).unwrap().mode() & 0o777, 0o444, "{}", object.display());
    }
}

/// Lets a folder hand on to what is made in it that the group may do all, whatever the umask: a default ACL, as the kernel keeps it.
fn hand_on_to_group(folder: &Path) -> bool {
    let entries: [(u16, u16, u32); 4] = [(1, 7, u32::MAX), (4, 7, u32::MAX), (0x10, 7, u32::MAX), (0x20, 5, u32::MAX)];
    let entry =
        |&(tag, may, id): &(u16, u16, u32)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat();
    let list = [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat();
    rustix::fs::setxattr(folder, "system.posix_acl_default", &list, rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever reads the log should know that nothing was tested")]
fn a_folder_that_grants_more_than_the_umask_is_heeded() {
    let Some(group) = Group::new() else { return };
    if !hand_on_to_group(&group.folder.path("cache")) {
        eprintln!("this file system keeps no access control lists: they are not tested");
        return;
    }
    let run = ["run", "../pipeline.yaml", "--json", "-q"];
    succeeds(&group.run(ANNA, "077", &run));
    let output = group.run(BERT, "077", &[&run[..], &["--force", "frozen"]].concat());
    succeeds(&output);
    assert_eq!(said(&output).matches("\"stage_finished\"").count(), 1, "{}", said(&output));
    for user in [ANNA, BERT] {
        succeeds(&group.run(user, "077", &["cache", "verify"]));
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_named_as_such() {
    let Some(group) = Group::new() else { return };
    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q"]));
    let shard = objects(&group.folder.path("cache")).remove(0).parent().unwrap().to_owned();
    fs::set_permissions(&shard, fs::Permissions::from_mode(0o700)).unwrap();
    let output = group.run(BERT, "002", &["cache", "verify"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(
        said(&output).contains("cannot read") && !said(&output).contains("no readable record"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_result_that_its_maker_keeps_from_others_is_made_again_by_them_and_verified_with_code_5() {
    let Some(group) = Group::new() else { return };
    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q"]));
    for object in objects(&group.folder.path("cache")) {
        fs::set_permissions(&object, fs::Permissions::from_mode(0o400)).unwrap();
    }
    let output = group.run(BERT, "002", &["run", "../pipeline.yaml", "--json", "-q", "--force", "frozen"]);
    succeeds(&output);
    assert_eq!(said(&output).matches("\"stage_finished\"").count(), 3, "{}", said(&output));
    succeeds(&group.run(BERT, "002", &["cache", "verify"]));

    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q", "--set", "base.steps=30"]));
    for object in objects(&group.folder.path("cache")) {
        fs::set_permissions(&object, fs::Permissions::from_mode(0o400)).unwrap();
    }
    let output = group.run(BERT, "002", &["cache", "verify"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("Permission denied"), "{}", said(&output));
    succeeds(&group.run(BERT, "002", &["run", "../pipeline.yaml", "-q", "--set", "base.steps=30"]));
    succeeds(&group.run(BERT, "002", &["cache", "verify"]));
}

#[test]
fn an_object_of_an_older_store_is_widened_when_its_owner_runs() {
    let Some(group) = Group::new() else { return };
    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q"]));
    for object in objects(&group.folder.path("cache")) {
        fs::set_permissions(&object, fs::Permissions::from_mode(0o400)).unwrap();
    }
    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q"]));
    for object in objects(&group.folder.path("cache")) {
        assert_eq!(fs::metadata(&object).unwrap().mode() & 0o777, 0o444);
    }
    succeeds(&group.run(BERT, "002", &["cache", "verify"]));
}

#[test]
fn a_link_that_another_member_leaves_in_a_work_folder_does_no_harm() {
    let Some(group) = Group::new() else { return };
    let plan = group.run(ANNA, "002", &["plan", "../pipeline.yaml", "--json"]);
    succeeds(&plan);
    let first: serde_json::Value =
        serde_json::from_str(String::from_utf8_lossy(&plan.stdout).lines().next().unwrap()).unwrap();
    let work = group.folder.path("cache/v1/work").join(first["key"].as_str().unwrap());
    let thesis = group.folder.path(&ANNA.to_string()).join("thesis.tex");
    fs::write(&thesis, "ten years of work").unwrap();
    std::os::unix::fs::chown(&thesis, Some(ANNA), Some(GROUP)).unwrap();
    let script = format!(
        "mkdir -p {0} && cd {0} && for name in log progress.json lock; do ln -s {1} $name; done && mkdir -p checkpoints/cpu && ln -s {1} checkpoints/cpu/gan.part",
        work.display(),
        thesis.display()
    );
    let planted = Command::new("sh").args(["-c", &format!("umask 002; {script}")]).uid(BERT).gid(GROUP).status();
    assert!(planted.unwrap().success());
    succeeds(&group.run(ANNA, "002", &["run", "../pipeline.yaml", "-q", "--checkpoint-every", "0"]));
    assert_eq!(fs::read_to_string(thesis).unwrap(), "ten years of work");
}

#[test]
fn a_program_that_is_replaced_during_its_run_goes_on_as_it_began() {
    let folder = Folder::new();
    fs::write(folder.path("pipeline.yaml"), PIPELINE.replace("steps: 20", "steps: 3000")).unwrap();
    let program = folder.path("pgan-pipe");
    fs::copy(env!("CARGO_BIN_EXE_pgan-pipe"), &program).unwrap();
    let run = Command::new(&program)
        .args(["run", "pipeline.yaml", "--json", "-q", "--jobs", "1"])
        .current_dir(folder.path("."))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.path("cache/v1/work").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    fs::write(folder.path("new"), "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(folder.path("new"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(folder.path("new"), &program).unwrap();
    succeeds(&run.wait_with_output().unwrap());
}
