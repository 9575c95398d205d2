//! Results from elsewhere: verified before they are published, objects first, the record last.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Found, Output, Record, Store, StoreError, files};
use crate::{digest::Digest, key::CacheKey};

impl Store {
    /// Whether this object is there, at its size.
    pub fn holds(&self, output: Output) -> bool {
        fs::symlink_metadata(self.object(output.digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == output.size)
    }

    /// Fails if the file system has no room for so many bytes more.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let there = self.root.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        // Where it cannot be known, writing will tell.
        let Ok(room) = rustix::fs::statvfs(there) else { return Ok(()) };
        if room.f_bavail.saturating_mul(room.f_frsize) >= bytes {
            return Ok(());
        }
        let full = io::Error::new(io::ErrorKind::StorageFull, format!("there is no room for {bytes} bytes more"));
        Err(StoreError::io("write into", &self.root)(full))
    }

    /// Where a large object may come to be, part by part. Collections take it away when nothing has come for an hour.
    pub(crate) fn partial(&self, name: &str) -> Result<PathBuf, StoreError> {
        let folder = self.tmp();
        self.ensure_folder(&folder)?;
        Ok(folder.join(name))
    }

    /// Stores an object of these bytes, which must be those of the digest.
    pub(crate) fn take_in_bytes(&self, bytes: &[u8], digest: Digest) -> Result<bool, StoreError> {
        if Digest::of(bytes) != digest {
            return Ok(false);
        }
        let mut file = self.new_tmp()?;
        file.write_all(bytes).map_err(StoreError::io("write", file.path()))?;
        self.publish_object(file.path(), digest)?;
        files::forget(file);
        Ok(true)
    }

    /// Moves a file of `tmp` among the objects if it has this digest; says whether it has.
    pub(crate) fn take_in_file(&self, file: &Path, digest: Digest) -> Result<bool, StoreError> {
        if Digest::of_file(file).map_err(StoreError::io("read", file))? != digest {
            return Ok(false);
        }
        self.publish_object(file, digest)?;
        Ok(true)
    }

    /// Copies a file of somebody else's among the objects.
    pub(crate) fn take_in_copy(&self, file: &Path) -> Result<Output, StoreError> {
        let copy = self.new_tmp()?;
        // The kernel copies, by reference where it can.
        File::open(file)
            .and_then(|mut from| io::copy(&mut from, &mut copy.as_file()))
            .map_err(StoreError::io("copy", file))?;
        let output = self.put_file(copy.path())?;
        files::forget(copy);
        Ok(output)
    }

    /// Forgets the result of a key; its objects stay for a while.
    pub(crate) fn forget(&self, key: CacheKey) -> Result<(), StoreError> {
        let path = self.record(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Stores the text of a record whose objects are there. A complete record that is there already stays. `None` if it cannot be a record
    /// of this key, or if objects are missing.
    pub(crate) fn adopt(&self, key: CacheKey, text: &[u8]) -> Result<Option<Arc<Record>>, StoreError> {
        if let Found::Complete(first) = self.find(key)? {
            return Ok(Some(first));
        }
        let Some(record) = Record::from_text(text).filter(|record| record.fault(key).is_none()) else {
            return Ok(None);
        };
        if !record.outputs.values().all(|&output| self.holds(output)) {
            return Ok(None);
        }
        self.put_text(&self.record(key), text)?;
        Ok(Some(Arc::new(record)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{
        super::tests::{key, put, store},
        *,
    };

    #[test]
    fn a_result_of_another_store_is_taken_in_with_its_record_last() {
        let ((_here, here), (_there, there)) = (store(), store());
        let record = put(&there, 1, "m");
        let text = fs::read(there.record(record.key)).unwrap();
        assert!(here.adopt(record.key, &text).unwrap().is_none(), "its objects are missing");
        for output in record.outputs.values() {
            let bytes = fs::read(there.object(output.digest)).unwrap();
            assert!(!here.take_in_bytes(b"another", output.digest).unwrap());
            assert!(here.take_in_bytes(&bytes, output.digest).unwrap() && here.holds(*output));
        }
        assert!(here.adopt(key(2), &text).unwrap().is_none(), "it is of another key");
        let mut other = record.clone();
        other.material.seed += 1;
        assert!(here.adopt(key(1), &other.to_text().unwrap()).unwrap().is_none(), "it is of other material");
        assert_eq!(*here.adopt(record.key, &text).unwrap().unwrap(), record);
        assert_eq!(fs::read(here.record(record.key)).unwrap(), text);
        assert!(here.verify().faults.is_empty());
    }

    #[test]
    fn a_file_is_taken_in_only_if_it_is_what_it_should_be() {
        let (_folder, store) = store();
        let path = store.partial("part").unwrap();
        fs::write(&path, "content").unwrap();
        assert!(!store.take_in_file(&path, Digest::of(b"another")).unwrap() && path.exists());
        assert!(store.take_in_file(&path, Digest::of(b"content")).unwrap() && !path.exists());
        let mode = fs::metadata(store.object(Digest::of(b"content"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0);
    }

    #[test]
    fn the_first_complete_record_stays() {
        let ((_here, here), (_there, there)) = (store(), store());
        let (first, other) = (put(&here, 1, "m"), put(&there, 1, "another"));
        let text = fs::read(there.record(other.key)).unwrap();
        assert_eq!(*here.adopt(first.key, &text).unwrap().unwrap(), first);
    }
}
