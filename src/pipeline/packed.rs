//! Files in packs, read as if a pack were a folder: `shared.pgan/common/events.yaml`. A pack by itself reads as a file that includes its
//! pipeline.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use super::{Carried, MAX_BYTES, absolute, include::plain};
use crate::{
    files,
    pack::{Manifest, read_file, read_manifest},
};

/// What the name of a pack ends in.
const EXTENSION: &str = "pgan";

/// The packs that files were read from, by the paths that they were called by.
#[derive(Debug, Default)]
pub(super) struct Packs(BTreeMap<PathBuf, Manifest>);

impl Packs {
    /// The bytes of a file that lies in a pack, or of a pack; `None` if the path leads into none.
    pub(super) fn read(&mut self, path: &Path) -> Option<io::Result<Vec<u8>>> {
        let pack = pack_in(path)?;
        Some(self.read_from(pack, path.strip_prefix(pack).unwrap_or(path)))
    }

    fn read_from(&mut self, pack: &Path, inner: &Path) -> io::Result<Vec<u8>> {
        let manifest = match self.0.entry(pack.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(read_manifest(BufReader::new(files::open(pack)?)).map_err(io::Error::other)?)
            }
        };
        if inner.as_os_str().is_empty() {
            let name = pack.file_name().unwrap_or_default().to_string_lossy();
            let included = serde_json::Value::String(format!("{name}/{}", manifest.pipeline));
            return Ok(format!("include: {included}\n").into_bytes());
        }
        let inner = plain(inner).to_string_lossy().into_owned();
        let found = read_file(files::open(pack)?, &inner, MAX_BYTES).map_err(io::Error::other)?;
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the pack has no file `{inner}`")))
    }

    /// The pack that a file was read from.
    pub(super) fn of(&self, file: &Path) -> Option<&Path> {
        self.0.keys().map(PathBuf::as_path).find(|pack| file != *pack && file.starts_with(pack))
    }

    /// The packs, as they were called.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// What all files in the packs are, by absolute path.
    pub(super) fn carried(&self) -> BTreeMap<PathBuf, Carried> {
        let files = self.0.iter().flat_map(|(pack, manifest)| manifest.files.iter().map(move |file| (pack, file)));
        let carried = |digest| Carried { digest, file: None };
        files.map(|(pack, file)| (absolute(pack).join(&file.path), carried(file.content.digest))).collect()
    }
}

/// The pack that a path leads to, or into.
fn pack_in(path: &Path) -> Option<&Path> {
    let is_pack = |path: &&Path| {
        path.extension().is_some_and(|extension| extension == EXTENSION)
            && fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
    };
    path.ancestors().find(is_pack)
}

/// The same for all ways that lead to a file, if it lies in a pack.
pub(super) fn identity(path: &Path) -> Option<PathBuf> {
    let pack = pack_in(path)?;
    let inner = plain(path.strip_prefix(pack).unwrap_or(path));
    Some(fs::canonicalize(pack).ok()?.join(inner))
}
