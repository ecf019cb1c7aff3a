//! Tells the crate what it is compiled for and by what: the plugin note says so.

use std::env;
use std::process::Command;

fn main() {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // The note has room for 64 bytes; a vendor's version may be longer.
    let version: String = version.trim().chars().filter(char::is_ascii).take(64).collect();
    let version = if version.is_empty() { "unknown" } else { &version };
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    emit(&format!("cargo::rustc-env=NV_SDK_RUSTC={version}"));
    emit(&format!("cargo::rustc-env=NV_SDK_TARGET={target}"));
    emit("cargo::rerun-if-changed=build.rs");
}

fn emit(instruction: &str) {
    println!("{instruction}");
}
