//! The kernels of 64-bit ARM on a machine of another kind: compiled for it, and run in an emulator, QEMU.

use std::path::Path;
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Result, process, tools};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// The folder of ARM's C library, on a Debian-like system.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Debian's packages of these three.
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "qemu-user", "libc6-dev-arm64-cross"];

/// Tests the CPU executor as it is on ARM. Where that can't be done, it says so, and passes; on a CI machine, which has no
/// reader, it fails.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    if cfg!(target_arch = "aarch64") {
        eprintln!("this machine is an ARM itself: the phase \"tests\" has run its kernels");
        return Ok(());
    }
    if let Err(missing) = ensure() {
        if std::env::var_os("CI").is_some() {
            return Err(missing);
        }
        eprintln!("skipped: tests of ARM's kernels (NEON): {missing}");
        return Ok(());
    }
    let mut command = Command::new(process::cargo());
    command.current_dir(&workspace.root);
    command.args(["test", "--package", "nv-infer", "--lib", "--target", TARGET, "cpu::"]);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -L {LIBRARIES}"));
    process::run(command.env("RUST_BACKTRACE", "0"))
}

/// Makes sure of a linker, an emulator, and a standard library for ARM.
///
/// # Errors
/// What is missing, and can't be had.
fn ensure() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Err("the emulator runs Linux programs, on Linux".into());
    }
    let works = |program| process::works(program, &["--version"]);
    let here = || works(LINKER) && works(EMULATOR) && Path::new(LIBRARIES).join("lib").is_dir();
    if !here() {
        tools::install_where_allowed(&PACKAGES)?;
        if !here() {
            return Err(
                format!("{} were installed, but {LINKER} or {EMULATOR} does not work", PACKAGES.join(", ")).into()
            );
        }
    }
    if has_standard_library() {
        return Ok(());
    }
    process::run(Command::new("rustup").args(["target", "add", TARGET]))
        .map_err(|error| format!("the standard library for {TARGET} is missing and can't be added: {error}"))?;
    if has_standard_library() {
        Ok(())
    } else {
        Err(format!("rustup has no standard library for {TARGET} here").into())
    }
}

/// Whether the compiler can make programs for ARM.
fn has_standard_library() -> bool {
    let folder = process::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    folder.is_ok_and(|folder| Path::new(String::from_utf8_lossy(&folder).trim()).is_dir())
}
