//! Where things are: the workspace's root, its target folder, its packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Result, process};

/// The workspace in which the command was typed.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever the environment or the configuration puts it.
    pub(crate) target: PathBuf,
    /// The members that are plugins: packages with a `cdylib` target.
    pub(crate) plugins: Vec<PluginPackage>,
}

/// A member of the workspace that builds a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginPackage {
    pub(crate) name: String,
    /// Whether users get it (it lies under `nv-plugins/`), or only our tests (under `tests/`).
    pub(crate) shipped: bool,
}

impl Workspace {
    /// Asks cargo about the workspace around the current folder.
    pub(crate) fn load() -> Result<Self> {
        Self::from_metadata(&cargo_metadata()?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let target = PathBuf::from(text(metadata, "target_directory")?);
        let mut plugins = Vec::new();
        for package in list(metadata, "packages") {
            if list(package, "targets").any(is_cdylib) {
                let manifest = Path::new(text(package, "manifest_path")?);
                let shipped = manifest.starts_with(root.join("nv-plugins"));
                plugins.push(PluginPackage { name: text(package, "name")?.to_owned(), shipped });
            }
        }
        plugins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root, target, plugins })
    }

    /// The folders that may hold test clips and models, in the order in which they are asked: what the environment
    /// names, what `cargo xtask assets` fills, what lies beside the checkout.
    pub(crate) fn asset_folders(&self) -> Vec<PathBuf> {
        let beside = self.root.parent().map(|parent| parent.join("shared/assets"));
        named_assets().into_iter().chain([self.root.join("assets")]).chain(beside).collect()
    }

    /// The folder that the tests on real video read, if there is one: `NV_ASSETS`, else `../shared/assets`.
    pub(crate) fn test_assets(&self) -> Option<PathBuf> {
        let folder = match named_assets() {
            Some(named) => named,
            None => self.root.parent()?.join("shared/assets"),
        };
        folder.is_dir().then_some(folder)
    }
}

/// What `NV_ASSETS` names. Other programs run in other folders, so a relative path must become absolute here.
fn named_assets() -> Option<PathBuf> {
    let named = PathBuf::from(std::env::var_os("NV_ASSETS")?);
    Some(std::path::absolute(&named).unwrap_or(named))
}

/// `cargo metadata` of the workspace around the current folder, without dependencies (so that it needs no network).
pub(crate) fn cargo_metadata() -> Result<Value> {
    let mut command = Command::new(process::cargo());
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = process::output(&mut command)?;
    Ok(serde_json::from_slice(&output).map_err(|error| format!("cargo metadata printed no valid JSON: {error}"))?)
}

/// The elements of the array `key`; none where there is no such array.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The string `key`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    Ok(value.get(key).and_then(Value::as_str).ok_or_else(|| format!("cargo metadata has no string `{key}`"))?)
}

fn is_cdylib(target: &Value) -> bool {
    list(target, "crate_types").any(|kind| kind == "cdylib")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plugins_are_the_members_with_a_cdylib_target() {
        let package = |name: &str, folder: &str, kind: &str| json!({"name": name, "manifest_path": format!("/x/{folder}/Cargo.toml"), "targets": [{"crate_types": ["lib", kind]}]});
        let metadata = json!({
            "workspace_root": "/x", "target_directory": "/y",
            "packages": [
                package("probe", "tests/plugins/probe", "cdylib"),
                package("nv-track", "nv-plugins/track", "cdylib"),
                package("nv-core", "nv-core", "lib"),
            ]
        });
        let workspace = Workspace::from_metadata(&metadata).expect("complete metadata");
        assert_eq!(workspace.target, Path::new("/y"));
        assert_eq!(
            workspace.plugins,
            [
                PluginPackage { name: "nv-track".to_owned(), shipped: true },
                PluginPackage { name: "probe".to_owned(), shipped: false },
            ]
        );
    }

    #[test]
    fn metadata_without_a_root_is_an_error_that_names_the_key() {
        let error = Workspace::from_metadata(&json!({})).err().expect("no root");
        assert_eq!(error.to_string(), "cargo metadata has no string `workspace_root`");
    }
}
