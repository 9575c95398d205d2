//! The place of a folder, as the file system tells it and not as it is called.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::folded;
use crate::{pipeline::absolute, user_file::real_path};

/// The place of a folder that others must not write into; it need not be there yet.
pub(super) struct Ground {
    /// The deepest folder above it that is there, or itself: the file system's number of it.
    base: Option<(u64, u64)>,
    /// The names from there on.
    below: Vec<String>,
}

impl Ground {
    /// Finds the place of a folder.
    pub(super) fn of(folder: &Path) -> Self {
        let real = real_path(&absolute(folder));
        let there = steps(&real).into_iter().find_map(|(above, below)| Some((identity(above)?, below)));
        let (base, below) = there.unzip();
        Self { base, below: below.unwrap_or_default() }
    }

    /// Tells whether a path leads into the folder, or stands in its way: through links, under another name of a folder above, or because
    /// the file system makes no difference between names.
    pub(super) fn meets(&self, path: &Path) -> bool {
        steps(&absolute(path)).into_iter().any(|(above, below)| {
            let together = below.starts_with(&self.below) || self.below.starts_with(&below);
            together && self.base.is_some() && identity(above) == self.base
        })
    }
}

/// Lists the path and all folders above it, each with the names that lead from there to the path.
fn steps(path: &Path) -> Vec<(&Path, Vec<String>)> {
    let names: Vec<String> = path.iter().map(|name| folded(&name.to_string_lossy())).collect();
    let below = |up: usize| names[names.len().saturating_sub(up)..].to_vec();
    path.ancestors().enumerate().map(|(up, above)| (above, below(up))).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
