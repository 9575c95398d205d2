//! The remote of a run: results are taken from it before stages run, and given to it behind the run's back.
//!
//! It is a convenience: whatever is wrong with it is told, once, and the run goes on without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use super::{Event, stage::Report};
use crate::{
    key::CacheKey,
    remote::{Progress, Remote, RemoteError, Sending, Watch},
    store::{Record, Store},
};

/// How often the stop flag is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The remote of a run, and how it is used.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// The remote.
    pub remote: Remote,
    /// Whether results are given to it.
    pub push: bool,
    /// How long the run waits, at its end, for a remote that takes nothing.
    pub timeout: Duration,
}

/// What a remote gave.
pub(super) enum Taken {
    Result(Arc<Record>),
    Nothing,
    Stopped,
}

/// How it went to give a result.
pub(super) struct Given {
    stage: String,
    key: CacheKey,
    result: Result<Sending, RemoteError>,
}

/// A remote in use.
pub(super) struct Share<'a> {
    sharing: Option<&'a Sharing>,
    /// It is out of reach: nothing more is asked of it.
    lost: AtomicBool,
    /// It takes nothing: no results are given to it.
    closed: AtomicBool,
    /// What is being sent.
    progress: Arc<Progress>,
    /// Results that should be there and are not, or not yet.
    behind: AtomicUsize,
    /// Those of them that are on their way.
    giving: AtomicUsize,
}

impl<'a> Share<'a> {
    pub(super) fn new(sharing: Option<&'a Sharing>) -> Self {
        Self {
            sharing,
            lost: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            progress: Arc::default(),
            behind: AtomicUsize::new(0),
            giving: AtomicUsize::new(0),
        }
    }

    fn in_use(&self) -> Option<&'a Sharing> {
        self.sharing.filter(|_| !self.lost.load(Ordering::Relaxed))
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Brings the result of a key into the store, if the remote has it.
    pub(super) fn take(
        &self,
        store: &Store,
        key: CacheKey,
        stage: &str,
        watch: &mut Watch<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Taken {
        let Some(Sharing { remote, .. }) = self.in_use() else { return Taken::Nothing };
        let mut begins = |bytes| tell(Event::StagePulling { stage: stage.to_owned(), key, bytes });
        match pull(remote, store, key, watch, &mut begins) {
            Ok(Some(record)) => return Taken::Result(record),
            Ok(None) => {}
            Err(RemoteError::Stopped(_)) => return Taken::Stopped,
            Err(error) if error.is_of_remote() => self.lose(&error, tell),
            Err(error) => {
                let message = format!("its result cannot be pulled and is made here: {error}");
                tell(Event::StageNotice { stage: stage.to_owned(), message });
            }
        }
        Taken::Nothing
    }

    /// Begins to give a result to the remote; a report of how it went will come.
    pub(super) fn give(&self, store: &Store, record: &Arc<Record>, stage: &str, reports: &Sender<Report>) {
        if !self.sharing.is_some_and(|sharing| sharing.push) || self.is_closed() {
            return;
        }
        self.behind.fetch_add(1, Ordering::Relaxed);
        let Some(Sharing { remote, .. }) = self.in_use() else { return };
        self.giving.fetch_add(1, Ordering::Relaxed);
        let (stage, key, reports) = (stage.to_owned(), record.key, reports.clone());
        remote.push_behind(store, Arc::clone(record), &self.progress, move |result| {
            // Nobody listens once the run is over.
            let _ = reports.send(Report::Given(Given { stage, key, result }));
        });
    }

    /// Takes note of how a result was given.
    pub(super) fn given(&self, Given { stage, key, result }: Given, tell: &mut dyn FnMut(Event)) {
        self.giving.fetch_sub(1, Ordering::Relaxed);
        if result.is_ok() {
            self.behind.fetch_sub(1, Ordering::Relaxed);
        }
        match result {
            Ok(Sending::Sent | Sending::There) => tell(Event::StagePushed { stage, key }),
            Ok(Sending::Differs) => {
                let message =
                    "the remote holds another result of the same key, which stays: is the device deterministic?";
                tell(Event::StageNotice { stage, message: message.to_owned() });
            }
            Err(error @ RemoteError::Closed { .. }) => {
                if !self.closed.swap(true, Ordering::Relaxed) {
                    tell(Event::RemoteTrouble { message: format!("{error}; the run goes on and pushes nothing") });
                }
            }
            Err(error) if error.is_of_remote() => self.lose(&error, tell),
            Err(error) => tell(Event::StageNotice { stage, message: format!("its result is not pushed: {error}") }),
        }
    }

    /// Tells of trouble, the first time, and leaves the remote alone from then on.
    fn lose(&self, error: &RemoteError, tell: &mut dyn FnMut(Event)) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            tell(Event::RemoteTrouble { message: format!("{error}; the run goes on without the remote") });
        }
    }

    /// Waits for what is still on its way when all stages are done, unless the run stops or nothing is sent for too long. Tells of
    /// results that have not been given.
    pub(super) fn finish(&self, reports: &Receiver<Report>, stop: &AtomicUsize, tell: &mut dyn FnMut(Event)) {
        let giving = || self.giving.load(Ordering::Relaxed);
        if giving() > 0 {
            tell(Event::RemoteWaiting { results: giving() });
        }
        let (mut bytes, mut since) = (self.progress.bytes(), Instant::now());
        while let (1.., 0, Some(sharing)) = (giving(), stop.load(Ordering::Relaxed), self.in_use()) {
            if let Ok(Report::Given(given)) = reports.recv_timeout(LOOK) {
                self.given(given, tell);
            }
            if self.progress.bytes() != bytes {
                (bytes, since) = (self.progress.bytes(), Instant::now());
            }
            if since.elapsed() >= sharing.timeout {
                break;
            }
        }
        if self.is_closed() {
            return;
        }
        let behind = self.behind.load(Ordering::Relaxed);
        if let (Some(Sharing { remote, .. }), 1..) = (self.sharing, behind) {
            let results = if behind == 1 { "1 result is".to_owned() } else { format!("{behind} results are") };
            let message =
                format!("{results} not pushed to {}: `pgan-pipe cache push` sends what is missing", remote.address());
            tell(Event::RemoteTrouble { message });
        }
    }
}

fn pull(
    remote: &Remote,
    store: &Store,
    key: CacheKey,
    watch: &mut Watch<'_>,
    begins: &mut dyn FnMut(u64),
) -> Result<Option<Arc<Record>>, RemoteError> {
    let mut offers = remote.offers(&[key], watch)?;
    if let Some(bad) = offers.bad.pop() {
        return Err(bad);
    }
    let Some(offered) = offers.records.remove(&key) else { return Ok(None) };
    begins(offered.record.size());
    remote.pull(store, vec![offered], watch)?.0.remove(&key).transpose()
}
