//! How far transfers have come.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What has been moved, counted while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    objects: AtomicU64,
    of_objects: AtomicU64,
    bytes: AtomicU64,
    of_bytes: AtomicU64,
    there: AtomicU64,
    there_bytes: AtomicU64,
}

impl Progress {
    /// Objects moved.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Objects to move in all, and those that were there.
    pub fn of_objects(&self) -> u64 {
        self.of_objects.load(Ordering::Relaxed)
    }

    /// Bytes moved; of an object that is taken up again, those moved before count.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes to move in all, and those that were there.
    pub fn of_bytes(&self) -> u64 {
        self.of_bytes.load(Ordering::Relaxed)
    }

    /// Objects that were there already.
    pub fn there(&self) -> u64 {
        self.there.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were there already.
    pub fn there_bytes(&self) -> u64 {
        self.there_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.of_objects.fetch_add(1, Ordering::Relaxed);
        self.of_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An object is there already.
    pub(super) fn found(&self, bytes: u64) {
        self.there.fetch_add(1, Ordering::Relaxed);
        self.there_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was moved was of no use.
    pub(super) fn lost(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn done(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who waits for a transfer.
pub struct Watch<'a> {
    /// The number of the signal that asks to stop; 0 for none.
    pub stop: &'a AtomicUsize,
    /// Called now and then.
    pub on_progress: &'a mut dyn FnMut(&Progress),
}
