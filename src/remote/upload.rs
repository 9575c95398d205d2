//! A large object on its way to a bucket, part by part. What has been sent is noted, so that a later push goes on from there.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    multipart::{MultipartStore, PartId},
    path::Path,
};
use serde::{Deserialize, Serialize};

use super::{PART, RemoteError, blocking, link::Link, push::Push};
use crate::{
    digest::Digest,
    store::{Output, Store, StoreError},
};

/// Services take up to 10,000 parts.
const MOST_PARTS: u64 = 9_000;

/// The size of the parts that an object is sent in, all but the last, in bytes.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}

/// The first line of a note.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    remote: String,
    object: String,
    part_size: u64,
    upload: String,
}

/// Each later line: a part that the remote has.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    part: u64,
    id: String,
}

/// An upload that has begun.
struct Upload {
    id: String,
    sent: BTreeMap<u64, String>,
    note: Note,
}

/// Where an upload is noted; the lock keeps other pushes from the same one.
struct Note {
    path: PathBuf,
    /// `None` if another push is at this object: this one is not noted.
    file: Option<File>,
}

impl Push {
    /// Sends a large object, or what of it the remote has not yet.
    pub(super) async fn upload(&self, path: &Path, output: Output) -> Result<(), RemoteError> {
        let Some(service) = self.link.multipart.clone() else {
            return Err(RemoteError::ReadOnly { address: self.link.address.clone() });
        };
        let (store, link, at) = (self.store.clone(), Arc::clone(&self.link), path.to_string());
        let found = blocking(move || Note::open(&store, &link, &at, output)).await?;
        if let Ok(upload) = found {
            match self.finish(&*service, path, output, upload).await {
                // The service has forgotten it.
                Err(RemoteError::Absent { .. } | RemoteError::Trouble { passing: false, .. }) => {}
                finished => return finished,
            }
            let (store, link, at) = (self.store.clone(), Arc::clone(&self.link), path.to_string());
            let anew = blocking(move || {
                let path = Note::path(&store, &link, output.digest)?;
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                Note::open(&store, &link, &at, output)
            });
            return match anew.await? {
                Err(note) => self.begin(&*service, path, output, note).await,
                Ok(upload) => self.finish(&*service, path, output, upload).await,
            };
        }
        let Err(note) = found else { return Ok(()) };
        self.begin(&*service, path, output, note).await
    }

    async fn begin(
        &self,
        service: &dyn MultipartStore,
        path: &Path,
        output: Output,
        mut note: Note,
    ) -> Result<(), RemoteError> {
        let id = self.link.within(self.link.patience.answer, "write", path, service.create_multipart(path)).await?;
        note.write(&Head {
            remote: self.link.address.to_string(),
            object: path.to_string(),
            part_size: part_size(output.size),
            upload: id.clone(),
        })?;
        self.finish(service, path, output, Upload { id, sent: BTreeMap::new(), note }).await
    }

    async fn finish(
        &self,
        service: &dyn MultipartStore,
        path: &Path,
        output: Output,
        upload: Upload,
    ) -> Result<(), RemoteError> {
        let Upload { id, mut sent, mut note } = upload;
        let size = part_size(output.size);
        let length = |part: u64| size.min(output.size - part * size);
        self.progress.moved(sent.keys().map(|&part| length(part)).sum());
        let object = self.store.object(output.digest);
        let file = Arc::new(File::open(&object).map_err(StoreError::io("read", &object))?);
        let missing: Vec<u64> = (0..output.size.div_ceil(size)).filter(|part| !sent.contains_key(part)).collect();
        let send = |part: u64| {
            let (file, object, id) = (Arc::clone(&file), object.clone(), &id);
            async move {
                let most = u32::try_from(self.link.patience.parts).unwrap_or(1);
                let permits = u32::try_from(size / PART).unwrap_or(most).clamp(1, most);
                let _permit = self.link.parts.acquire_many(permits).await;
                let mut bytes = vec![0; length(part) as usize];
                let bytes = blocking(move || {
                    file.read_exact_at(&mut bytes, part * size).map_err(StoreError::io("read", &object))?;
                    Ok(bytes)
                });
                let put = service.put_part(path, id, part as usize, bytes.await?.into());
                let sent = self.link.within(self.link.patience.part, "write", path, put).await?;
                Ok::<_, RemoteError>((part, sent.content_id))
            }
        };
        let mut parts = stream::iter(missing).map(send).buffer_unordered(self.link.patience.parts);
        while let Some((part, id)) = parts.try_next().await? {
            self.progress.moved(length(part));
            note.write(&Part { part, id: id.clone() })?;
            sent.insert(part, id);
        }
        drop(parts);
        let ids = sent.into_values().map(|content_id| PartId { content_id }).collect();
        let complete = service.complete_multipart(path, &id, ids);
        self.link.within(self.link.patience.part, "write", path, complete).await?;
        note.remove();
        Ok(())
    }
}

impl Note {
    fn path(store: &Store, link: &Link, digest: Digest) -> Result<PathBuf, StoreError> {
        let remote = Digest::of(link.address.to_string().as_bytes());
        store.partial(&format!("push-{digest}-{}.jsonl", remote.short()))
    }

    /// The upload that is noted, or an empty note.
    fn open(store: &Store, link: &Link, object: &str, output: Output) -> Result<Result<Upload, Self>, RemoteError> {
        let path = Self::path(store, link, output.digest)?;
        let file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .open(&path)
            .map_err(StoreError::io("write", &path))?;
        if file.try_lock().is_err() {
            return Ok(Err(Self { path, file: None }));
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let head: Option<Head> = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let fits = |head: &Head| {
            head.remote == link.address.to_string() && head.object == object && head.part_size == part_size(output.size)
        };
        let Some(head) = head.filter(fits) else {
            file.set_len(0).map_err(StoreError::io("write", &path))?;
            return Ok(Err(Self { path, file: Some(file) }));
        };
        let count = output.size.div_ceil(head.part_size);
        let parts = lines.filter_map(|line| serde_json::from_str(line).ok()).filter(|part: &Part| part.part < count);
        let sent = parts.map(|Part { part, id }| (part, id)).collect();
        Ok(Ok(Upload { id: head.upload, sent, note: Self { path, file: Some(file) } }))
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), RemoteError> {
        if let (Some(file), Ok(mut text)) = (&mut self.file, serde_json::to_vec(line)) {
            text.push(b'\n');
            file.write_all(&text).map_err(StoreError::io("write", &self.path))?;
        }
        Ok(())
    }

    fn remove(self) {
        if self.file.is_some() {
            // A later push finds that the upload is over, and looks for the object first anyway.
            let _ = fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_no_more_than_services_take() {
        assert_eq!(part_size(PART + 1), PART);
        for size in [1 << 30, 1 << 40, 5 << 40] {
            assert!(part_size(size) >= PART && size.div_ceil(part_size(size)) <= 10_000);
        }
    }
}
