//! Remotes: stores elsewhere that results are taken from and given to, in a folder, a bucket, or behind a web server.
//!
//! A remote is laid out as `cache/v1`, so that a cache folder is one. Objects are sent before the record that names them. What comes is
//! compared with its digest before the store has it, its record last: a remote may lose or spoil anything, and no result is wrong for
//! it. What it cannot be is dishonest about a whole record: whoever may write to a remote is trusted with results.
//!
//! All waiting is in here: the functions of [`Remote`] block, and return soon after the stop flag is set.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use object_store::{ObjectStore, multipart::MultipartStore, path::Path};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

use crate::{digest::Digest, key::CacheKey};

mod address;
mod connect;
mod error;
mod fetch;
mod lookup;
mod partial;
mod profile;
mod progress;
mod pull;
mod push;
mod send;
mod settings;
mod upload;

pub use address::Address;
pub use error::RemoteError;
pub use lookup::{Offered, Offers};
pub use progress::{Progress, Watch};
pub use pull::Pulled;
pub use push::{Pushed, Sending};
pub use settings::Settings;

/// What a large object is sent and fetched by, in bytes; a small one is held in memory as a whole.
const PART: u64 = 8 << 20;

/// How often the stop flag is looked at, and progress told.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait for a remote that does nothing, and how much to ask of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an answer to begin, and to go on.
    pub answer: Duration,
    /// For a part of an object to be sent.
    pub part: Duration,
    /// How often a request that failed is made again.
    pub retries: usize,
    /// Parts in flight and in memory at once, of 8 MiB each.
    pub parts: usize,
}

impl Patience {
    /// For verbs that do nothing but move results.
    pub const PUSH_OR_PULL: Self =
        Self { answer: Duration::from_secs(30), part: Duration::from_mins(5), retries: 5, parts: 8 };

    /// For a run, which goes on without its remote after this time.
    pub fn of_run(timeout: Duration) -> Self {
        Self { answer: timeout, part: timeout.max(Duration::from_mins(1)), retries: 2, parts: 4 }
    }
}

/// A store elsewhere.
#[derive(Clone)]
pub struct Remote {
    link: Arc<Link>,
    engine: Arc<Engine>,
}

/// What transfers share.
struct Link {
    address: Address,
    objects: Arc<dyn ObjectStore>,
    /// Where uploads can be taken up again.
    multipart: Option<Arc<dyn MultipartStore>>,
    /// Where the remote's `v1` lies.
    root: Path,
    patience: Patience,
    /// Small transfers at once.
    slots: Semaphore,
    /// Parts of large objects in memory at once.
    parts: Semaphore,
    /// Objects that came spoiled: they are sent again although they are there.
    spoiled: Mutex<BTreeSet<Digest>>,
}

/// Small transfers at once: they wait for answers most of the time.
const SLOTS: usize = 32;

/// The runtime of transfers. Dropped, it waits for none of them.
struct Engine(Option<Runtime>);

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.link.address).finish()
    }
}

impl Remote {
    /// Makes a remote ready; nothing is asked of it yet.
    pub fn connect(settings: &Settings, patience: Patience) -> Result<Self, RemoteError> {
        let (objects, multipart) = connect::connect(settings, patience)?;
        let root = settings.address.root()?;
        Self::new(settings.address.clone(), objects, multipart, root, patience)
    }

    fn new(
        address: Address,
        objects: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
        root: Path,
        patience: Patience,
    ) -> Result<Self, RemoteError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build();
        let runtime = runtime.map_err(|source| RemoteError::Runtime { source })?;
        let link = Link {
            address,
            objects,
            multipart,
            root,
            patience,
            slots: Semaphore::new(SLOTS),
            parts: Semaphore::new(patience.parts),
            spoiled: Mutex::default(),
        };
        Ok(Self { link: Arc::new(link), engine: Arc::new(Engine(Some(runtime))) })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.link.address
    }

    /// Does the work, unless the stop flag is set; tells progress on the calling thread.
    fn wait<T>(
        &self,
        watch: &mut Watch<'_>,
        progress: &Progress,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let Some(runtime) = &self.engine.0 else { return Err(RemoteError::Stopped(0)) };
        runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    result = &mut work => return result,
                    () = tokio::time::sleep(LOOK) => {
                        if let signal @ 1.. = watch.stop.load(Ordering::Relaxed) {
                            return Err(RemoteError::Stopped(signal));
                        }
                        (watch.on_progress)(progress);
                    }
                }
            }
        })
    }
}

impl Link {
    /// Where the object of this digest lies.
    fn object(&self, digest: Digest) -> Path {
        let digits = digest.to_string();
        self.root.clone().join("objects").join(&digits[..2]).join(&digits[2..])
    }

    /// Where the record of this key lies.
    fn record(&self, key: CacheKey) -> Path {
        let digits = key.to_string();
        self.root.clone().join("records").join(&digits[..2]).join(format!("{digits}.json"))
    }

    /// Remembers that the object came spoiled.
    fn is_spoiled(&self, digest: Digest) {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    fn was_spoiled(&self, digest: Digest) -> bool {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    /// Gives up what takes longer than it may.
    async fn within<T>(
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

/// Does what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RemoteError::Runtime { source: error.into() }),
    }
}
