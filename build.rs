//! Lets a program with the feature `libtorch` find its libraries without `LD_LIBRARY_PATH`.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
}
