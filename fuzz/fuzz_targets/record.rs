//! Records: whatever stands in a file of the store, reading it ends with a record or with none. Half of the inputs are sealed first, so
//! that what lies behind the seal is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgan_pipe::{digest::Digest, store::Record};

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let record = if how % 2 == 0 { Record::from_text(bytes) } else { Record::from_text(&sealed(bytes)) };
    if let Some(record) = record {
        let _ = (record.artifact(), record.size(), record.material.key());
    }
});

/// The text with the seal of a record file.
fn sealed(body: &[u8]) -> Vec<u8> {
    let body = body.strip_prefix(b"{").unwrap_or(body);
    let check = Digest::of(&[b"{", body].concat());
    [format!("{{\"version\":1,\"check\":\"{check}\",").as_bytes(), body, b"\n"].concat()
}
