//! Panics of the client, which takes settings and answers for granted. Whatever enters it comes back with an error in their place.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{self, AssertUnwindSafe, Location},
    path::Path,
    pin::pin,
    sync::Once,
    task::Poll,
};

use super::{Address, RemoteError};

thread_local! {
    /// True while this thread is inside of the client.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The place of the last panic there.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does something with the client of this remote.
pub(super) fn guarded<T>(address: &Address, work: impl FnOnce() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    caught(work).unwrap_or_else(|place| Err(RemoteError::broken(address, &place)))
}

/// Waits for something that the client of this remote does.
pub(super) async fn guarded_future<T>(
    address: &Address,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let mut work = pin!(work);
    poll_fn(|context| match caught(|| work.as_mut().poll(context)) {
        Ok(poll) => poll,
        Err(place) => Poll::Ready(Err(RemoteError::broken(address, &place))),
    })
    .await
}

/// Catches a panic and gives its place. What it says is not repeated, for it may hold a secret.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if INSIDE.get() {
                PLACE.set(panic.location().map(in_words));
            } else {
                usual(panic);
            }
        }));
    });
    let before = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(before);
    result.map_err(|_| PLACE.take().unwrap_or_else(|| "a place unknown".to_owned()))
}

/// Gives the crate, the file and the line, without the folders of the machine that built the program.
fn in_words(location: &Location<'_>) -> String {
    let parts: Vec<_> = Path::new(location.file()).iter().map(|part| part.to_string_lossy()).collect();
    let from = parts.iter().rposition(|part| part == "src").map_or(0, |src| src.saturating_sub(1));
    format!("{}:{}", parts[from..].join("/"), location.line())
}
