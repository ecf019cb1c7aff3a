//! Builds the plugins and puts them where the host and the tests look for them.
//!
//! A development build goes to `<target>/plugins`, shipped and test plugins alike. A release build goes to
//! `<target>/release/plugins`, beside the release executable, and holds what users get.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::workspace::{Workspace, list, text};
use crate::{Result, process};

/// How to compile, and so where the plugins go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// What one build left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    /// The plugins, in the folder where they are looked for.
    pub(crate) plugins: Vec<PathBuf>,
    /// Every executable that was asked for besides.
    pub(crate) executables: Vec<PathBuf>,
}

/// Builds the plugins of a profile, and whatever `more` tells cargo to build in the same go (one go resolves one set
/// of features, so that no dependency is compiled twice), then installs the plugins.
pub(crate) fn build(workspace: &Workspace, profile: Profile, more: &[&str]) -> Result<Built> {
    let wanted: Vec<_> =
        workspace.plugins.iter().filter(|plugin| plugin.shipped || profile == Profile::Dev).map(|p| &*p.name).collect();
    if wanted.is_empty() {
        return Err("no package of the workspace has a `cdylib` target, so there is no plugin to build".into());
    }
    let mut command = Command::new(process::cargo());
    command.current_dir(&workspace.root).arg("build");
    if profile == Profile::Release {
        command.arg("--release");
    }
    if more.is_empty() {
        command.arg("--lib");
    }
    if !more.contains(&"--workspace") {
        command.args(wanted.iter().flat_map(|name| ["-p", name]));
    }
    command.args(more);
    let artifacts = compile(&mut command)?;

    let folder = match profile {
        Profile::Dev => workspace.target.join("plugins"),
        Profile::Release => workspace.target.join("release/plugins"),
    };
    let libraries: Vec<_> = artifacts.iter().filter_map(|artifact| artifact.plugin(&wanted)).collect();
    if libraries.len() != wanted.len() {
        return Err(format!("cargo built {} plugins of {}: {wanted:?}", libraries.len(), wanted.len()).into());
    }
    let plugins = install(&libraries, &folder)?;
    let executables = artifacts.into_iter().filter_map(|artifact| artifact.executable).collect();
    Ok(Built { plugins, executables })
}

/// One line of cargo's account of a build.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    /// `…/nv-plugins/track/Cargo.toml` and the like carry no name, so the package is known by its id.
    package_id: String,
    cdylib: Option<PathBuf>,
    executable: Option<PathBuf>,
}

impl Artifact {
    /// Reads one JSON message; `None` for those that are not about a finished artifact.
    fn parse(message: &Value) -> Option<Self> {
        if message.get("reason")? != "compiler-artifact" {
            return None;
        }
        let cdylib = list(message.get("target")?, "crate_types").any(|kind| kind == "cdylib");
        let library = list(message, "filenames")
            .filter_map(|name| name.as_str().map(PathBuf::from))
            .find(|path| cdylib && path.extension() == Some(OsStr::new(std::env::consts::DLL_EXTENSION)));
        Some(Self {
            package_id: text(message, "package_id").ok()?.to_owned(),
            cdylib: library,
            executable: message.get("executable").and_then(Value::as_str).map(PathBuf::from),
        })
    }

    /// The library, if this is one of the packages named.
    fn plugin(&self, packages: &[&str]) -> Option<PathBuf> {
        packages.contains(&package_name(&self.package_id)).then(|| self.cdylib.clone()).flatten()
    }
}

/// The package's name in an id: `path+file:///x/nv-track#0.1.0` or `path+file:///x/track#nv-track@0.1.0`.
fn package_name(id: &str) -> &str {
    let (location, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _version)) => name,
        None => location.rsplit('/').next().unwrap_or(location),
    }
}

/// Runs a `cargo build`; the compiler's words go to standard error as ever, the artifacts come back.
fn compile(command: &mut Command) -> Result<Vec<Artifact>> {
    eprintln!("$ {}", process::line(command));
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    let stdout = child.stdout.take().expect("its stdout was piped two lines above");
    let mut artifacts = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        artifacts.extend(Artifact::parse(&message));
    }
    let status = child.wait()?;
    if status.success() { Ok(artifacts) } else { Err(format!("the build ended with {status}").into()) }
}

