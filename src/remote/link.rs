//! A client of a remote, and what its transfers share.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::{ObjectStore, multipart::MultipartStore, path::Path};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Address, Patience, RemoteError, Settings,
    connect::{Client, connect},
};
use crate::{digest::Digest, key::CacheKey};

/// Small transfers at once: they wait for answers most of the time.
pub(super) const SLOTS: usize = 64;

/// A larger object counts as a part of a large one: so many bytes are in memory at once for each of the others.
const TINY: u64 = 256 << 10;

/// The right to hold an object in memory.
pub(super) struct Room<'a> {
    _slot: Option<SemaphorePermit<'a>>,
    _part: Option<SemaphorePermit<'a>>,
}

/// A client of a remote.
pub(super) struct Link {
    pub(super) address: Address,
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Where uploads can be taken up again.
    pub(super) multipart: Option<Arc<dyn MultipartStore>>,
    /// Where the remote's `v1` lies.
    pub(super) root: Path,
    pub(super) patience: Patience,
    /// Small transfers at once.
    pub(super) slots: Semaphore,
    /// Parts of large objects in memory at once.
    pub(super) parts: Semaphore,
    /// Objects that came spoiled: they are sent again although they are there.
    spoiled: Mutex<BTreeSet<Digest>>,
}

impl Link {
    /// Makes a client; nothing is asked of the remote yet.
    pub(super) fn new(settings: &Settings, patience: Patience) -> Result<Self, RemoteError> {
        let (root, address) = (settings.address.root()?, settings.address.clone());
        Ok(Self::over(root, address, connect(settings, patience)?, patience))
    }

    /// Uses this client.
    pub(super) fn over(root: Path, address: Address, (objects, multipart): Client, patience: Patience) -> Self {
        let (slots, parts) = (Semaphore::new(SLOTS), Semaphore::new(patience.parts));
        Self { address, objects, multipart, root, patience, slots, parts, spoiled: Mutex::default() }
    }

    /// The right to hold an object of this size in memory.
    pub(super) async fn room(&self, size: u64) -> Room<'_> {
        let slot = self.slots.acquire().await;
        Room { _slot: slot.ok(), _part: if size > TINY { self.parts.acquire().await.ok() } else { None } }
    }

    /// Where the object of this digest lies.
    pub(super) fn object(&self, digest: Digest) -> Path {
        let digits = digest.to_string();
        self.root.clone().join("objects").join(&digits[..2]).join(&digits[2..])
    }

    /// Where the record of this key lies.
    pub(super) fn record(&self, key: CacheKey) -> Path {
        let digits = key.to_string();
        self.root.clone().join("records").join(&digits[..2]).join(format!("{digits}.json"))
    }

    /// Remembers that the object came spoiled.
    pub(super) fn is_spoiled(&self, digest: Digest) {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    pub(super) fn was_spoiled(&self, digest: Digest) -> bool {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    /// Gives up what takes longer than it may.
    pub(super) async fn within<T>(
        &self,
        time: Duration,
        action: &'static str,
        path: &Path,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RemoteError> {
        match tokio::time::timeout(time, work).await {
            Ok(result) => result.map_err(|source| RemoteError::of(&self.address, action, path, &source)),
            Err(_) => Err(RemoteError::silent(&self.address, action, path, time)),
        }
    }
}
