//! Advice about a file of the store that the system does not give.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use super::{FULL, is_full};

/// Gives advice after a semicolon, or nothing.
pub(super) fn advice(action: &str, path: &Path, error: &io::Error) -> String {
    match error.kind() {
        _ if is_full(error) => format!("; {FULL}"),
        io::ErrorKind::PermissionDenied if action == "read" => unreadable(path),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to, for the cache with `--cache` or PGAN_CACHE".to_owned()
        }
        _ => String::new(),
    }
}

/// Says whose the file is, or the nearest folder above it that can be seen: they may let others read it.
fn unreadable(path: &Path) -> String {
    let seen = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?.uid())));
    let owner = seen.map_or_else(
        || "its owner".to_owned(),
        |(seen, uid)| format!("the owner of {}, {}", seen.display(), user(uid)),
    );
    format!(
        "; ask {owner}, for permission to read (`chmod -R a+rX`; within a group `chmod -R g+rX`, and `umask 002` for files to come)"
    )
}

/// Gives the name of a user, or the number where the system's list has none.
fn user(uid: u32) -> String {
    let list = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    list.lines().find_map(name).unwrap_or_else(|| format!("user {uid}"))
}

#[cfg(test)]
mod tests {
    use super::super::StoreError;
    use std::{io, path::Path};

    #[test]
    fn whoever_cannot_read_is_not_told_where_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v1/objects/ab/cdef");
        let said = |action, kind: io::ErrorKind| StoreError::io(action, &path)(kind.into()).to_string();
        let read = said("read", io::ErrorKind::PermissionDenied);
        let seen = format!("the owner of {}, ", folder.path().display());
        assert!(read.contains(&seen) && read.contains("chmod -R a+rX") && !read.contains("--cache"), "{read}");
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(said("write", kind).ends_with("for the cache with `--cache` or PGAN_CACHE"));
        }
        assert_eq!(super::advice("read", Path::new("/"), &io::ErrorKind::NotFound.into()), "");
    }
}
