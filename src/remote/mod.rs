//! Remotes: stores elsewhere that results are taken from and given to, in a folder, a bucket, or behind a web server.
//!
//! A remote is laid out as `cache/v1`, so that a cache folder is one. Objects are sent before the record that names them. What comes is
//! compared with its digest before the store has it, its record last: a remote may lose or spoil anything, and no result is wrong for
//! it. What it cannot be is dishonest about a whole record: whoever may write to a remote is trusted with results.
//!
//! Nothing that the client of a service does ends in a panic outside of here ([`guard`]).
//!
//! All waiting is in here: the functions of [`Remote`] block, and return soon after the stop flag is set.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

mod address;
mod connect;
mod environment;
mod error;
mod fetch;
mod guard;
mod link;
mod lookup;
mod note;
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

use guard::{guarded, guarded_future};
use link::Link;

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

/// A store elsewhere. It costs nothing before something is asked of it: threads and certificates come with the first question.
#[derive(Clone)]
pub struct Remote {
    settings: Settings,
    patience: Patience,
    line: Arc<Mutex<Option<Line>>>,
}

/// A connection in use.
#[derive(Clone)]
struct Line {
    link: Arc<Link>,
    engine: Arc<Engine>,
}

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
        f.debug_struct("Remote")
            .field("settings", &self.settings)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// A remote by its settings. What is wrong with them is noticed when it is used.
    pub fn new(settings: Settings, patience: Patience) -> Self {
        Self { settings, patience, line: Arc::default() }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.settings.address
    }

    fn line(&self) -> Result<Line, RemoteError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        let link = Arc::new(guarded(self.address(), || Link::new(&self.settings, self.patience))?);
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build();
        let runtime = runtime.map_err(|source| RemoteError::Runtime { source })?;
        Ok(line.insert(Line { link, engine: Arc::new(Engine(Some(runtime))) }).clone())
    }
}

impl Line {
    /// Does the work, unless the stop flag is set; tells progress on the calling thread.
    fn wait<T>(
        &self,
        watch: &mut Watch<'_>,
        progress: &Progress,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let Some(runtime) = &self.engine.0 else { return Err(RemoteError::Stopped(0)) };
        runtime.block_on(async {
            let mut work = std::pin::pin!(guarded_future(&self.link.address, work));
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

/// Does what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RemoteError::Runtime { source: error.into() }),
    }
}

#[cfg(test)]
mod tests;
