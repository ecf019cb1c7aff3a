//! Python environments of our own, with pinned packages from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, process, tools};

/// The Python of an environment at `folder` that has exactly `requirements` (each `name==version`) and what they depend on.
/// Made if it is not there; what an interrupted attempt left is thrown away.
pub(crate) fn environment(folder: &Path, requirements: &[&str]) -> Result<PathBuf> {
    let python = if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") };
    let done = folder.join("requirements.txt");
    let wanted = requirements.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) && python.is_file() {
        return Ok(python);
    }
    // Debian's Python has the module `venv`, but not what it installs pip with.
    tools::ensure_system_program("python3", &["-c", "import ensurepip, venv"], "python3-venv")?;
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--only-binary", ":all:", "--quiet"]);
    process::run(pip.args(requirements))?;
    fs::write(&done, wanted).map_err(|error| format!("cannot write {}: {error}", done.display()))?;
    Ok(python)
}
