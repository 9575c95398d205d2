//! Unpacking: files into a folder, results into a store, all of it verified before any of it is in place.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::Path,
};

use tempfile::TempDir;

use super::{Content, Item, MAX_RECORD, Manifest, PackError, PackedRecord, Receiver, read};
use crate::{
    digest::Digest,
    files,
    key::CacheKey,
    pipeline::absolute,
    store::{Output, Record, Store, StoreError},
};

/// What was unpacked.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What the pack held.
    pub manifest: Manifest,
    /// Results that the store did not have before.
    pub new_results: usize,
}

/// Unpacks a file. What is in the way with other content is an error, unless it is to be replaced.
pub fn unpack(pack: &Path, folder: &Path, store: &Store, replace: bool) -> Result<Unpacked, PackError> {
    let file = files::open_or_stream(pack).map_err(PackError::io("read", pack))?;
    fs::create_dir_all(folder).map_err(PackError::io("create", folder))?;
    let staging = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(folder)
        .map_err(PackError::io("create a folder in", folder))?;
    let mut unpacking = Unpacking { folder, store, replace, staging, objects: BTreeSet::new(), records: Vec::new() };
    let manifest = read(io::BufReader::with_capacity(1 << 20, file), &mut unpacking)?;
    let new_results = unpacking.settle(&manifest)?;
    Ok(Unpacked { manifest, new_results })
}

struct Unpacking<'a> {
    folder: &'a Path,
    store: &'a Store,
    replace: bool,
    /// Where files wait until all is known to be right.
    staging: TempDir,
    /// The objects that the pack announces.
    objects: BTreeSet<Digest>,
    records: Vec<(CacheKey, Vec<u8>)>,
}

impl Receiver for Unpacking<'_> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), PackError> {
        for file in &manifest.files {
            self.leads_straight(&file.path)?;
            let path = self.folder.join(&file.path);
            if absolute(&path).starts_with(absolute(self.store.root())) {
                return Err(PackError::spoilt(format!("files/{}", file.path), "it leads into the cache"));
            }
            let there = path.symlink_metadata().is_ok();
            if there && !self.replace && Digest::of_file(&path).ok() != Some(file.content.digest) {
                return Err(PackError::InTheWay { path });
            }
        }
        self.objects = manifest.objects.iter().map(|piece| piece.digest).collect();
        self.store.check_room(manifest.size().unwrap_or(u64::MAX))?;
        Ok(())
    }

    fn take(&mut self, item: Item<'_>, content: Content<'_>) -> Result<(), PackError> {
        match item {
            Item::File(file) => {
                let path = self.staging.path().join(&file.path);
                let failed = |action| PackError::io(action, &path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(failed("create the folder of"))?;
                }
                let mut out = File::create_new(&path).map_err(failed("create"))?;
                content.copy_to(&mut out, failed("write"))?;
                out.sync_all().map_err(failed("write"))
            }
            Item::Object(piece) => {
                if self.store.holds(Output { digest: piece.digest, size: piece.size }) {
                    return content.copy_to(&mut io::sink(), PackError::Read);
                }
                let path = self.store.partial(&format!("unpack-{}-{}", std::process::id(), piece.digest))?;
                let written = File::create(&path)
                    .map_err(|error| StoreError::io("create", &path)(error).into())
                    .and_then(|mut out| content.copy_to(&mut out, |error| StoreError::io("write", &path)(error).into()))
                    .and_then(|()| Ok(self.store.take_in_file(&path, piece.digest)?));
                if !matches!(written, Ok(true)) {
                    let _ = fs::remove_file(&path);
                }
                if written? { Ok(()) } else { Err(PackError::spoilt(item.name(), "it changed while it was written")) }
            }
            Item::Record(record) => {
                let text = content.bytes(MAX_RECORD)?;
                self.check_record(record, &text).map_err(|reason| PackError::spoilt(item.name(), reason))?;
                self.records.push((record.key, text));
                Ok(())
            }
        }
    }
}

impl Unpacking<'_> {
    /// Refuses a path that goes through a symbolic link which is there already: it could lead anywhere.
    fn leads_straight(&self, path: &str) -> Result<(), PackError> {
        let mut place = self.folder.to_owned();
        for part in Path::new(path).components() {
            place.push(part);
            if place.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
                let reason = format!("{} is a symbolic link; unpack into another folder", place.display());
                return Err(PackError::spoilt(format!("files/{path}"), reason));
            }
        }
        Ok(())
    }

    fn check_record(&self, packed: &PackedRecord, text: &[u8]) -> Result<(), String> {
        let record = Record::from_text(text).filter(|record| record.key == packed.key);
        let record = record.ok_or("it is damaged, of another version, or of another key")?;
        for (name, output) in &record.outputs {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(format!("it names a file {name:?}, which leads elsewhere"));
            }
            if !self.objects.contains(&output.digest) {
                return Err(format!("its file `{name}` is not in the pack"));
            }
        }
        Ok(())
    }

    /// All has come and is right: puts files in their places, then records. Gives the number of results that are new.
    fn settle(self, manifest: &Manifest) -> Result<usize, PackError> {
        for file in &manifest.files {
            let path = self.folder.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(PackError::io("create", parent))?;
            }
            fs::rename(self.staging.path().join(&file.path), &path).map_err(PackError::io("write", &path))?;
        }
        let mut new = 0;
        for (key, text) in &self.records {
            let there = matches!(self.store.find(*key)?, crate::store::Found::Complete(_));
            let adopted = self.store.adopt(*key, text)?;
            new += usize::from(!there && adopted.is_some());
        }
        Ok(new)
    }
}
