//! Signals that ask the program to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// The first SIGINT or SIGTERM asks the run to stop, the second one ends the program.
pub(super) fn stop_on_signals() -> std::io::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let again = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, again)?;
        flag::register_usize(signal, Arc::clone(&stop), usize::try_from(signal).unwrap_or(1))?;
    }
    Ok(stop)
}
