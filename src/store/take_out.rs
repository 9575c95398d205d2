//! Files of a result outside of the store, under their own names.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Record, Store, StoreError, files};
use crate::{
    digest::Digest,
    user_file::{self, UserFile},
};

/// How a file of the store comes to be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// A copy of its own, which shares its blocks with the store where the file system can (Btrfs, XFS).
    Copy,
    /// The same file under another name, read-only: it takes no room, and whoever writes into it spoils the store. A copy where
    /// the file system has no hard links or is another one.
    Link,
}

impl Store {
    /// Puts the files of a result into a folder, which is made if it is not there, in the place of older ones of the same names.
    pub fn take_out(&self, record: &Record, folder: &Path, copying: Copying) -> Result<Vec<PathBuf>, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        let mut paths = Vec::new();
        for (name, output) in &record.outputs {
            let path = folder.join(name);
            if Path::new(name).file_name() != Some(name.as_ref()) {
                let reason = "a file's name must not lead elsewhere".to_owned();
                return Err(StoreError::NotStorable { path, reason });
            }
            hand_out(&self.object(output.digest), &path, copying).map_err(StoreError::io("write", &path))?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Links an object to a place outside, or copies it where that cannot be. What is there already stays.
    pub(crate) fn take_out_object(&self, digest: Digest, to: &Path) -> Result<(), StoreError> {
        self.ensure_folder(to.parent().unwrap_or(Path::new("/")))?;
        match place(&self.object(digest), to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::io("write", to)(error)),
            _ => Ok(()),
        }
    }
}

/// Puts a file where a user wants it; what is there stays until the new one is complete.
fn hand_out(object: &Path, path: &Path, copying: Copying) -> io::Result<()> {
    if copying == Copying::Link && user_file::link(object, path)? {
        return Ok(());
    }
    let mut file = UserFile::create(path)?;
    // There may be a link, which is read-only.
    file.make_writable()?;
    // The kernel copies, by reference where it can.
    io::copy(&mut files::open(object)?, file.as_file_mut())?;
    file.finish()
}

fn place(object: &Path, new: &Path) -> io::Result<()> {
    if fs::hard_link(object, new).is_ok() {
        return Ok(());
    }
    // Into a new file, which has not the object's read-only mode; the kernel copies, by reference where it can.
    io::copy(&mut files::open(object)?, &mut File::create_new(new)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::{
        super::tests::{put, store},
        *,
    };

    #[test]
    fn files_come_out_as_copies_to_write_into_or_as_links() {
        let (folder, store) = store();
        let record = put(&store, 1, "content");
        let out = folder.path().join("out/here");
        // Each in the place of what was there before.
        let (copy, link) = ((Copying::Copy, false, true), (Copying::Link, true, false));
        for (copying, linked, writable) in [copy, link, link, copy] {
            let paths = store.take_out(&record, &out, copying).unwrap();
            assert!(!paths.is_empty());
            for path in paths {
                let output = record.outputs[path.file_name().unwrap().to_str().unwrap()];
                let (file, object) = (fs::metadata(&path).unwrap(), fs::metadata(store.object(output.digest)).unwrap());
                assert_eq!(fs::read(&path).unwrap(), fs::read(store.object(output.digest)).unwrap());
                assert_eq!(file.ino() == object.ino(), linked);
                assert_eq!(file.permissions().mode() & 0o200 != 0, writable);
            }
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), record.outputs.len(), "nothing else is left there");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let (folder, store) = store();
        let mut record = put(&store, 1, "content");
        let (_, output) = record.outputs.pop_first().unwrap();
        for name in ["../escaped", "/tmp/escaped", "..", "a/b", ""] {
            record.outputs = [(name.to_owned(), output)].into();
            assert!(store.take_out(&record, &folder.path().join("out"), Copying::Copy).is_err(), "{name}");
        }
    }
}
