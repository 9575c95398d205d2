//! Named random streams on the host, so that a stage's randomness depends on its seed and kind alone.
//!
//! Every draw in the program comes from a `ChaCha8` stream made here. Where a device makes the numbers itself, its generator is seeded from
//! one for each draw (`model::transfer`): it is global to a process, and keeps nothing from one draw to the next.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A family of independent random streams, one for each purpose.
#[derive(Clone, Debug)]
pub struct Streams {
    seed: u64,
    kind: String,
}

impl Streams {
    /// The streams of a stage of this kind under this seed.
    pub fn new(seed: u64, kind: &str) -> Self {
        Self { seed, kind: kind.to_owned() }
    }

    /// The stream for one purpose (`"weights"`, `"noise"`, `"order"`); the same purpose gives the same stream again.
    pub fn stream(&self, purpose: &str) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new_derive_key("pgan-pipe 2026 random stream v1");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(self.kind.as_bytes());
        hasher.update(&[0]);
        hasher.update(purpose.as_bytes());
        ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn first(seed: u64, kind: &str, purpose: &str) -> u64 {
        Streams::new(seed, kind).stream(purpose).next_u64()
    }

    #[test]
    fn a_stream_depends_on_seed_kind_and_purpose_and_nothing_else() {
        assert_eq!(first(1, "boost", "noise"), first(1, "boost", "noise"));
        assert_ne!(first(1, "boost", "noise"), first(2, "boost", "noise"));
        assert_ne!(first(1, "boost", "noise"), first(1, "freeze", "noise"));
        assert_ne!(first(1, "boost", "noise"), first(1, "boost", "order"));
    }
}
