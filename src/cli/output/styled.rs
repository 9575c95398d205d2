//! Coloured text for the terminal.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

use pgan_pipe::printable::printable;

/// A text in which this program's own colours are all that a terminal acts on: what others wrote is made printable before it comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Styled(String);

impl Styled {
    /// Makes a text without colours.
    pub(in crate::cli) fn plain(text: &str) -> Self {
        Self(printable(text).into_owned())
    }

    /// Makes a text in a colour of the terminal, if colours are wanted.
    pub(in crate::cli) fn painted(text: &str, ansi: u8, color: bool) -> Self {
        let Self(text) = Self::plain(text);
        Self(if color && !text.is_empty() { format!("\x1b[{ansi}m{text}\x1b[0m") } else { text })
    }

    /// Takes a text that a renderer has coloured, and that has made printable what is not its own. Colours stay, and no other control.
    pub(in crate::cli) fn rendered(text: &str) -> Self {
        let mut parts = text.split("\x1b[");
        let mut styled = Self::plain(parts.next().unwrap_or_default());
        for part in parts {
            let codes = part.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(part.len());
            match part[codes..].strip_prefix('m') {
                Some(rest) => {
                    styled.0 += "\x1b[";
                    styled.0 += &part[..=codes];
                    styled += rest;
                }
                None => styled += &*format!("\x1b[{part}"),
            }
        }
        styled
    }

    /// Returns the text with its colours.
    pub(in crate::cli) fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Styled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AddAssign<&str> for Styled {
    fn add_assign(&mut self, text: &str) {
        self.0 += &printable(text);
    }
}

impl Add<&str> for Styled {
    type Output = Self;

    fn add(mut self, text: &str) -> Self {
        self += text;
        self
    }
}

impl Add for Styled {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.0 += &other.0;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_the_programs_own() {
        let hostile = "\x1b[31mred\x1b]0;title\x07";
        let shown = r"\u{1b}[31mred\u{1b}]0;title\u{7}";
        assert_eq!(Styled::painted(hostile, 32, true).into_string(), format!("\x1b[32m{shown}\x1b[0m"));
        assert_eq!((Styled::painted(hostile, 32, false) + hostile).into_string(), shown.repeat(2));
        assert_eq!(
            Styled::rendered("\x1b[1m\x1b[91merror\x1b[0m: it").into_string(),
            "\x1b[1m\x1b[91merror\x1b[0m: it"
        );
        let rendered = Styled::rendered("\x1b[1;3x\x1b[2J\x1b[0m\x1b[").into_string();
        assert_eq!(rendered, "\\u{1b}[1;3x\\u{1b}[2J\x1b[0m\\u{1b}[");
    }
}
