//! The holder of a lock of the store, and the waiting of others for it.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The longest text that tells of a holder, in bytes.
const LONGEST: u64 = 4096;

/// The time between two tries for a lock that another holds.
const AGAIN: Duration = Duration::from_millis(50);

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
}

/// Hears, again and again, who is waited for. Returns whether to wait on.
pub type Waiting<'a> = dyn FnMut(&Holder) -> bool + 'a;

/// A way to hold a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Beside others that share it.
    Shared,
    /// Alone. The holder's name is written into the file.
    Alone,
}

impl Holder {
    /// This process.
    pub fn this_process() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
        let host = host.map_or_else(|_| "an unnamed host".to_owned(), |name| name.trim().to_owned());
        Self { pid: std::process::id(), host }
    }

    /// A process that has not said who it is.
    pub(super) fn unknown() -> Self {
        Self { pid: 0, host: "an unknown host".to_owned() }
    }

    /// A word for the host that can be a part of a file's name.
    pub(super) fn host_word(&self) -> String {
        Digest::of(self.host.as_bytes()).short()
    }

    /// The process that has written its name into a lock.
    pub(super) fn named_in(file: &mut File) -> Self {
        let mut text = Vec::new();
        let read = file.rewind().and_then(|()| file.take(LONGEST).read_to_end(&mut text));
        read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_else(Self::unknown)
    }

    /// Writes the name of this process into a lock that it holds.
    pub(super) fn sign(file: &mut File) -> io::Result<()> {
        let holder = serde_json::to_vec(&Self::this_process())?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&holder))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a process on {}", self.host),
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

/// Waits until this process holds the lock. `holder` tells who has it meanwhile. Returns whether it holds the lock: `false` if it was
/// not to wait on. An error says that the file system has no locks.
pub(super) fn wait(
    file: &mut File,
    hold: Hold,
    holder: &dyn Fn(&mut File) -> Holder,
    waiting: &mut Waiting<'_>,
) -> io::Result<bool> {
    loop {
        let tried = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Alone => file.try_lock(),
        };
        match tried {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !waiting(&holder(file)) {
            return Ok(false);
        }
        thread::sleep(AGAIN);
    }
    if hold == Hold::Alone {
        // Whoever waits is told less without it.
        let _ = Holder::sign(file);
    }
    Ok(true)
}
