use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

/// The time in UTC, to the second, as RFC 3339 has it.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Writes the raw result of `comparison` into `folder`, under a name that says its day and the commit that was measured;
/// returns where. `changed`: the code differed from that commit.
pub fn save(
    result: &impl Serialize,
    folder: &Path,
    comparison: &str,
    date: &str,
    commit: &str,
    changed: bool,
) -> Result<PathBuf, String> {
    let day = date.get(..10).unwrap_or("unknown");
    let changed = if changed { "-changed" } else { "" };
    let path = folder.join(format!("{comparison}-{day}-{commit}{changed}.json"));
    let text = serde_json::to_string_pretty(result).map_err(|e| e.to_string())?;
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text + "\n"));
    written.map(|()| path.clone()).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
