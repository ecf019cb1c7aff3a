//! Tells the crate what it is compiled for: a plugin must be compiled for the same.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=NV_LOADER_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
