//! Signals that ask the program to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use anyhow::Context;
use signal_hook::flag;

use super::{Failure, failure::IO};

/// The first of these signals is noted for whoever looks, the second of its kind ends the program.
pub(super) fn stop_on(signals: &[i32]) -> Result<Arc<AtomicUsize>, Failure> {
    listen(signals).context("cannot listen to signals").map_err(|error: anyhow::Error| Failure::new(IO, error))
}

fn listen(signals: &[i32]) -> std::io::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    for &signal in signals {
        let again = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, again)?;
        flag::register_usize(signal, Arc::clone(&stop), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(stop)
}
