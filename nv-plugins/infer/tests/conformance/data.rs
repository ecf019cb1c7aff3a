//! Data of others that tests compare with. `cargo xtask test` fetches it and names its place in the environment.

use std::path::PathBuf;

use crate::announce;

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
