//! Which crate may know which. Arrows point one way, and a heavy dependency lives in one leaf.

use std::path::Path;

use serde_json::Value;

use crate::workspace::{list, text};

/// What each of our crates may know of ours. Only normal and build dependencies count: tests may look further.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("nv-core", &[]),
    ("nv-perception", &["nv-core"]),
    ("nv-runtime", &["nv-core", "nv-perception"]),
    ("nv-plugin-abi", &[]),
    ("nv-plugin-marshal", &["nv-core", "nv-perception", "nv-plugin-abi"]),
    ("nv-plugin-sdk", &["nv-core", "nv-perception", "nv-plugin-abi", "nv-plugin-marshal"]),
    ("nv-plugin-loader", &["nv-core", "nv-perception", "nv-plugin-abi", "nv-plugin-marshal"]),
    ("nv-infer", &["nv-core"]),
    ("nv-models", &["nv-infer", "nv-plugin-sdk"]),
    ("nv-track", &["nv-plugin-sdk"]),
    ("nv-sources", &["nv-core", "nv-perception"]),
    ("nv-host", &["nv-core", "nv-infer", "nv-perception", "nv-plugin-loader", "nv-runtime", "nv-sources"]),
    // Behaviour across crates: it may look everywhere, and nobody may know it.
    (
        "nv-tests",
        &[
            "nv-core",
            "nv-host",
            "nv-infer",
            "nv-models",
            "nv-perception",
            "nv-plugin-abi",
            "nv-plugin-loader",
            "nv-plugin-marshal",
            "nv-plugin-sdk",
            "nv-runtime",
            "nv-sources",
            "nv-track",
        ],
    ),
    ("xtask", &[]),
];

/// What a plugin of our tests may know: what a third party's plugin has, and the ABI for those that break it on purpose.
const TEST_PLUGIN_MAY_KNOW: &[&str] = &["nv-plugin-abi", "nv-plugin-sdk"];

/// Where heavy dependencies may be: a name (or the beginning of several, before `*`) and its leaves.
const LEAVES: &[(&str, &[&str])] = &[
    ("abi_stable*", &["nv-plugin-abi", "nv-plugin-loader", "nv-plugin-sdk"]),
    ("axum", &["nv-host"]),
    ("clap*", &["nv-host", "xtask"]),
    ("ctrlc", &["nv-host"]),
    ("gstreamer*", &["nv-source-gstreamer"]),
    ("indicatif", &["nv-host"]),
    ("jpeg-encoder", &["nv-host"]),
    ("libloading", &["nv-plugin-loader"]),
    ("naga", &["nv-infer"]),
    ("re_mp4", &["nv-sources"]),
    ("retina", &["nv-sources"]),
    ("rten*", &["nv-infer"]),
    ("rusty_h264*", &["nv-sources"]),
    ("tokio*", &["nv-host", "nv-sources"]),
    ("toml", &["nv-host", "nv-models"]),
    ("tracing-subscriber", &["nv-host"]),
    ("wgpu*", &["nv-infer"]),
    ("zune*", &["nv-sources"]),
];

/// Every arrow that points the wrong way, and every package that could be published by accident.
pub(super) fn violations(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    let ours: Vec<&str> = list(metadata, "packages").filter_map(|package| text(package, "name").ok()).collect();
    for package in list(metadata, "packages") {
        let name = package["name"].as_str().unwrap_or_default();
        if package["publish"] != Value::Array(Vec::new()) {
            violations.push(format!("{name} lacks `publish.workspace = true`"));
        }
        let Some(may_know) = may_know(package) else {
            violations.push(format!("{name} has no place among the arrows: add it to MAY_KNOW"));
            continue;
        };
        for dependency in list(package, "dependencies").filter(|dependency| dependency["kind"] != "dev") {
            let dependency = dependency["name"].as_str().unwrap_or_default();
            if ours.contains(&dependency) && !may_know.contains(&dependency) {
                violations.push(format!("{name} must not know {dependency}"));
            }
            if let Some(leaves) = leaves_of(dependency).filter(|leaves| !leaves.contains(&name)) {
                violations
                    .push(format!("{name} must not depend on {dependency}, which belongs to {}", leaves.join(", ")));
            }
        }
    }
    violations
}

/// What a manifest lacks: the lints, the edition, the licence of the workspace.
pub(super) fn manifest_violations(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("not TOML: {error}")],
    };
    let inherits = |table: &str, key: Option<&str>| {
        let table = manifest.get(table);
        let holder = key.map_or(table, |key| table.and_then(|table| table.get(key)));
        holder.and_then(|holder| holder.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let mut violations = Vec::new();
    if !inherits("lints", None) {
        violations.push("lacks `[lints] workspace = true`".to_owned());
    }
    // Not the version: the plugin ABI counts its own.
    for key in ["edition", "rust-version", "license", "publish"] {
        if !inherits("package", Some(key)) {
            violations.push(format!("lacks `{key}.workspace = true`"));
        }
    }
    violations
}

fn may_know(package: &Value) -> Option<&'static [&'static str]> {
    let name = text(package, "name").ok()?;
    let listed = MAY_KNOW.iter().find(|(known, _)| *known == name).map(|(_, may_know)| *may_know);
    let manifest = Path::new(text(package, "manifest_path").ok()?);
    let is_test_plugin = manifest.ancestors().any(|folder| folder.ends_with("tests/plugins"));
    listed.or_else(|| is_test_plugin.then_some(TEST_PLUGIN_MAY_KNOW))
}

