//! Words of a POSIX shell.

/// A text as one word of a shell, in quotes where it needs them.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(quote("steps=500"), "steps=500");
        assert_eq!(quote("name=it's"), r"'name=it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
