//! Data of others: test models, and what they compare with, which `cargo xtask test` gets and names in the environment.

use std::path::PathBuf;

use nv_infer::Model;

use crate::announce;

/// The models among the assets. Batches and comparisons go through all of them.
pub(crate) const MODELS: [&str; 5] = [
    "fastestdet_coco_352",
    "person-reidentification-retail-0248",
    "ultraface_rfb_320",
    "yolox_nano_coco_416",
    "yunet_s_dynamic",
];

/// The test models that are here, by name; none after saying that `test` is skipped.
pub(crate) fn models(test: &str) -> Vec<(&'static str, Model)> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let assets =
        std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(workspace).join("../shared/assets"), PathBuf::from);
    let files = MODELS.map(|name| (name, assets.join(format!("models/{name}.onnx"))));
    let (here, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, file)| file.is_file());
    for (name, _) in missing {
        announce(&format!("skipped: {test}: no model {name} among the assets at {}", assets.display()));
    }
    here.into_iter().map(|(name, file)| (name, Model::load(file).expect("a sound model"))).collect()
}

/// The folder that the environment names as `variable`, or `None` after saying that `test` is skipped.
///
/// # Panics
/// Where it names a folder that is not there, and where CI names none: there nothing may be skipped.
pub(crate) fn folder(variable: &str, test: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
        assert!(!ci, "{variable} is not set: `cargo xtask test` fetches the data and sets it");
        announce(&format!("skipped: {test}: no {variable} (`cargo xtask test` sets it)"));
        return None;
    };
    let shown = folder.display();
    assert!(folder.is_dir(), "{variable} names {shown}, which is no folder: `cargo xtask test --only setup` fills it");
    Some(folder)
}
