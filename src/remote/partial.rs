//! A large object on its way into the store: a file that grows, and that a later pull goes on with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use bytes::Bytes;

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
    /// Of all the bytes that are there.
    hasher: blake3::Hasher,
    /// Bytes since the disk was last asked to write.
    unwritten: u64,
}

/// So many bytes are written at once, while others come: at the end little is left to wait for.
const WRITE: u64 = 64 << 20;

impl Partial {
    /// Takes up what an earlier pull left, or begins anew if there is nothing of use or another pull is at it.
    pub(super) fn open(store: &Store, output: Output) -> Result<Self, RemoteError> {
        let path = store.partial(&format!("pull-{}", output.digest))?;
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true);
        let file = options.open(&path).map_err(StoreError::io("write", &path))?;
        let (path, file) = if file.try_lock().is_ok() && path.exists() {
            (path, file)
        } else {
            let nth = NTH.fetch_add(1, Ordering::Relaxed);
            let path = store.partial(&format!("pull-{}-{}-{nth}", output.digest, std::process::id()))?;
            let file = options.open(&path).map_err(StoreError::io("write", &path))?;
            (path, file)
        };
        let length = file.metadata().map_err(StoreError::io("read", &path))?.len();
        let mut partial = Self { file, path, length, hasher: blake3::Hasher::new(), unwritten: 0 };
        if length > output.size {
            partial.clear()?;
        } else {
            partial.hasher.update_reader(&partial.file).map_err(StoreError::io("read", &partial.path))?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn append(mut self, pieces: &[Bytes]) -> Result<Self, RemoteError> {
        for piece in pieces {
            self.add(piece)?;
        }
        Ok(self)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.unwritten += bytes.len() as u64;
        if self.unwritten >= WRITE
            && let Ok(file) = self.file.try_clone()
        {
            self.unwritten = 0;
            // Should it fail, it will at the end.
            thread::spawn(move || file.sync_data());
        }
        Ok(())
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) -> Result<(), RemoteError> {
        self.length = 0;
        self.hasher.reset();
        Ok(self.file.set_len(0).map_err(StoreError::io("write", &self.path))?)
    }

    /// Moves the file among the objects if it has this digest, or else away. Says whether it had.
    pub(super) fn finish(self, store: &Store, digest: Digest) -> Result<bool, RemoteError> {
        if Digest::of_hasher(&self.hasher) == digest {
            store.publish_object(&self.path, digest)?;
            return Ok(true);
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.path)(error).into())
            }
            _ => Ok(false),
        }
    }
}
