//! The tidy checks: what no compiler checks and every reader relies on. Each rule is a pure function that is shown
//! to fail on a planted violation, and is then held against the workspace as it stands.

mod arrows;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{self, Workspace};

#[test]
fn the_workspace_keeps_its_arrows() {
    let metadata = workspace::cargo_metadata().expect("cargo describes the workspace");
    assert_none(arrows::violations(&metadata));
}

#[test]
fn every_crate_takes_lints_and_licence_from_the_workspace() {
    let metadata = workspace::cargo_metadata().expect("cargo describes the workspace");
    let mut violations = Vec::new();
    for package in workspace::list(&metadata, "packages") {
        let path = workspace::text(package, "manifest_path").expect("cargo names every manifest");
        let manifest = fs::read_to_string(path).expect("cargo has just read it");
        violations.extend(arrows::manifest_violations(&manifest).into_iter().map(|what| format!("{path}: {what}")));
    }
    assert_none(violations);
}

#[test]
fn the_sources_are_tidy() {
    let root = Workspace::load().expect("cargo describes the workspace").root;
    let files = files_below(&root);
    assert!(files.len() > 50, "the walk found the sources, not just {} files", files.len());
    let mut violations = Vec::new();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(&root).expect("the walk began there").to_string_lossy().replace('\\', "/");
        violations.extend(sources::violations(&name, &text).into_iter().map(|what| format!("{name}{what}")));
    }
    assert_none(violations);
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// Every file that a clone may hold, in order; not what is built, fetched or hidden.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    const SKIPPED: [&str; 4] = ["target", "assets", "out", ".git"];
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| !SKIPPED.iter().any(|name| path.file_name().is_some_and(|file| file == *name)))
        .collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
