//! Sealed files: small JSON objects that carry a version and a digest of themselves, by which a reader notices any change.

use serde::{Serialize, de::DeserializeOwned};

use crate::digest::Digest;

const DIGITS: usize = 64;

/// The text of a sealed file: the fields of `content`, which must be a struct or map, after the version and the digest.
pub(crate) fn seal(version: u32, content: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(content)?;
    let check = Digest::of(&body);
    let mut text = head(version);
    text.extend_from_slice(check.to_string().as_bytes());
    text.extend_from_slice(b"\",");
    text.extend_from_slice(body.get(1..).unwrap_or_default());
    text.push(b'\n');
    Ok(text)
}

/// Reads a sealed file; `None` if it is torn, altered in any byte, or of another version.
pub(crate) fn open<T: DeserializeOwned>(version: u32, text: &[u8]) -> Option<T> {
    let (check, rest) = text.strip_prefix(&*head(version))?.split_at_checked(DIGITS)?;
    let check: Digest = std::str::from_utf8(check).ok()?.parse().ok()?;
    let body = [b"{", rest.strip_prefix(b"\",")?.strip_suffix(b"\n")?].concat();
    if Digest::of(&body) == check { serde_json::from_slice(&body).ok() } else { None }
}

/// The version that a sealed file tells; it may be altered all the same.
pub(crate) fn version(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"{\"version\":")?.split(|&byte| byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn head(version: u32) -> Vec<u8> {
    format!("{{\"version\":{version},\"check\":\"").into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_sealed_file_is_json_and_opens() {
        let content = json!({"path": "a", "size": 0.1});
        let text = seal(3, &content).unwrap();
        let read: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&read["version"], &read["path"]), (&json!(3), &json!("a")));
        assert_eq!(open::<Value>(3, &text), Some(content));
        assert_eq!(open::<Value>(4, &text), None);
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_goes_unnoticed(names in proptest::collection::vec("[a-z]{1,5}", 1..5), at: prop::sample::Index, by in 1u8..) {
            let content: Value = names.into_iter().map(|name| (name.clone(), json!(name))).collect::<serde_json::Map<_, _>>().into();
            let mut text = seal(1, &content).unwrap();
            let at = at.index(text.len());
            text[at] ^= by;
            prop_assert_eq!(open::<Value>(1, &text), None);
            text.truncate(at);
            prop_assert_eq!(open::<Value>(1, &text), None);
        }

        #[test]
        fn nothing_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(open::<Value>(1, &text), None);
        }
    }
}
