//! Packs: whatever stands in one, reading it ends soon, with what the manifest announces or with an error that can be shown. Most inputs
//! are a pack that was written, with bytes of it changed, cut off or put in, and headers and manifest sealed again, so that what lies
//! behind the seals is reached.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgan_pipe::{
    digest::Digest,
    pack::{Content, Item, Manifest, PackError, Receiver, read},
    store::Record,
};

/// Looks at what comes as `unpack` does, and keeps nothing.
struct Sink;

impl Receiver for Sink {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), PackError> {
        assert!(manifest.size().is_some());
        for file in &manifest.files {
            assert!(file.path.split('/').all(|part| !part.is_empty() && part != ".." && part != "."), "{}", file.path);
        }
        Ok(())
    }

    fn take(&mut self, item: Item<'_>, content: Content<'_>) -> Result<(), PackError> {
        let mut bytes = Vec::new();
        content.copy_to(&mut bytes, PackError::Read)?;
        assert_eq!(Digest::of(&bytes), item.content().digest);
        if let Item::Record(_) = item {
            let _ = Record::from_text(&bytes);
        }
        Ok(())
    }
}

/// A small pack: a pipeline, an object and a record.
static PACK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let piece = |bytes: &[u8]| format!("{{\"digest\":\"{}\",\"size\":{}}}", Digest::of(bytes), bytes.len());
    let (file, object, record) = (b"stages: {}\n", b"object", b"{}");
    let manifest = format!(
        "{{\"pipeline\":\"a/p.yaml\",\"set\":[],\"files\":[{{\"path\":\"a/p.yaml\",\"content\":{}}}],\"objects\":[{}],\"records\":[{{\"key\":\"{}\",\"content\":{}}}]}}",
        piece(file), piece(object), "0".repeat(64), piece(record)
    );
    let object_name = format!("objects/{}", Digest::of(object));
    let record_name = format!("records/{}.json", "0".repeat(64));
    let entries: [(&str, &[u8]); 4] = [
        ("pack.json", manifest.as_bytes()), ("files/a/p.yaml", file), (&object_name, object), (&record_name, record),
    ];
    let mut pack = Vec::new();
    for (name, bytes) in entries {
        let bytes = if name == "pack.json" { sealed(bytes) } else { bytes.to_vec() };
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        pack.extend(header);
        pack.extend(&bytes);
        pack.resize(pack.len().next_multiple_of(512), 0);
    }
    pack.resize(pack.len() + 1024, 0);
    pack
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let mut pack = if how & 1 == 0 { bytes.to_vec() } else { edited(PACK.clone(), bytes) };
    if how & 2 == 0 {
        seal_headers(&mut pack);
    }
    match read(pack.as_slice(), &mut Sink) {
        Ok(manifest) => assert!(!manifest.files.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// Edits of five bytes each: what, where (two), and with what (two).
fn edited(mut pack: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(5) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % pack.len().max(1);
        match edit[0] % 4 {
            0 => pack[at] = edit[3],
            1 => pack.truncate(at.max(1)),
            2 => drop(pack.splice(at..at, std::iter::repeat_n(edit[3], usize::from(edit[4])))),
            _ => drop(pack.splice(at..(at + usize::from(edit[4])).min(pack.len()), [edit[3]])),
        }
    }
    pack
}

/// Puts the sums of all headers right, and the seal of the manifest, as far as they can be found.
fn seal_headers(pack: &mut Vec<u8>) {
    let mut at = 0;
    while at + 512 <= pack.len() {
        let header = &mut pack[at..at + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        if sum == 8 * u32::from(b' ') {
            return;
        }
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = std::str::from_utf8(&header[124..135]).ok();
        let Some(size) = digits.and_then(|digits| usize::from_str_radix(digits, 8).ok()) else { return };
        let content = at + 512;
        if at == 0 && content + size <= pack.len() {
            const HEAD: usize = "{\"version\":1,\"check\":\"".len() + 64 + 2;
            if let Some(body) = pack[content..content + size].get(HEAD..).and_then(|body| body.strip_suffix(b"\n")) {
                let text = sealed(&[b"{", body].concat());
                if text.len() == size {
                    pack[content..content + size].copy_from_slice(&text);
                }
            }
        }
        at = content.saturating_add(size.next_multiple_of(512));
    }
}

/// The text with the seal of a file of the store.
fn sealed(body: &[u8]) -> Vec<u8> {
    let rest = body.strip_prefix(b"{").unwrap_or(body);
    let check = Digest::of(body);
    [format!("{{\"version\":1,\"check\":\"{check}\",").as_bytes(), rest, b"\n"].concat()
}