fn leaves_of(dependency: &str) -> Option<&'static [&'static str]> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => dependency.starts_with(beginning),
        None => dependency == pattern,
    };
    LEAVES.iter().find(|(pattern, _)| matches(pattern)).map(|(_, leaves)| *leaves)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of one package with one dependency, in a workspace that has all the usual names.
    fn check(name: &str, dependency: &str, kind: Option<&str>, expected: &[&str]) {
        let member = |name: &str| {
            let folder = if name.starts_with("test-") { "tests/plugins" } else { "crates" };
            json!({"name": name, "manifest_path": format!("/x/{folder}/{name}/Cargo.toml"), "publish": [], "dependencies": []})
        };
        let mut packages: Vec<_> =
            MAY_KNOW.iter().map(|(known, _)| *known).filter(|known| *known != name).map(member).collect();
        let mut package = member(name);
        package["dependencies"] = json!([{"name": dependency, "kind": kind}]);
        packages.push(package);
        assert_eq!(violations(&json!({ "packages": packages })), expected, "{name} -> {dependency}");
    }

    #[test]
    fn arrows_point_one_way() {
        check("nv-perception", "nv-core", None, &[]);
        check("nv-core", "nv-perception", None, &["nv-core must not know nv-perception"]);
        check("nv-runtime", "nv-plugin-loader", None, &["nv-runtime must not know nv-plugin-loader"]);
        check("nv-runtime", "nv-host", Some("build"), &["nv-runtime must not know nv-host"]);
        check("nv-plugin-abi", "nv-core", None, &["nv-plugin-abi must not know nv-core"]);
        check("nv-plugin-loader", "nv-runtime", None, &["nv-plugin-loader must not know nv-runtime"]);
        check("nv-track", "nv-perception", None, &["nv-track must not know nv-perception"]);
        check("nv-track", "nv-infer", None, &["nv-track must not know nv-infer"]);
        check("nv-models", "nv-infer", None, &[]);
        check("nv-host", "nv-models", None, &["nv-host must not know nv-models"]);
        check("test-probe", "nv-plugin-sdk", None, &[]);
        check("test-probe", "nv-runtime", None, &["test-probe must not know nv-runtime"]);
    }

    #[test]
    fn tests_may_look_further() {
        check("nv-track", "nv-perception", Some("dev"), &[]);
        check("nv-runtime", "clap", Some("dev"), &[]);
    }

    #[test]
    fn heavy_dependencies_live_in_their_leaf() {
        check("nv-infer", "rten-tensor", None, &[]);
        check("nv-models", "rten", None, &["nv-models must not depend on rten, which belongs to nv-infer"]);
        check("nv-runtime", "clap", None, &["nv-runtime must not depend on clap, which belongs to nv-host, xtask"]);
        check(
            "nv-host",
            "rusty_h264-decoder",
            None,
            &["nv-host must not depend on rusty_h264-decoder, which belongs to nv-sources"],
        );
        check("nv-core", "serde", None, &[]);
    }

    #[test]
    fn every_package_has_a_place_and_stays_unpublished() {
        check("nv-novel", "serde", None, &["nv-novel has no place among the arrows: add it to MAY_KNOW"]);
        let package = json!({"name": "nv-core", "manifest_path": "/x/nv-core/Cargo.toml", "publish": null});
        assert_eq!(violations(&json!({"packages": [package]})), ["nv-core lacks `publish.workspace = true`"]);
    }

    #[test]
    fn manifests_inherit() {
        let check = |manifest: &str, expected: &[&str]| assert_eq!(manifest_violations(manifest), expected);
        let keys = "edition.workspace = true\nrust-version.workspace = true\n\
                    license.workspace = true\npublish.workspace = true\n";
        check(&format!("[package]\n{keys}[lints]\nworkspace = true\n"), &[]);
        check(&format!("[package]\n{keys}"), &["lacks `[lints] workspace = true`"]);
        check(&format!("[package]\n{keys}[lints]\nworkspace = false\n"), &["lacks `[lints] workspace = true`"]);
        let own = keys.replace("license.workspace = true", "license = \"MIT\"");
        check(&format!("[package]\n{own}[lints]\nworkspace = true\n"), &["lacks `license.workspace = true`"]);
    }
}
