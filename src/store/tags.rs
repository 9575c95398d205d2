//! Tags: names for the results of a pipeline, which no collection takes away.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, files, inventory, sealed};
use crate::key::CacheKey;

/// The version of the tag files that this program writes and reads.
const VERSION: u32 = 1;

/// A name for results that are to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The name; see [`Tag::is_name`].
    pub name: String,
    /// The name of the pipeline.
    pub pipeline: String,
    /// When it was set, RFC 3339.
    pub time: String,
    /// The results.
    pub keys: BTreeSet<CacheKey>,
}

impl Tag {
    /// The longest name, in characters.
    pub const LONGEST_NAME: usize = 100;

    /// Whether a tag can have this name: letters, digits, `-`, `_` and `.`, a letter or digit first.
    pub fn is_name(name: &str) -> bool {
        name.len() <= Self::LONGEST_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    }
}

impl Store {
    /// Sets a tag, in the place of one of the same name.
    pub fn tag(&self, tag: &Tag) -> Result<(), StoreError> {
        let path = self.tag_file(&tag.name);
        let not_storable = |reason: String| StoreError::NotStorable { path: path.clone(), reason };
        if !Tag::is_name(&tag.name) {
            return Err(not_storable(format!("`{}` cannot name a tag", tag.name)));
        }
        let text = sealed::seal(VERSION, tag).map_err(|error| not_storable(error.to_string()))?;
        self.put_text(&path, &text)
    }

    /// Takes a tag away; says whether it was there.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.tag_file(name);
        match if Tag::is_name(name) { fs::remove_file(&path) } else { return Ok(false) } {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
        }
    }

    /// All tags by name. One that cannot be read is an error: what it keeps is not known. What has not the name of a tag, or is no
    /// regular file, is none.
    pub fn tags(&self) -> Result<Vec<Tag>, StoreError> {
        let read = |path: PathBuf| {
            let text = files::read_small(&path).map_err(StoreError::io("read", &path))?;
            text.and_then(|text| sealed::open(VERSION, &text)).ok_or_else(|| {
                let reason = "it is torn, altered or of another version; tag anew, or delete the tag";
                StoreError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, reason))
            })
        };
        let is_tag = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            name.is_some_and(Tag::is_name) && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        };
        inventory::children(&self.tags_folder())?.into_iter().filter(is_tag).map(read).collect()
    }

    fn tags_folder(&self) -> PathBuf {
        self.root.join("tags")
    }

    fn tag_file(&self, name: &str) -> PathBuf {
        self.tags_folder().join(format!("{name}.json"))
    }
}
