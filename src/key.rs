//! Cache keys: the digest of everything that can change a stage's result, and of nothing else.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// What enters a cache key. Its canonical encoding is compact JSON with sorted keys and shortest round-trip floats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyMaterial {
    /// The version of this encoding.
    pub format: u32,
    /// The stage's kind.
    pub kind: String,
    /// The version of the stage's kind.
    pub version: u32,
    /// The parameters, defaults filled in, without ports and sources.
    pub parameters: Value,
    /// The seed of the stage's random streams.
    pub seed: u64,
    /// Digests of the artifacts that enter, by role, in the order of the ports.
    pub inputs: BTreeMap<String, Vec<Digest>>,
    /// Digests of the source files, by field.
    pub sources: BTreeMap<String, Digest>,
}

/// A stage's key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The digest that it is.
    pub fn digest(self) -> Digest {
        self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The parameters hold what has no canonical form.
    #[error("the parameters cannot be hashed: {0}")]
    NotCanonical(String),
}

impl KeyMaterial {
    /// The version of the encoding that this build writes.
    pub const FORMAT: u32 = 1;

    /// Hashes the canonical encoding.
    pub fn key(&self) -> Result<CacheKey, KeyError> {
        todo!()
    }
}
