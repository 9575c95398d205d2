//! Signals that ask the program to stop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::Context;
use pgan_pipe::user_file;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
    low_level,
};

use super::{Failure, failure::IO};

/// The first of these signals is noted for whoever looks, the second of its kind ends the program.
pub(super) fn stop_on(signals: &[i32]) -> Result<Arc<AtomicUsize>, Failure> {
    told(listen(signals, &Arc::default()))
}

/// Signals to a program that first looks around, and then does what it must bring to an end.
pub(super) struct Stop {
    /// The first signal, for whoever looks.
    pub(super) signal: Arc<AtomicUsize>,
    at_once: Arc<AtomicBool>,
}

impl Stop {
    /// Lets signals end the program at once until [`begin`](Self::begin).
    pub(super) fn on(signals: &[i32]) -> Result<Self, Failure> {
        let at_once = Arc::new(AtomicBool::new(true));
        let signal = told(listen(signals, &at_once))?;
        Ok(Self { signal, at_once })
    }

    /// Lets the first signal be noted from here on; the second ends the program.
    pub(super) fn begin(&self) {
        self.at_once.store(false, Ordering::Relaxed);
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP end the program at once, and remove what it has not finished writing: for verbs that write large files and
/// have nothing else to bring to an end.
pub(super) fn leave_nothing_unfinished() -> Result<(), Failure> {
    told(Signals::new([SIGINT, SIGTERM, SIGHUP]).and_then(|mut signals| {
        let end = move || {
            if let Some(signal) = signals.forever().next() {
                // Held until the end, so that nothing new comes to be.
                let _removed = user_file::remove_all();
                low_level::exit(128 + signal);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(end).map(drop)
    }))
}

fn told<T>(listening: io::Result<T>) -> Result<T, Failure> {
    listening.context("cannot listen to signals").map_err(|error| Failure::new(IO, error))
}

/// Notes the first signal. A second of its kind, or the first while `at_once` is set, ends the program.
fn listen(signals: &[i32], at_once: &Arc<AtomicBool>) -> io::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    for &signal in signals {
        let again = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(at_once))?;
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, again)?;
        flag::register_usize(signal, Arc::clone(&stop), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(stop)
}