/// Puts libraries into a folder and takes away those of earlier builds that are no longer among them.
fn install(libraries: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let mut installed = Vec::new();
    for library in libraries {
        let name = library.file_name().expect("cargo names a file");
        let place = folder.join(name);
        let fresh = replace(library, &place)
            .map_err(|error| format!("cannot copy {} to {}: {error}", library.display(), place.display()))?;
        eprintln!("{} {}", if fresh { "installed" } else { "unchanged" }, place.display());
        installed.push(place);
    }
    remove_others(folder, &installed)?;
    Ok(installed)
}

/// Makes `place` a copy of `library`; says whether anything changed. A host may have the old file mapped, and writing
/// into a mapped library crashes its host: the new one is written beside it and renamed over it.
fn replace(library: &Path, place: &Path) -> std::io::Result<bool> {
    let bytes = fs::read(library)?;
    if fs::read(place).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let mut partial = OsString::from(place);
    partial.push(format!(".{}.tmp", std::process::id()));
    fs::write(&partial, bytes)?;
    fs::rename(&partial, place)?;
    Ok(true)
}

fn remove_others(folder: &Path, keep: &[PathBuf]) -> Result<()> {
    let keep: BTreeSet<_> = keep.iter().collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(std::env::consts::DLL_EXTENSION)) && !keep.contains(&path) {
            eprintln!("removed {} (no such plugin any more)", path.display());
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn package_ids_carry_names_in_two_ways() {
        let check = |id, expected| assert_eq!(package_name(id), expected);
        check("path+file:///x/nv-plugins/track#nv-track@0.1.0", "nv-track");
        check("path+file:///x/tests/plugins/probe#0.1.0", "probe");
        check("registry+https://github.com/rust-lang/crates.io-index#png@0.18.0", "png");
    }

    #[test]
    fn a_plugin_is_the_dynamic_library_of_a_wanted_package() {
        let file = format!("/t/debug/libnv_track.{}", std::env::consts::DLL_EXTENSION);
        let message = json!({
            "reason": "compiler-artifact", "package_id": "path+file:///x/track#nv-track@0.1.0", "executable": null,
            "target": {"crate_types": ["lib", "cdylib"]}, "filenames": ["/t/debug/libnv_track.rlib", &file],
        });
        let artifact = Artifact::parse(&message).expect("an artifact");
        assert_eq!(artifact.plugin(&["nv-track"]), Some(PathBuf::from(file)));
        assert_eq!(artifact.plugin(&["nv-models"]), None);
        assert_eq!(Artifact::parse(&json!({"reason": "build-finished"})), None);
    }

    #[test]
    fn installing_replaces_by_a_new_file_and_drops_stale_plugins() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let library = temporary.path().join(format!("libprobe.{}", std::env::consts::DLL_EXTENSION));
        let folder = temporary.path().join("plugins");
        fs::write(&library, "one").expect("writable");
        let installed = install(std::slice::from_ref(&library), &folder).expect("installs");
        assert_eq!(installed, [folder.join(library.file_name().expect("a name"))]);

        // Whoever holds the old file open goes on seeing the old bytes.
        let mut held = fs::File::open(&installed[0]).expect("readable");
        let stale = folder.join(format!("libgone.{}", std::env::consts::DLL_EXTENSION));
        fs::write(&stale, "x").expect("writable");
        fs::write(&library, "two").expect("writable");
        install(std::slice::from_ref(&library), &folder).expect("installs again");
        assert_eq!(std::io::read_to_string(&mut held).expect("readable"), "one");
        assert_eq!(fs::read_to_string(&installed[0]).expect("readable"), "two");
        assert!(!stale.exists());
        assert!(!replace(&library, &installed[0]).expect("readable"), "the same bytes are left alone");
        assert_eq!(fs::read_dir(&folder).expect("readable").count(), 1, "no temporary file stays");
    }
}
