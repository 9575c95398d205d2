//! Reading a pack: entry after entry, each as the manifest announces it, verified before anyone may keep it.

use std::io::{self, Read, Seek, Write};

use tar::{Archive, Entries, Entry, EntryType};

use super::{Item, MANIFEST, MAX_MANIFEST, Manifest, PackError, Piece, VERSION};
use crate::store::sealed;

/// Bytes copied at once.
const BUFFER: usize = 1 << 16;
/// Bytes of the blocks that an archive is made of.
const BLOCK: u64 = 512;

/// Takes what a pack holds.
pub trait Receiver {
    /// Hears what will come, before any of it does.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), PackError>;

    /// Takes the next entry.
    fn take(&mut self, item: Item<'_>, content: Content<'_>) -> Result<(), PackError>;
}

/// The bytes of an entry that is being read.
pub struct Content<'a> {
    source: &'a mut dyn Read,
    piece: Piece,
    name: &'a str,
}

impl Content<'_> {
    /// Writes the bytes to `out`; an error if they are not those of the manifest: then forget what was written.
    pub fn copy_to(self, out: &mut dyn Write, failed: impl FnOnce(io::Error) -> PackError) -> Result<(), PackError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER.min(usize::try_from(self.piece.size).unwrap_or(BUFFER)).max(1)];
        let mut left = self.piece.size;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.source.read(&mut buffer[..most]).map_err(PackError::Read)?;
            if read == 0 {
                return Err(PackError::spoilt(self.name, format!("it ends {left} bytes early")));
            }
            hasher.update(&buffer[..read]);
            if let Err(error) = out.write_all(&buffer[..read]) {
                return Err(failed(error));
            }
            left -= read as u64;
        }
        if hasher.finalize().as_bytes() == self.piece.digest.as_bytes() {
            return Ok(());
        }
        Err(PackError::spoilt(self.name, "its content is not what the manifest announces"))
    }

    /// The bytes in memory, where they are not more than this.
    pub(super) fn bytes(self, most: u64) -> Result<Vec<u8>, PackError> {
        if self.piece.size > most {
            return Err(PackError::spoilt(self.name, "it is larger than any of its sort"));
        }
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes, PackError::Read)?;
        Ok(bytes)
    }
}

/// Reads a pack from its start to its end.
pub fn read(source: impl Read, receiver: &mut dyn Receiver) -> Result<Manifest, PackError> {
    let mut archive = Archive::new(source);
    // Raw: long names and other extensions, which packs do not have, are entries like others, and refused.
    let mut entries = archive.entries().map_err(PackError::Read)?.raw(true);
    let manifest = first(&mut entries)?;
    receiver.begin(&manifest)?;
    let mut last = 0;
    for item in manifest.items() {
        let name = item.name();
        let mut entry = announced(&mut entries, item, &name)?;
        receiver.take(item, Content { source: &mut entry, piece: item.content(), name: &name })?;
        // What the receiver does not want is passed over.
        io::copy(&mut entry, &mut io::sink()).map_err(PackError::Read)?;
        last = item.content().size;
    }
    end(archive.into_inner(), last)?;
    Ok(manifest)
}

/// Reads what comes after the bytes of the last entry, which has this size: zeros, at least those that end an archive.
fn end(mut source: impl Read, size: u64) -> Result<(), PackError> {
    let mut missing = (BLOCK - size % BLOCK) % BLOCK + 2 * BLOCK;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) if missing > 0 => return Err(PackError::spoilt("after the last entry", "the pack ends early")),
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PackError::Read(error)),
        };
        if buffer[..read].iter().any(|&byte| byte != 0) {
            return Err(PackError::spoilt("after the last entry", "there is more than the manifest announces"));
        }
        missing = missing.saturating_sub(read as u64);
    }
}

/// What a pack announces; nothing else of it is looked at.
pub fn read_manifest(source: impl Read) -> Result<Manifest, PackError> {
    let mut archive = Archive::new(source);
    first(&mut archive.entries().map_err(PackError::Read)?.raw(true))
}

/// One of the files of a pack, verified; `None` if there is none of this path. It may have `most` bytes.
pub fn read_file(source: impl Read + Seek, path: &str, most: u64) -> Result<Option<Vec<u8>>, PackError> {
    let mut archive = Archive::new(source);
    let mut entries = archive.entries_with_seek().map_err(PackError::Read)?.raw(true);
    let manifest = first(&mut entries)?;
    if manifest.files.iter().all(|file| file.path != path) {
        return Ok(None);
    }
    for item in manifest.items() {
        let name = item.name();
        let mut entry = announced(&mut entries, item, &name)?;
        if matches!(item, Item::File(file) if file.path == path) {
            return Content { source: &mut entry, piece: item.content(), name: &name }.bytes(most).map(Some);
        }
    }
    Ok(None)
}

/// The manifest, which is the first entry.
fn first<'a, R: Read>(entries: &mut Entries<'a, R>) -> Result<Manifest, PackError> {
    let first = entries.next().ok_or_else(|| PackError::NoPack("it is empty".into()))?;
    let mut first: Entry<'a, R> = first.map_err(|error| PackError::NoPack(error.to_string()))?;
    if &*first.path_bytes() != MANIFEST.as_bytes() || !is_plain(&first) {
        return Err(PackError::NoPack(format!("it does not begin with a {MANIFEST}")));
    }
    parse_manifest(&mut first)
}

/// The next entry, if it is the one that the manifest announces.
fn announced<'a, R: Read>(entries: &mut Entries<'a, R>, item: Item<'_>, name: &str) -> Result<Entry<'a, R>, PackError> {
    let entry = entries.next().ok_or_else(|| PackError::spoilt(name, "it is not there: the pack ends early"))?;
    let entry = entry.map_err(|error| PackError::spoilt(name, format!("it cannot be read ({error})")))?;
    if &*entry.path_bytes() != name.as_bytes() || !is_plain(&entry) {
        return Err(PackError::spoilt(name, "another entry, or something that is no file, is in its place"));
    }
    if entry.size() != item.content().size {
        return Err(PackError::spoilt(name, "its size is not what the manifest announces"));
    }
    Ok(entry)
}

fn parse_manifest(entry: &mut impl Read) -> Result<Manifest, PackError> {
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST + 1).read_to_end(&mut text).map_err(PackError::Read)?;
    if text.len() as u64 > MAX_MANIFEST {
        return Err(PackError::NoPack(format!("its {MANIFEST} is larger than any")));
    }
    let manifest: Option<Manifest> = sealed::open(VERSION, &text);
    let manifest =
        manifest.ok_or_else(|| PackError::NoPack(format!("its {MANIFEST} is damaged, or of another version")))?;
    manifest.check().map_err(|reason| PackError::spoilt(MANIFEST, reason))?;
    Ok(manifest)
}

fn is_plain(entry: &Entry<'_, impl Read>) -> bool {
    entry.header().entry_type() == EntryType::Regular
}
