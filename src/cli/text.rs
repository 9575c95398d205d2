//! Numbers, durations and columns as people read them.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use pgan_pipe::printable::printable;
pub(super) use pgan_pipe::report::text::{bytes, number, seconds};

/// How long ago: `just now`, `5 min ago`, `3 d ago`.
pub(super) fn ago(age: Duration) -> String {
    match age.as_secs() {
        s if s < 60 => "just now".to_owned(),
        s if s < 3600 => format!("{} min ago", s / 60),
        s if s < 86_400 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

/// How long ago a recorded time was; as it stands if it is none.
pub(super) fn since(time: &str) -> String {
    let elapsed = |then: Timestamp| ago(Timestamp::now().duration_since(then).try_into().unwrap_or_default());
    time.parse().map_or_else(|_| time.to_owned(), elapsed)
}

/// `1 stage`, `2 stages`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Names in a line; of many, the first and the last ones.
pub(super) fn several(names: &[String]) -> String {
    match names {
        [first, second, .., last] if names.len() > 6 => {
            format!("{first}, {second}, … {last} ({} in all)", names.len())
        }
        _ => names.join(", "),
    }
}

/// Rows as columns of equal width, two blanks apart, indented by two; printable, so that they are as wide as they show.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[Cow<'_, str>; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[Cow<'_, str>; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A text broken between words into lines of at most `width` characters, with this indent.
pub(super) fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(format!("{indent}{word}")),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}
