//! Standard output, standard error, and files that are asked for.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
};

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

/// Writes a file beside the target first: a file of this name is complete.
pub(super) fn write_file(target: &Path, content: &[u8]) -> Result<(), Failure> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = target.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    fs::write(&partial, content).and_then(|()| fs::rename(&partial, target)).map_err(|error| {
        let _ = fs::remove_file(&partial);
        Failure::new(IO, anyhow::Error::from(error).context(format!("cannot write {}", target.display())))
    })
}

/// Whether to use colours on standard error.
pub(super) fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
