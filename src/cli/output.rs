//! Standard output and standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::{Failure, IO};

/// Writes a text to standard output, with a line break at its end.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(|error| Failure::new(IO, error))
}

/// Writes values to standard output, one JSON object a line.
pub(super) fn print_json<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let failed = |error: io::Error| Failure::new(IO, error);
    for value in values {
        serde_json::to_writer(&mut out, &value).map_err(|error| failed(error.into()))?;
        out.write_all(b"\n").map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// Writes a line to standard error; if that is closed, nobody listens.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether to use colours on standard error.
pub(super) fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
