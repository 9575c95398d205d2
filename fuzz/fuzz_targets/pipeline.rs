//! Pipeline files: whatever stands in one, reading it ends soon, with a pipeline or with mistakes that can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pgan_pipe::pipeline::Pipeline;

fuzz_target!(|bytes: &[u8]| {
    if let Err(mistakes) = Pipeline::parse(bytes, Path::new("fuzz.yaml"), &[]) {
        assert!(!mistakes.to_string().is_empty());
    }
});
