//! Unpacking: files into a folder, results into a store, all of it verified before any of it is in place.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use super::{Content, Item, MAX_RECORD, Manifest, PackError, PackedRecord, Receiver, ground::Ground, read};
use crate::{
    digest::Digest,
    files,
    key::CacheKey,
    store::{Output, Record, Store, StoreError},
    user_file::Temporary,
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
    let (staging, ()) = Temporary::beside(&folder.join("unpacking"), |path| DirBuilder::new().mode(0o700).create(path))
        .map_err(PackError::io("create a folder in", folder))?;
    let mut unpacking = Unpacking { folder, store, replace, staging, objects: BTreeMap::new(), records: Vec::new() };
    let manifest = read(io::BufReader::with_capacity(1 << 20, file), &mut unpacking)?;
    let new_results = unpacking.settle(&manifest)?;
    Ok(Unpacked { manifest, new_results })
}

struct Unpacking<'a> {
    folder: &'a Path,
    store: &'a Store,
    replace: bool,
    /// Where files wait until all is known to be right.
    staging: Temporary,
    /// The objects that the pack announces, with their sizes.
    objects: BTreeMap<Digest, u64>,
    records: Vec<(CacheKey, Vec<u8>)>,
}

impl Receiver for Unpacking<'_> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), PackError> {
        let cache = Ground::of(self.store.root());
        for file in &manifest.files {
            self.leads_straight(&file.path)?;
            let path = self.folder.join(&file.path);
            if cache.meets(&path) {
                return Err(PackError::spoilt(format!("files/{}", file.path), "it leads into the cache"));
            }
            match path.symlink_metadata() {
                Err(_) => {}
                Ok(there) if !there.is_file() => {
                    let source = io::Error::new(io::ErrorKind::AlreadyExists, "it is there and no plain file");
                    return Err(PackError::io("replace", &path)(source));
                }
                Ok(_) if self.replace || Digest::of_file(&path).ok() == Some(file.content.digest) => {}
                Ok(_) => return Err(PackError::InTheWay { path }),
            }
        }
        self.objects = manifest.objects.iter().map(|piece| (piece.digest, piece.size)).collect();
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
                let (partial, mut out) = Temporary::at(path.clone(), |path| {
                    // Of a process of this number that was killed.
                    let _ = fs::remove_file(path);
                    File::create_new(path)
                })
                .map_err(StoreError::io("create", &path))?;
                content.copy_to(&mut out, |error| StoreError::io("write", &path)(error).into())?;
                // What is taken in has left its place.
                if self.store.take_in_file(partial.path(), piece.digest)? {
                    return Ok(());
                }
                Err(PackError::spoilt(item.name(), "it changed while it was written"))
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
        let record = Record::from_text(text).ok_or("it is damaged, or of another version")?;
        if let Some(fault) = record.fault(packed.key) {
            return Err(format!("it {fault}"));
        }
        for (name, output) in &record.outputs {
            match self.objects.get(&output.digest) {
                None => return Err(format!("its file `{name}` is not in the pack")),
                Some(&size) if size != output.size => {
                    return Err(format!("its file `{name}` has {} bytes there, and {size} in the pack", output.size));
                }
                Some(_) => {}
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
