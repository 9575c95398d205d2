//! Standard output, standard error, and files that are asked for: what is printed goes through here, or is [`Styled`].

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use pgan_pipe::{
    pipeline::Diagnostics,
    printable::{acts, printable},
    user_file,
};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::failure::{Failure, IO};

mod styled;

pub(super) use styled::Styled;

/// Writes a text to standard output, with a line break at its end. Nothing in it controls a terminal.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{}{end}", printable(text)).and_then(|()| out.flush()).map_err(Failure::unprinted)
}

/// Writes values to standard output, one JSON object a line.
pub(super) fn print_json<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    write_json(values).map_err(Failure::unprinted)
}

/// Writes values to standard output as [`print_json`] does, for whoever goes on if that fails.
pub(super) fn write_json<T: Serialize>(values: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for value in values {
        value.serialize(&mut Serializer::with_formatter(&mut out, Printable(CompactFormatter)))?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// JSON that shows on a terminal what it says: serde_json escapes the first 32 control characters alone.
struct Printable(CompactFormatter);

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(acts) {
            let (before, after) = rest.split_at(at);
            self.0.write_string_fragment(out, before)?;
            let mut after = after.chars();
            // All of them have four digits.
            after.next().map_or(Ok(()), |c| write!(out, "\\u{:04x}", u32::from(c)))?;
            rest = after.as_str();
        }
        self.0.write_string_fragment(out, rest)
    }
}

/// Writes a line to standard error; if that is closed, nobody listens. Nothing in it controls a terminal.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// Writes mistakes in a pipeline to standard error, in colours where there are some.
pub(super) fn say_mistakes(diagnostics: &Diagnostics) {
    let _ = writeln!(io::stderr().lock(), "{}", Styled::rendered(&diagnostics.render(color())));
}

/// Writes a file that the user asked for.
pub(super) fn write_file(target: &Path, content: &[u8]) -> Result<(), Failure> {
    user_file::write(target, content).map_err(|error| unwritten(target, error))
}

/// Tells that a file was written: on standard output, unless that may be the pipe or device that was written into.
pub(super) fn tell_written(target: &Path, line: &str) -> Result<(), Failure> {
    if target.is_file() {
        return print(line);
    }
    say(line);
    Ok(())
}

/// Makes the failure of a file that the user asked for and that cannot be written.
pub(super) fn unwritten(target: &Path, error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(IO, error.into().context(format!("cannot write {}", target.display())))
}

/// Whether to use colours on standard error.
pub(super) fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped_in_json_and_reads_back() {
        let value = serde_json::json!({"a\u{7f}": ["\u{9b}2J\u{1b}[2J", "\u{202e}x", "plain é\n"]});
        let mut line = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut line, Printable(CompactFormatter))).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, r#"{"a\u007f":["\u009b2J\u001b[2J","\u202ex","plain é\n"]}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }
}
