//! What collections took away: remembered, so that a stage can be told to run again because of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Store, files, inventory, sealed};
use crate::key::CacheKey;

const VERSION: u32 = 1;

/// Older memories go.
const KEPT: usize = 100;

impl Store {
    /// Remembers that these results were taken away. It only explains: where it cannot be written, it is left.
    pub(super) fn remember_evicted(&self, keys: &BTreeSet<CacheKey>) {
        let folder = self.evicted_folder();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = folder.join(format!("{time:013}-{}.json", std::process::id()));
        let Ok(text) = sealed::seal(VERSION, &BTreeMap::from([("keys", keys)])) else { return };
        let _ = self.ensure_folder(&folder).and_then(|()| self.put_note(&path, &text));
        for old in inventory::children(&folder).unwrap_or_default().iter().rev().skip(KEPT) {
            let _ = fs::remove_file(old);
        }
    }

    /// The results that were taken away, some of which may have been made again.
    pub(crate) fn evicted(&self) -> BTreeSet<CacheKey> {
        let paths = inventory::children(&self.evicted_folder()).unwrap_or_default();
        let read = |path: PathBuf| -> Option<BTreeSet<CacheKey>> {
            let mut memory: BTreeMap<String, BTreeSet<CacheKey>> =
                sealed::open(VERSION, &files::read_small(&path).ok()??)?;
            memory.remove("keys")
        };
        paths.into_iter().filter_map(read).flatten().collect()
    }

    fn evicted_folder(&self) -> PathBuf {
        self.root.join("evicted")
    }
}
