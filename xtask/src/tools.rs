//! The tools that the commands need: used when they are there, installed once when they are not.

use std::process::Command;

use crate::{Result, process};

/// A cargo subcommand from the registry. The version is pinned so that a new release can't break a fresh machine.
struct CargoTool {
    subcommand: &'static str,
    package: &'static str,
    version: &'static str,
}

const NEXTEST: CargoTool = CargoTool { subcommand: "nextest", package: "cargo-nextest", version: "0.9.143" };
const FUZZ: CargoTool = CargoTool { subcommand: "fuzz", package: "cargo-fuzz", version: "0.13.2" };
const DENY: CargoTool = CargoTool { subcommand: "deny", package: "cargo-deny", version: "0.20.2" };

/// Makes sure of `rustfmt`, `clippy`, `cargo nextest` and `cargo deny`.
pub(crate) fn ensure_test_tools() -> Result<()> {
    for component in ["fmt", "clippy"] {
        ensure_component(component)?;
    }
    ensure_cargo_tool(&NEXTEST)?;
    ensure_cargo_tool(&DENY)
}

/// Makes sure of `cargo fuzz`, which only long runs need.
pub(crate) fn ensure_fuzzer() -> Result<()> {
    ensure_cargo_tool(&FUZZ)
}

/// Makes sure that `program args…` works: installs the Debian package where we may, else says what to type.
pub(crate) fn ensure_system_program(program: &str, args: &[&str], debian_package: &str) -> Result<()> {
    if process::works(program, args) {
        return Ok(());
    }
    let wanted = format!("{program} {}", args.join(" "));
    if !process::works("apt-get", &["--version"]) || !is_root() {
        return Err(
            format!("`{wanted}` does not work here: install it (Debian: apt-get install {debian_package})").into()
        );
    }
    // The lists of a fresh container are empty; where they are not, an unreachable mirror must not stop us.
    if process::run(Command::new("apt-get").args(["update", "--quiet"])).is_err() {
        eprintln!("going on with the package lists that are here");
    }
    process::run(Command::new("apt-get").args([
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        debian_package,
    ]))
}

fn ensure_component(subcommand: &str) -> Result<()> {
    let version = |subcommand: &str| {
        let cargo = process::cargo();
        process::works(&cargo.to_string_lossy(), &[subcommand, "--version"])
    };
    if version(subcommand) {
        return Ok(());
    }
    let component = if subcommand == "fmt" { "rustfmt" } else { "clippy" };
    process::run(Command::new("rustup").args(["component", "add", component]))
        .map_err(|error| format!("`cargo {subcommand}` is missing and can't be added: {error}").into())
}

fn ensure_cargo_tool(tool: &CargoTool) -> Result<()> {
    let cargo = process::cargo();
    if process::works(&cargo.to_string_lossy(), &[tool.subcommand, "--version"]) {
        return Ok(());
    }
    let crate_version = format!("{}@{}", tool.package, tool.version);
    // Outside the project's target folder, so that a clean build does not throw the tool away: cargo's own place.
    process::run(Command::new(cargo).args(["install", "--locked", &crate_version]).env_remove("CARGO_TARGET_DIR"))
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim_ascii() == b"0")
}
