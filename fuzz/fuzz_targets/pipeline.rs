//! Pipeline files: whatever stands in one and in those that it includes, reading them ends soon, with a pipeline or with mistakes that can
//! be shown.
#![no_main]

use std::{collections::BTreeMap, path::Path};

use libfuzzer_sys::fuzz_target;
use pgan_pipe::pipeline::{Files, Pipeline};

// A zero byte ends a file. The first is the pipeline; it and the others may include each other as `0`, `1`, `2`, ….
fuzz_target!(|bytes: &[u8]| {
    let texts = bytes.split(|&byte| byte == 0).enumerate();
    let files: BTreeMap<_, _> = texts.map(|(index, text)| (index.to_string().into(), text.to_vec())).collect();
    let first = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    if let Err(mistakes) = Pipeline::parse_from(Files::Memory(&files), first, Path::new("0"), &[]) {
        assert!(!mistakes.to_string().is_empty());
    }
});
