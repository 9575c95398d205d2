//! Files that are written where the user names them.
//!
//! A file that is there already is respected: a symbolic link stays, and the file that it leads to is written; a file is replaced when the new
//! one is complete, never before, and keeps its mode; pipes and character devices are written into; a folder, a disk or a socket is
//! refused. What does not become complete leaves nothing behind.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

mod temporary;

pub use temporary::{Removed, Temporary, remove_all};

/// Links that are followed, one after the other.
const LINKS: u32 = 40;

/// Writes a file in full or not at all, or all of it into a pipe or device.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = UserFile::create(path)?;
    file.write_all(content)?;
    file.finish()
}

/// Writes a file in full or not at all; refuses pipes and devices, for files that are read again.
pub fn write_plain(path: &Path, content: &[u8]) -> io::Result<()> {
    match Place::of(path)? {
        Place::Stream => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe or a device, and no plain file"))
        }
        Place::File(..) => write(path, content),
    }
}

/// Makes a hard link to a file where [`write()`] would put bytes; says whether that was possible.
pub fn link(file: &Path, path: &Path) -> io::Result<bool> {
    let Place::File(target, _) = Place::of(path)? else { return Ok(false) };
    match Temporary::beside(&target, |new| fs::hard_link(file, new)) {
        Ok((link, ())) => link.rename(&target).map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Fails if it is plain beforehand that a file cannot be written there.
pub fn check(path: &Path) -> io::Result<()> {
    Place::of(path).map(drop)
}

/// Follows the links of a path to the end; its last parts need not be there yet.
pub fn real_path(path: &Path) -> PathBuf {
    follow(path, LINKS)
}

fn follow(path: &Path, links: u32) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let Some(name) = path.file_name() else { return path.to_owned() };
    let folder = follow(folder_of(path), links);
    match path.read_link() {
        Ok(to) if links > 0 => follow(&folder.join(to), links - 1),
        _ => folder.join(name),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The place of a file that is to be written.
enum Place {
    /// A pipe or a device, which takes bytes as they come.
    Stream,
    /// A file, by its real path, with its mode if it is there.
    File(PathBuf, Option<u32>),
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let refused = |kind: io::ErrorKind, why: &str| Err(io::Error::new(kind, why.to_owned()));
        // Through links, also those of /dev/stdout and /dev/fd that lead to no name.
        match fs::metadata(path) {
            Ok(there) if there.is_file() => Ok(Self::File(path.canonicalize()?, Some(there.permissions().mode()))),
            Ok(there) if there.is_dir() => refused(io::ErrorKind::IsADirectory, "it is a folder"),
            Ok(there) if there.file_type().is_fifo() || there.file_type().is_char_device() => Ok(Self::Stream),
            Ok(_) => refused(io::ErrorKind::InvalidInput, "it is no plain file, and no pipe to write into"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.file_name().is_none() {
                    return refused(io::ErrorKind::InvalidInput, "this names no file");
                }
                let real = real_path(path);
                if folder_of(&real).is_dir() {
                    return Ok(Self::File(real, None));
                }
                let folder = folder_of(if path.is_symlink() { &real } else { path });
                refused(io::ErrorKind::NotFound, &format!("there is no folder {}", folder.display()))
            }
            Err(error) => Err(error),
        }
    }
}

/// A file that is being written for the user. Dropped before it is finished, it leaves what was there before.
#[derive(Debug)]
pub struct UserFile {
    file: File,
    bytes: u64,
    /// The place where it grows, and the place where it goes; `None` for a pipe or device.
    way: Option<(Temporary, PathBuf)>,
}

impl UserFile {
    /// Begins a file, or opens a pipe, which waits for its reader.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (target, mode) = match Place::of(path)? {
            Place::Stream => {
                let file = OpenOptions::new().write(true).open(path)?;
                return Ok(Self { file, bytes: 0, way: None });
            }
            Place::File(target, mode) => (target, mode.map(|mode| mode & 0o777)),
        };
        let create =
            |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o666)).open(path);
        let (partial, file) = Temporary::beside(&target, create)?;
        if let Some(mode) = mode {
            // The umask may have taken away more. A file system without modes refuses, and has none to keep.
            let _ = file.set_permissions(Permissions::from_mode(mode));
        }
        Ok(Self { file, bytes: 0, way: Some((partial, target)) })
    }

    /// Lets the owner write into the file, also where it takes the place of a read-only one.
    pub fn make_writable(&self) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode();
        if self.way.is_none() || mode & 0o200 != 0 {
            return Ok(());
        }
        self.file.set_permissions(Permissions::from_mode(mode & 0o777 | 0o200))
    }

    /// Counts the bytes that were written through [`Write`].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the open file, for what a kernel does better than reading and writing.
    pub fn as_file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the complete file in its place, durably.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some((partial, target)) = self.way else { return Ok(()) };
        match self.file.sync_all() {
            // A file system that cannot promise durability is written to all the same.
            Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                return Err(error);
            }
            _ => {}
        }
        partial.rename(&target)
    }
}

impl Write for UserFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
