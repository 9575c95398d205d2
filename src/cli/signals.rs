//! Signals that ask the program to stop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread,
};

use anyhow::Context;
use pgan_pipe::user_file;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
    low_level,
};

use super::{Failure, failure::IO};

/// The first of these signals is noted for whoever looks, the second of its kind ends the program.
pub(super) fn stop_on(signals: &[i32]) -> Result<Arc<AtomicUsize>, Failure> {
    told(listen(signals))
}

/// Makes SIGINT and SIGTERM end the program at once, and remove what it has not finished writing: for verbs that write large files and
/// have nothing else to bring to an end.
pub(super) fn leave_nothing_unfinished() -> Result<(), Failure> {
    told(Signals::new([SIGINT, SIGTERM]).and_then(|mut signals| {
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

fn listen(signals: &[i32]) -> io::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    for &signal in signals {
        let again = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, again)?;
        flag::register_usize(signal, Arc::clone(&stop), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(stop)
}
