//! Addresses without what may be secret in them: a user name or password, and what follows `?` or `#`, where signatures stand.
//!
//! The texts are searched, not parsed: one that is no valid address may hold a password all the same. When in doubt more is cut.

use serde::{Deserialize, Deserializer};

/// Stands in the place of what was cut.
const CUT: &str = "***";

/// Options whose value is an address, however it is written.
const OPTIONS: [&str; 2] = ["--remote", "--tracking-uri"];

/// Says whether a text is meant as an address: it begins with `SCHEME:`, or names a user before an `@`. A path that could be mistaken for
/// one is written with `./` before it.
pub fn is_address(text: &str) -> bool {
    let is_path = text.starts_with(['.', '/', '~']) && !text.starts_with("//");
    let names_user = || text.rfind('@').is_some_and(|at| text[..at].contains(':'));
    !is_path && (scheme(text).is_some() || names_user())
}

/// Cuts an address.
pub fn cut(address: &str) -> String {
    let (scheme, rest) = match scheme(address) {
        Some(scheme) if is_slash(address[scheme.len() + 1..].chars().next()) => address.split_at(scheme.len() + 1),
        _ => ("", address),
    };
    let (slashes, rest) = rest.split_at(rest.len() - rest.trim_start_matches(['/', '\\']).len());
    // Azure writes `abfs://CONTAINER@ACCOUNT.HOST/PATH`.
    let is_azure = ["az:", "azure:", "abfs:", "abfss:"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
    let user = rest.rfind('@').filter(|&at| match &rest[..at] {
        before if before.contains(':') => true,
        before => !is_azure && !before.contains(['/', '\\', '?', '#']),
    });
    let rest = match user {
        Some(at) => format!("{CUT}{}", &rest[at..]),
        None => rest.to_owned(),
    };
    match rest.find(['?', '#']) {
        Some(at) => format!("{scheme}{slashes}{}{CUT}", &rest[..=at]),
        None => format!("{scheme}{slashes}{rest}"),
    }
}

/// Cuts the addresses of a command line.
pub fn cut_arguments(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut is_value = false;
    let cut_one = |argument: String| {
        let follows = std::mem::replace(&mut is_value, OPTIONS.contains(&&*argument));
        let option = OPTIONS.iter().find_map(|name| argument.strip_prefix(name)?.strip_prefix('='));
        match option {
            Some(value) if is_address(value) => {
                let (name, value) = argument.split_at(argument.len() - value.len());
                format!("{name}{}", cut(value))
            }
            None if follows && is_address(&argument) => cut(&argument),
            _ => match find(&argument) {
                Some(at) => format!("{}{}", &argument[..at], cut(&argument[at..])),
                None => argument,
            },
        }
    };
    arguments.into_iter().map(cut_one).collect()
}

/// Cuts the addresses in a text, each up to the next space, quote or bracket.
pub fn cut_text(text: &str) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some(at) = find(rest) {
        let end = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>()".contains(c);
        let length = rest[at..].find(end).unwrap_or(rest.len() - at);
        whole.push_str(&rest[..at]);
        whole.push_str(&cut(&rest[at..at + length]));
        rest = &rest[at + length..];
    }
    whole + rest
}

/// Reads a stored command line: an earlier version may have stored one that was not cut.
pub(crate) fn read_arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::<String>::deserialize(deserializer).map(cut_arguments)
}

/// Finds `SCHEME:/` in a text.
fn find(text: &str) -> Option<usize> {
    text.match_indices(':').find_map(|(colon, _)| {
        let before = &text[..colon];
        let name = before.len() - before.trim_end_matches(is_of_scheme).len();
        (name > 1 && is_slash(text[colon + 1..].chars().next())).then_some(colon - name)
    })
}

/// Gives the scheme that a text begins with. A single letter is none.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    (scheme.len() > 1 && scheme.chars().all(is_of_scheme)).then_some(scheme)
}

fn is_of_scheme(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

fn is_slash(c: Option<char>) -> bool {
    matches!(c, Some('/' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_an_address_is_told_from_paths() {
        for text in [
            "https://host/x",
            "https:/user:hush@host/x",
            "https:user:hush@host/x",
            r"https:\\user:hush@host\x",
            "s3:bucket/prefix",
            "host:/path",
            "user:hush@host/x",
            "us_er:hush@host/x",
            "//user:hush@host/x",
        ] {
            assert!(is_address(text), "{text}");
        }
        for text in
            ["cache", "../shared:old", "./https:/x", "/mnt/a:b@c", "~me/a:b@c", "C:/cache", "a@b/c", "//mnt/x", ""]
        {
            assert!(!is_address(text), "{text}");
        }
    }

    #[test]
    fn users_and_signatures_are_cut_from_addresses_however_they_are_written() {
        for (text, cut_text) in [
            ("https://host:8080/a/b", "https://host:8080/a/b"),
            ("https://user:hush@host/x", "https://***@host/x"),
            ("https:/user:hush@host/x", "https:/***@host/x"),
            ("https:user:hush@host/x", "***@host/x"),
            ("http://user:hush@host:port:bad", "http://***@host:port:bad"),
            ("https://user:hu/sh@host/x", "https://***@host/x"),
            ("https://user:hu?sh@host/x", "https://***@host/x"),
            ("https://user:hu@sh@host/x", "https://***@host/x"),
            ("https://hush@host/x", "https://***@host/x"),
            ("https://host/a@b", "https://host/a@b"),
            ("https://host/a?sig=hush", "https://host/a?***"),
            ("https://host/a#hush", "https://host/a#***"),
            ("abfs://container@account.host/x", "abfs://container@account.host/x"),
            ("abfs://container:hush@account.host/x", "abfs://***@account.host/x"),
            (r"https:\\user:hush@host\x", r"https:\\***@host\x"),
            ("user:hush@host/x", "***@host/x"),
        ] {
            assert_eq!(cut(text), cut_text);
        }
    }

    #[test]
    fn a_command_line_is_kept_but_for_what_is_secret() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let line = "pgan-pipe run a.yaml --remote https://u:hush@h/x --remote=u:hush@h --set events.file=http://h/a?k=hush \
                    --tracking-uri http://u:hush@h:p:q --set note=what? --engine-option=a=--account=b:c run:latest -j 2";
        let cut = "pgan-pipe run a.yaml --remote https://***@h/x --remote=***@h --set events.file=http://h/a?*** \
                   --tracking-uri http://***@h:p:q --set note=what? --engine-option=a=--account=b:c run:latest -j 2";
        assert_eq!(cut_arguments(words(line)), words(cut));
    }

    #[test]
    fn addresses_are_cut_where_they_stand_in_a_text() {
        let said = "builder error for url (http://u:hush@h/a?k=hush) and 'https://h/b#hush', at 12:30";
        assert_eq!(cut_text(said), "builder error for url (http://***@h/a?***) and 'https://h/b#***', at 12:30");
    }
}
