//! Packs: a pipeline with its files, its lock and results in one file that can be handed on.
//!
//! A pack is a plain tar archive (ustar), so that any machine can look into it, and always the same bytes for the same content: no times,
//! no owners, everything in order. It holds
//!
//! ```text
//! pack.json              the manifest: every other entry in its order, with size and digest; sealed by a digest of itself
//! files/PATH             the pipeline, what it includes, its lock, its sources, relative to the folder that they have in common
//! objects/DIGEST         files of results
//! records/KEY.json       what makes them results, as in the store
//! ```
//!
//! A reader takes nothing on trust: what the manifest does not announce, or announces otherwise, ends the reading, and nothing is
//! published before its digest is known to be right. There is no compression, so that a small file cannot swell.

use std::{
    collections::BTreeSet,
    io,
    path::{Component, Path, PathBuf},
};

use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, key::CacheKey, store::StoreError};

mod ground;
mod read;
mod unpack;
mod write;

pub use read::{Content, Receiver, read, read_file, read_manifest};
pub use unpack::{Unpacked, unpack};
pub use write::{Choice, Packed, pack};

/// The version of the packs that this program writes and reads.
const VERSION: u32 = 1;
/// The name of the manifest in the archive.
const MANIFEST: &str = "pack.json";
/// The file of settings, which could make runs talk to somebody else's remote.
const SETTINGS: &str = "pgan.toml";
/// Bytes that a manifest may have.
const MAX_MANIFEST: u64 = 64 << 20;
/// Bytes that a record may have.
const MAX_RECORD: u64 = 64 << 20;
/// Bytes that a path in an archive may have: ustar knows no longer ones.
const MAX_PATH: usize = 200;

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The pipeline file, one of `files`.
    pub pipeline: String,
    /// The `--set`s that its results were made with, as `k=v`.
    pub set: Vec<String>,
    /// Files by path, in order.
    pub files: Vec<PackedFile>,
    /// Objects, in order.
    pub objects: Vec<Piece>,
    /// Records, in order of their keys.
    pub records: Vec<PackedRecord>,
}

/// Some bytes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// A file of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedFile {
    /// Relative, its parts separated by `/`.
    pub path: String,
    /// Its content.
    pub content: Piece,
}

/// A record of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedRecord {
    /// Its key.
    pub key: CacheKey,
    /// Its text.
    pub content: Piece,
}

/// An entry of a pack after its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A file of the pipeline.
    File(&'a PackedFile),
    /// An object.
    Object(&'a Piece),
    /// A record.
    Record(&'a PackedRecord),
}

/// Why a pack cannot be written, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The pack itself could not be read.
    #[error("the pack cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file is no pack, or of another version.
    #[error("this is no pack that this program can read: {0}")]
    NoPack(String),
    /// The pack is not as it was written, or was written to do harm.
    #[error("{entry}: {reason}; nothing of it is used: get the pack again")]
    Spoilt {
        /// The entry.
        entry: String,
        /// Its fault.
        reason: String,
    },
    /// A file that cannot be part of a pack.
    #[error("{} cannot be packed: {reason}", path.display())]
    NotPackable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of the pack would replace another one.
    #[error("{} is there already, with other content; unpack into another folder, or replace it with `--force`", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PackError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    fn spoilt(entry: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Spoilt { entry: entry.into(), reason: reason.into() }
    }
}

impl Item<'_> {
    /// The name of its entry in the archive.
    pub fn name(&self) -> String {
        match self {
            Self::File(file) => format!("files/{}", file.path),
            Self::Object(piece) => format!("objects/{}", piece.digest),
            Self::Record(record) => format!("records/{}.json", record.key),
        }
    }

    /// Its bytes.
    pub fn content(&self) -> Piece {
        match self {
            Self::File(file) => file.content,
            Self::Object(piece) => **piece,
            Self::Record(record) => record.content,
        }
    }
}

impl Manifest {
    /// Every entry after the manifest, in order. Records come last: what they name is there before them.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let files = self.files.iter().map(Item::File);
        files.chain(self.objects.iter().map(Item::Object)).chain(self.records.iter().map(Item::Record))
    }

    /// Bytes of all entries; `None` if they are more than can be counted.
    pub fn size(&self) -> Option<u64> {
        self.items().try_fold(0_u64, |sum, item| sum.checked_add(item.content().size))
    }

    /// What is wrong with it, so that no reader needs to look at it again: every path leads into the folder that it is unpacked in, no two
    /// to the same place, on any file system.
    fn check(&self) -> Result<(), String> {
        let mut places = BTreeSet::new();
        for file in &self.files {
            if let Some(reason) = wrong_path(&file.path) {
                return Err(format!("the path {:?} {reason}", file.path));
            }
            if !places.insert(folded(&file.path)) {
                return Err(format!("the path {:?} occurs twice, or is that of another on some systems", file.path));
            }
        }
        let folder_of_another = |path: &&String| {
            places.range(format!("{path}/")..).next().is_some_and(|next| next.starts_with(&format!("{path}/")))
        };
        if let Some(path) = places.iter().find(folder_of_another) {
            return Err(format!("{path:?} is a file and a folder"));
        }
        if !self.files.iter().any(|file| file.path == self.pipeline) {
            return Err("the pipeline is not among the files".into());
        }
        if !self.objects.is_sorted_by(|a, b| a.digest < b.digest) || !self.records.is_sorted_by(|a, b| a.key < b.key) {
            return Err("its entries are out of order".into());
        }
        if self.records.iter().any(|record| record.content.size > MAX_RECORD) {
            return Err("it announces a record that is larger than any".into());
        }
        if self.size().is_none() {
            return Err("it announces more bytes than can be".into());
        }
        Ok(())
    }
}

/// Why a path may not be that of a file in a pack.
fn wrong_path(path: &str) -> Option<&'static str> {
    let parts = Path::new(path).components();
    if path.is_empty() || path.len() > MAX_PATH {
        return Some("is empty or too long");
    }
    if path.contains(['\\', ':']) || path.chars().any(char::is_control) {
        return Some("holds characters that lead elsewhere on some systems");
    }
    let folded = folded(path);
    if folded.split('/').any(|name| name.starts_with('.') || name == SETTINGS) {
        return Some("is hidden, or that of settings: no pipeline needs such a file");
    }
    // What has other parts than it shows (`a//b`, `a/.`) is refused, too.
    let plain: Vec<&str> = parts
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    (plain.join("/") != path).then_some("does not lead straight into the folder")
}

/// Writes a path as the most forgiving file system may take it: one that makes no difference between cases or between forms of a character,
/// passes over what cannot be seen, and ends names before a dot or blank.
fn folded(path: &str) -> String {
    let unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let normal = |text: &str| ComposingNormalizerBorrowed::new_nfkc().normalize(text).into_owned();
    let seen: String = path.chars().filter(|&c| !unseen(c)).collect();
    // A capital may stand for several small letters (`ſ` and `s`), and be of several characters.
    let folded = normal(&normal(&seen).to_uppercase().to_lowercase());
    let names: Vec<&str> = folded.split('/').map(|name| name.trim_end_matches(['.', ' '])).collect();
    names.join("/")
}

#[cfg(test)]
mod tests;
