//! Files that belong to the user: sources, pipelines, settings, locks. They are opened without waiting, and only if they are files.
//!
//! A path may be a symbolic link. A pipe would keep the program waiting for whoever writes into it, a device may never end. A path that is
//! [pinned](pin) leads to one file as long as the process lives, whatever comes to lie there.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::OFlags;

/// The most bytes of a file that is written by hand or describes something: settings, a lock.
pub const MAX_TEXT: u64 = 64 << 20;

/// Returns the metadata of a regular file, or of one that a link leads to. All else is an error of the kind [`io::ErrorKind::InvalidInput`] that
/// says what is there.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::metadata(path)?;
    check(metadata.file_type())?;
    Ok(metadata)
}

/// The files that paths are pinned to.
static PINNED: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

/// Opens a file, and lets every later [`open`] of this path give the same file, though a link or folder on the way leads elsewhere by then.
pub fn pin(path: &Path) -> io::Result<Metadata> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    PINNED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), file);
    Ok(metadata)
}

/// Opens a file whose [`metadata`] can be had.
pub fn open(path: &Path) -> io::Result<File> {
    if let Some(pinned) = PINNED.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
        // Anew, for each reader has a place of its own in it.
        match File::open(format!("/proc/self/fd/{}", pinned.as_raw_fd())) {
            // A system without /proc: the executor notices if the path leads elsewhere in the end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    metadata(path)?;
    // Something else may have taken its place.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Opens a file as [`open`] does, and besides what the shell has opened for the program (`/dev/stdin`, `<(…)`), and `/dev/null`.
pub fn open_or_stream(path: &Path) -> io::Result<File> {
    let handed_over =
        ["/dev/stdin", "/dev/fd", "/proc/self/fd", "/dev/null"].iter().any(|given| path.starts_with(given));
    if handed_over && !fs::metadata(path)?.is_dir() { File::open(path) } else { open(path) }
}

/// Reads a file of at most so many bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open(path)?, most)
}

/// Reads all that comes, which may be so many bytes.
pub fn whole(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it is larger than {} MiB; is this the right file?", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn check(found: FileType) -> io::Result<()> {
    let what = match found {
        found if found.is_file() => return Ok(()),
        found if found.is_dir() => "a folder",
        found if found.is_fifo() => "a named pipe",
        found if found.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what}, not a regular file; give a file, or a link to one"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_path_leads_to_the_same_file_whatever_comes_to_lie_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "text of a").unwrap();
        fs::write(at("b"), "b").unwrap();
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let pinned = pin(&at("link")).unwrap();
        assert_eq!(pinned.len(), 9);
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("b", at("link")).unwrap();
        let (mut one, other) = (open(&at("link")).unwrap(), open(&at("link")).unwrap());
        one.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(whole(other, 100).unwrap(), b"text of a");
        assert_eq!(read(&at("b"), 100).unwrap(), b"b");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        for (path, what) in [
            (at("pipe"), "a named pipe"),
            (at("link"), "a named pipe"),
            (at("socket"), "a socket"),
            (folder.path().to_owned(), "a folder"),
            ("/dev/zero".into(), "a device"),
        ] {
            for opened in [open(&path), open_or_stream(&path)] {
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(error.to_string().starts_with(&format!("it is {what}, not a regular file")), "{error}");
            }
        }
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("to-file")).unwrap();
        assert_eq!(read(&at("to-file"), 4).unwrap(), b"text");
        assert_eq!(read(&at("to-file"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(whole(open_or_stream(Path::new("/dev/null")).unwrap(), 0).unwrap().is_empty());
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
