//! Texts of others on a terminal: nothing in them may move the cursor, hide what stands beside it or speak to the terminal.

use std::borrow::Cow;

/// Tells whether a terminal acts on a character instead of showing it: control characters, and those that turn the direction of what follows.
pub fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

#[cfg(test)]
mod tests {
    use super::*;

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
