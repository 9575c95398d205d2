//! Files that are there already are respected, and nothing is left behind.

use std::{
    io::Read,
    os::unix::fs::{MetadataExt, symlink},
    thread,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_file_is_replaced_when_the_new_one_is_complete_and_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    write(&path, b"old").unwrap();
    for kept in [0o600, 0o640, 0o755, 0o444] {
        fs::set_permissions(&path, Permissions::from_mode(kept)).unwrap();
        let mut file = UserFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert!(names(folder.path())[0].starts_with(".page.html."), "{:?}", names(folder.path()));
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old", "what is dropped changes nothing");
        write(&path, b"old").unwrap();
        assert_eq!(mode(&path), kept);
    }
    write(&path, b"new").unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["page.html".to_owned()]));
}

#[test]
fn a_new_file_has_the_mode_of_any_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, usual) = (folder.path().join("ours"), folder.path().join("usual"));
    write(&ours, b"").unwrap();
    fs::write(&usual, b"").unwrap();
    assert_eq!(mode(&ours), mode(&usual));
}

#[test]
fn links_stay_and_what_they_lead_to_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("deep")).unwrap();
    fs::write(at("deep/file"), "old").unwrap();
    symlink("deep/file", at("one")).unwrap();
    symlink(at("one"), at("two")).unwrap();
    symlink("deep/none", at("dangling")).unwrap();
    for (link, target) in [("two", "deep/file"), ("dangling", "deep/none")] {
        write(&at(link), b"new").unwrap();
        assert!(at(link).is_symlink() && !at(target).is_symlink(), "{link}");
        assert_eq!(fs::read(at(target)).unwrap(), b"new", "{link}");
    }
    assert_eq!(names(&at("deep")), ["file", "none"]);
    symlink("nowhere/file", at("lost")).unwrap();
    assert!(write(&at("lost"), b"new").unwrap_err().to_string().contains("there is no folder"));
    symlink("round", at("round")).unwrap();
    assert!(write(&at("round"), b"new").is_err() && at("round").is_symlink());
}

#[test]
fn pipes_are_written_into_and_what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut read = Vec::new();
            File::open(pipe).unwrap().read_to_end(&mut read).unwrap();
            read
        }
    });
    assert!(write_plain(&pipe, b"in vain").unwrap_err().to_string().contains("no plain file"));
    write(&pipe, b"through").unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    let socket = folder.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for refused in [folder.path(), &socket, Path::new("/"), Path::new("")] {
        assert!(check(refused).is_err() && write(refused, b"new").is_err(), "{}", refused.display());
    }
    assert_eq!(names(folder.path()), ["pipe", "socket"]);
}

#[test]
fn a_name_that_is_taken_or_too_long_to_be_added_to_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join(format!(".a.{}.partial", std::process::id()));
    symlink("elsewhere", &taken).unwrap();
    write(&folder.path().join("a"), b"new").unwrap();
    assert!(taken.is_symlink() && !folder.path().join("elsewhere").exists());
    let long = folder.path().join("é".repeat(127));
    write(&long, b"new").unwrap();
    assert_eq!(fs::read(long).unwrap(), b"new");
}
