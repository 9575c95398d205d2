//! Writing to a remote: objects into their places, records only where there is none.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path as FilePath,
    sync::atomic::{AtomicU64, Ordering},
};

use object_store::{ObjectStoreExt, PutMode, PutOptions, path::Path};

use super::{
    PART, Progress, RemoteError,
    address::Place,
    blocking,
    link::Link,
    push::{Push, Sending},
};
use crate::{
    digest::Digest,
    store::{Output, Record, Store, StoreError},
};

/// Tells the files of pushes of one process apart.
static NTH: AtomicU64 = AtomicU64::new(0);

impl Push {
    /// Sends an object, once it is found to be what its name says.
    pub(super) async fn send(&self, output: Output) -> Result<(), RemoteError> {
        let (store, digest) = (self.store.clone(), output.digest);
        if let Place::Folder(folder) = self.link.address.place() {
            let _slot = self.link.slots.acquire().await;
            let (there, progress) = (Store::at(folder), std::sync::Arc::clone(&self.progress));
            return blocking(move || into_folder(&store, &there, output, &progress)).await;
        }
        let path = self.link.object(digest);
        if output.size > PART {
            blocking(move || intact(&store, digest)).await?;
            return self.upload(&path, output).await;
        }
        let _room = self.link.room(output.size).await;
        let bytes = blocking(move || {
            let bytes = fs::read(store.object(digest)).map_err(|error| unreadable(&store, digest, error))?;
            if Digest::of(&bytes) == digest { Ok(bytes) } else { set_aside(&store, digest) }
        })
        .await?;
        self.link.within(self.link.patience.part, "write", &path, self.link.objects.put(&path, bytes.into())).await?;
        self.progress.moved(output.size);
        Ok(())
    }
}

/// Copies an object among those of a folder, as that store does with its own.
fn into_folder(store: &Store, there: &Store, output: Output, progress: &Progress) -> Result<(), RemoteError> {
    let nth = NTH.fetch_add(1, Ordering::Relaxed);
    let copy = there.partial(&format!("push-{}-{}-{nth}", output.digest, std::process::id()));
    let copy = copy.map_err(RemoteError::in_folder)?;
    let taken = copy_file(store, output.digest, &copy, progress)
        .and_then(|()| there.take_in_file(&copy, output.digest).map_err(RemoteError::in_folder));
    if !matches!(taken, Ok(true)) {
        // What is left there is taken by a collection.
        let _ = fs::remove_file(&copy);
    }
    if taken? { Ok(()) } else { set_aside(store, output.digest) }
}

/// Copies by the kernel, by reference where the file system can.
fn copy_file(store: &Store, digest: Digest, copy: &FilePath, progress: &Progress) -> Result<(), RemoteError> {
    let mut from = File::open(store.object(digest)).map_err(|error| unreadable(store, digest, error))?;
    let failed = |error| RemoteError::in_folder(StoreError::io("write", copy)(error));
    let mut to = File::create_new(copy).map_err(failed)?;
    loop {
        match io::copy(&mut (&mut from).take(PART), &mut to).map_err(failed)? {
            0 => return Ok(()),
            bytes => progress.moved(bytes),
        }
    }
}

fn intact(store: &Store, digest: Digest) -> Result<(), RemoteError> {
    match Digest::of_file(&store.object(digest)) {
        Ok(found) if found == digest => Ok(()),
        Ok(_) => set_aside(store, digest),
        Err(error) => Err(unreadable(store, digest, error)),
    }
}

/// An object that has rotted is not sent, and no longer used here.
fn set_aside<T>(store: &Store, digest: Digest) -> Result<T, RemoteError> {
    store.set_aside(digest)?;
    Err(not_sent(digest, "corrupted"))
}

fn unreadable(store: &Store, digest: Digest, error: io::Error) -> RemoteError {
    if error.kind() == io::ErrorKind::NotFound {
        return not_sent(digest, "missing");
    }
    StoreError::io("read", &store.object(digest))(error).into()
}

fn not_sent(digest: Digest, fault: &'static str) -> RemoteError {
    RemoteError::CorruptedHere { file: digest.short(), stage: String::new(), fault }
}

impl RemoteError {
    /// Says which file of which stage cannot be sent.
    pub(super) fn naming(self, file: &str, stage: &str) -> Self {
        match self {
            Self::CorruptedHere { fault, .. } => {
                Self::CorruptedHere { file: file.to_owned(), stage: stage.to_owned(), fault }
            }
            error => error,
        }
    }
}

impl Link {
    /// The size of a file; `None` if it is not there.
    pub(super) async fn size(&self, path: &Path) -> Result<Option<u64>, RemoteError> {
        match self.within(self.patience.answer, "look for", path, self.objects.head(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(RemoteError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a record if there is none of its key, or none that can be read. The first one stays.
    pub(super) async fn send_record(
        &self,
        record: &Record,
        text: Vec<u8>,
        overwrite: bool,
    ) -> Result<Sending, RemoteError> {
        let path = self.record(record.key);
        if !overwrite {
            match self.offered(record.key).await {
                Ok(Some(first)) if first.record.outputs == record.outputs => return Ok(Sending::There),
                Ok(Some(_)) => return Ok(Sending::Differs),
                Ok(None) if self.create(&path, text.clone()).await? => return Ok(Sending::Sent),
                // Another was quicker, or there is one of another version.
                Ok(None) => return self.compare(record, &path).await,
                // It can be of no use to anybody.
                Err(RemoteError::BadRecord { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.write(&path, text, PutMode::Overwrite).await?;
        Ok(Sending::Sent)
    }

    async fn compare(&self, record: &Record, path: &Path) -> Result<Sending, RemoteError> {
        match self.offered(record.key).await? {
            Some(first) if first.record.outputs == record.outputs => Ok(Sending::There),
            Some(_) => Ok(Sending::Differs),
            None => Err(RemoteError::BadRecord {
                path: path.to_string(),
                key: record.key,
                fault: "is of another version of pgan-pipe".to_owned(),
                advice: "; it stays, unless you `cache push --overwrite`",
            }),
        }
    }

    /// Writes a file that is not there yet; says whether it was written.
    async fn create(&self, path: &Path, text: Vec<u8>) -> Result<bool, RemoteError> {
        match self.write(path, text, PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(RemoteError::Exists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn write(&self, path: &Path, text: Vec<u8>, mode: PutMode) -> Result<(), RemoteError> {
        if let Place::Folder(folder) = self.address.place() {
            let (to, there) = (folder.join(path.as_ref()), Store::at(folder));
            return blocking(move || match mode {
                PutMode::Create if to.exists() => Err(RemoteError::Exists { what: to.display().to_string() }),
                _ => there.put_text(&to, &text).map_err(RemoteError::in_folder),
            })
            .await;
        }
        let options = PutOptions { mode, ..PutOptions::default() };
        let written = self.objects.put_opts(path, text.into(), options);
        self.within(self.patience.part, "write", path, written).await.map(drop)
    }
}
