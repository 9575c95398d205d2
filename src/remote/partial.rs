//! A large object on its way into the store: a file that grows, and that a later pull goes on with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use super::RemoteError;
use crate::{
    digest::Digest,
    store::{Output, Store, StoreError},
};

/// Tells the files of pulls of one process apart.
static NTH: AtomicU64 = AtomicU64::new(0);

/// The first bytes of an object. Locked: nobody else appends to them.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Partial {
    /// Takes up what an earlier pull left, or begins anew if there is nothing of use or another pull is at it.
    pub(super) fn open(store: &Store, output: Output) -> Result<Self, RemoteError> {
        let path = store.partial(&format!("pull-{}", output.digest))?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        let file = options.open(&path).map_err(StoreError::io("write", &path))?;
        let (path, file) = if file.try_lock().is_ok() && path.exists() {
            (path, file)
        } else {
            let nth = NTH.fetch_add(1, Ordering::Relaxed);
            let path = store.partial(&format!("pull-{}-{}-{nth}", output.digest, std::process::id()))?;
            let file = options.open(&path).map_err(StoreError::io("write", &path))?;
            (path, file)
        };
        let mut partial = Self { length: file.metadata().map_err(StoreError::io("read", &path))?.len(), file, path };
        if partial.length > output.size {
            partial.clear()?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) -> Result<(), RemoteError> {
        self.length = 0;
        Ok(self.file.set_len(0).map_err(StoreError::io("write", &self.path))?)
    }

    /// Moves the file among the objects if it has this digest, or else away. Says whether it had.
    pub(super) fn finish(self, store: &Store, digest: Digest) -> Result<bool, RemoteError> {
        let taken = store.take_in_file(&self.path, digest)?;
        if !taken {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &self.path)(error).into());
                }
                _ => {}
            }
        }
        Ok(taken)
    }
}
