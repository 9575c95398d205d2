//! BLAKE3 digests as a type of their own, written as 64 hexadecimal digits.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, path::Path, str::FromStr};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::files;

/// The BLAKE3 digest of some content: what names an object in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests a byte string.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digests a regular file without holding it in memory, a large one on all cores. It is read and not mapped: a file that another program
    /// cuts short meanwhile is an error and must not end this one.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_open_file(&files::open(path)?)
    }

    /// Digests a file from where it stands, as [`of_file`](Self::of_file) does.
    pub(crate) fn of_open_file(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let hash = if length > LEAF {
            let (left, right) = halves(file, 0, length)?;
            merge_subtrees_root(&left, &right, Mode::Hash)
        } else {
            blake3::Hasher::new().update_reader(file)?.finalize()
        };
        Ok(Self(*hash.as_bytes()))
    }

    /// What a hasher has come to.
    pub(crate) fn of_hasher(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// What one thread hashes at a time of a large file, and how much of that it reads at once, in bytes: it stays in the core's cache.
const LEAF: u64 = 1 << 20;
const PIECE: usize = 64 << 10;

/// The chaining values of the two halves of a part of a file, of more than one leaf: BLAKE3 is a tree.
fn halves(file: &File, offset: u64, length: u64) -> io::Result<(ChainingValue, ChainingValue)> {
    let left = left_subtree_len(length);
    let (left, right) = rayon::join(|| subtree(file, offset, left), || subtree(file, offset + left, length - left));
    Ok((left?, right?))
}

/// The chaining value of a part of a file that is a subtree of the whole.
fn subtree(file: &File, offset: u64, length: u64) -> io::Result<ChainingValue> {
    if length > LEAF {
        let (left, right) = halves(file, offset, length)?;
        return Ok(merge_subtrees_non_root(&left, &right, Mode::Hash));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let piece = &mut piece[..usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE))];
        file.read_exact_at(piece, offset + done)?;
        hasher.update(piece);
        done += piece.len() as u64;
    }
    Ok(hasher.finalize_non_root())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest of 64 lowercase hexadecimal digits")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDigestError(text.chars().take(80).collect());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error());
        }
        let hash = blake3::Hash::from_hex(text).map_err(|_| error())?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes_whatever_its_size() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let leaf = LEAF as usize;
        let bytes: Vec<u8> = (0..7 * LEAF as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for size in
            [0, 1, 1025, leaf - 1, leaf, leaf + 1, 2 * leaf, 3 * leaf - 1, 4 * leaf + 1, 5 * leaf + 70_000, 7 * leaf]
        {
            std::fs::write(file.path(), &bytes[..size]).unwrap();
            assert_eq!(Digest::of_file(file.path()).unwrap(), Digest::of(&bytes[..size]), "{size}");
        }
    }
}
