//! The tools that the commands need: used when they are there, installed once when they are not.

use std::fs;
use std::path::Path;
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

/// Makes sure of `rustfmt`, `clippy`, `cargo nextest`, `cargo deny` and a GPU in software.
pub(crate) fn ensure_test_tools() -> Result<()> {
    for component in ["fmt", "clippy"] {
        ensure_component(component)?;
    }
    ensure_cargo_tool(&NEXTEST)?;
    ensure_cargo_tool(&DENY)?;
    ensure_software_gpu()
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
    if !may_install() {
        return Err(
            format!("`{wanted}` does not work here: install it (Debian: apt-get install {debian_package})").into()
        );
    }
    install(&[debian_package])
}

/// Installs Debian packages where we may, else says what to type.
pub(crate) fn install_where_allowed(debian_packages: &[&str]) -> Result<()> {
    if !may_install() {
        return Err(format!("install it first (Debian: apt-get install {})", debian_packages.join(" ")).into());
    }
    install(debian_packages)
}

/// Debian's package of Mesa's software Vulkan driver, lavapipe.
const SOFTWARE_GPU: &str = "mesa-vulkan-drivers";

/// Where Linux keeps the descriptions of Vulkan drivers.
const VULKAN_DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// Makes sure of a GPU that is emulated in software, on which the shaders are tested: installs it where we may, else says
/// that those tests will skip themselves. On a CI machine, which has no reader, that would be a hole: there it fails.
fn ensure_software_gpu() -> Result<()> {
    if !cfg!(target_os = "linux") {
        eprintln!("no software GPU is known for this system: tests of shaders skip themselves");
        return Ok(());
    }
    if has_lavapipe(&VULKAN_DRIVERS) {
        return Ok(());
    }
    if may_install() {
        install(&[SOFTWARE_GPU])?;
        if has_lavapipe(&VULKAN_DRIVERS) {
            return Ok(());
        }
        return Err(format!("{SOFTWARE_GPU} was installed, but holds no lavapipe").into());
    }
    let missing = format!("no software GPU (Debian: apt-get install {SOFTWARE_GPU})");
    if std::env::var_os("CI").is_some() {
        return Err(missing.into());
    }
    eprintln!("{missing}: tests of shaders skip themselves");
    Ok(())
}

/// Whether one of these folders describes lavapipe.
fn has_lavapipe(folders: &[impl AsRef<Path>]) -> bool {
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("lvp_icd"))
}

/// Whether system packages can be installed: on a Debian-like system, as root.
fn may_install() -> bool {
    process::works("apt-get", &["--version"]) && is_root()
}

fn install(debian_packages: &[&str]) -> Result<()> {
    // The lists of a fresh container are empty; where they are not, an unreachable mirror must not stop us.
    if process::run(Command::new("apt-get").args(["update", "--quiet"])).is_err() {
        eprintln!("going on with the package lists that are here");
    }
    let options = ["install", "--yes", "--quiet", "--no-install-recommends"];
    process::run(Command::new("apt-get").args(options).args(debian_packages))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lavapipe_is_known_by_its_description() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folders = [folder.path(), Path::new("/nonexistent")];
        fs::write(folder.path().join("radeon_icd.x86_64.json"), "{}").expect("writable");
        assert!(!has_lavapipe(&folders));
        fs::write(folder.path().join("lvp_icd.x86_64.json"), "{}").expect("writable");
        assert!(has_lavapipe(&folders));
    }
}
