//! Texts of others on a terminal: nothing in them may move the cursor, hide what stands beside it or speak to the terminal.

use std::borrow::Cow;

/// Tells whether a terminal acts on a character instead of showing it: control characters, those that turn the direction of what follows, and
/// breaks of lines and paragraphs.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes every character visible that would act on a terminal, as in `\u{1b}`. Line breaks and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| acts(c) && !matches!(c, '\n' | '\t');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Makes line breaks and tabs visible as well: for a name, which must not pass for a line of ours.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if acts(c) { c.escape_default().to_string() } else { c.to_string() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_on_its_line() {
        assert_eq!(one_line("t\nerror: forged\u{200f}"), r"t\nerror: forged\u{200f}");
        assert!(matches!(one_line("pt [GeV]"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_terminal_acts_on_becomes_visible_and_all_else_stays() {
        assert_eq!(
            printable("a\u{1b}]0;owned\u{7}b\r\u{8}\u{7f}\u{9b}2J"),
            r"a\u{1b}]0;owned\u{7}b\r\u{8}\u{7f}\u{9b}2J"
        );
        assert_eq!(printable("\u{202e}txt\u{2066}\u{2069}"), r"\u{202e}txt\u{2066}\u{2069}");
        for plain in ["", "χ²/ndf\t1.2\n", "jj_M [GeV] ≥ 1500", "Größe 光子"] {
            assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
        }
    }
}
