//! A web server that gives what it should not: nothing of it is stored, and a run makes what it cannot take.

use serde_json::{Value, json};

use crate::{
    checkout, error, last, made, objects, sealed,
    web::{Answer, Manner, Web},
};

/// What a pull must say and end with when the server behaves so.
struct Case {
    name: &'static str,
    code: i32,
    says: &'static str,
    manner: Manner,
}

fn case(
    name: &'static str,
    code: i32,
    says: &'static str,
    manner: impl Fn(&str, &[u8]) -> Answer + Send + 'static,
) -> Case {
    Case { name, code, says, manner: Box::new(manner) }
}

fn body(bytes: Vec<u8>) -> Answer {
    Answer::Body { length: bytes.len(), bytes }
}

/// A server that changes objects.
fn object(says: &'static str, name: &'static str, change: fn(&mut Vec<u8>)) -> Case {
    case(name, 5, says, move |path, bytes| {
        let mut bytes = bytes.to_vec();
        if !path.contains("objects") {
            return Answer::Honest;
        }
        change(&mut bytes);
        body(bytes)
    })
}

/// A server that changes records, and seals them anew.
fn record(says: &'static str, name: &'static str, code: i32, change: fn(&mut Value)) -> Case {
    case(name, code, says, move |path, text| match serde_json::from_slice::<Value>(text) {
        Ok(mut record) if path.contains("records") => {
            change(&mut record);
            body(sealed(&record))
        }
        _ => Answer::Honest,
    })
}

/// Gives all files of a record this size.
fn resize(record: &mut Value, size: u64) {
    for output in record["outputs"].as_object_mut().unwrap().values_mut() {
        output["size"] = json!(size);
    }
}

const PAGE: &[u8] = b"<!DOCTYPE html><p>Sign in</p>";

/// Says this where the path holds that, and else the truth.
fn at(part: &'static str, answer: impl Fn(&[u8]) -> Answer) -> impl Fn(&str, &[u8]) -> Answer {
    move |path, bytes| if path.contains(part) { answer(bytes) } else { Answer::Honest }
}

fn cases() -> Vec<Case> {
    vec![
        object("of other content than its name says", "altered object", |bytes| bytes[0] ^= 1),
        object("of 3 bytes and not of", "short object", |bytes| bytes.truncate(3)),
        object("bytes and not of", "long object", |bytes| bytes.extend([0; 100])),
        object("of 0 bytes and not of", "empty object", Vec::clear),
        case("page for an object", 5, "of 29 bytes and not of", at("objects", |_| body(PAGE.to_vec()))),
        case(
            "page for a record",
            5,
            "begins with `<!DOCTYPE html><p>Sign in</p>`",
            at("records", |_| body(PAGE.to_vec())),
        ),
        case(
            "torn record",
            5,
            "is torn, altered or no record",
            at("records", |text| body(text[..text.len() / 2].to_vec())),
        ),
        record("has a file of the name `../../../escaped`", "name that leads elsewhere", 5, |record| {
            let output = record["outputs"].as_object().unwrap().values().next().unwrap().clone();
            record["outputs"]["../../../escaped"] = output;
        }),
        record("has control characters in its names", "name for a terminal", 5, |record| {
            record["provenance"]["stage"] = json!("\u{1b}]0;mine\u{7}");
        }),
        record("has a file of 18446744073709551615 bytes", "absurd size", 5, |record| resize(record, u64::MAX)),
        record("there is no room for", "more than the disk holds", 3, |record| resize(record, 1 << 60)),
        record("is not made of what its key says", "record of other material", 5, |record| {
            record["material"]["seed"] = json!(7);
        }),
        record("is of another key", "record of another key", 5, |record| record["key"] = json!("0".repeat(64))),
        case(
            "object that is gone",
            0,
            "is not there although the remote has a record of it",
            at("objects", |_| Answer::Status(404)),
        ),
        case("refusal", 6, "permission denied; check the credentials", |_, _| Answer::Status(403)),
    ]
}

#[test]
fn no_poison_is_swallowed_and_a_run_makes_what_it_cannot_take() {
    let source = made();
    let web = Web::of(&source.path("cache"));
    let honest = objects(&source);
    for Case { name, code, says, manner } in cases() {
        web.says(manner);
        let folder = checkout();
        let told = error(&folder, code, &["cache", "pull", "pipeline.yaml", "--remote", &web.url()]);
        assert!(told.contains(says), "{name}: {told}");
        assert!(objects(&folder).iter().all(|(path, bytes)| honest.get(path) == Some(bytes)), "{name}: stored");
        folder.print(&["cache", "verify"]);
        let finished = last(&folder, 0, &["run", "pipeline.yaml", "--remote", &web.url()]);
        assert_eq!(finished["failed"], json!([]), "{name}");
        assert_eq!(objects(&folder), honest, "{name}");
    }
    assert!(!source.path("escaped").exists());
}
