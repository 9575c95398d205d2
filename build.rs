//! Lets a program with the feature `libtorch` find its libraries without `LD_LIBRARY_PATH`, and know their version.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else { return };
    let library = folder.join("lib");
    println!("cargo:rerun-if-changed={}", folder.join("build-version").display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
    if let Some(version) = version(&folder) {
        println!("cargo:rustc-env=PGAN_LIBTORCH_VERSION={version}");
    }
    if library.join("libtorch_cuda.so").exists() {
        // Nothing in the program calls the CUDA library, which must be loaded all the same; what it needs in turn is looked for
        // when it is, on machines with a GPU.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
        println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
        println!("cargo:rustc-link-search=native={}", library.display());
    }
}

/// What libtorch's own file says: `2.9.0+cpu`.
fn version(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("build-version")).ok()?;
    let version = text.trim();
    (!version.is_empty() && version.bytes().all(|b| b.is_ascii_graphic())).then(|| version.to_owned())
}
