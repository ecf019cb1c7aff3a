use std::path::{Path, PathBuf};

/// Where the plugins that come with the program are looked for: in the folders that `NV_PLUGIN_DIR` names (separated as in
/// `PATH`); without it, in `plugins` beside the executable, and, where that is a build of Cargo's, in `plugins` of the target
/// folder.
pub fn shipped_plugin_dirs() -> Vec<PathBuf> {
    match std::env::var_os("NV_PLUGIN_DIR").filter(|dirs| !dirs.is_empty()) {
        Some(dirs) => std::env::split_paths(&dirs).collect(),
        None => std::env::current_exe().map(|exe| beside(&exe)).unwrap_or_default(),
    }
}

fn beside(executable: &Path) -> Vec<PathBuf> {
    let mut folders = executable.ancestors().skip(1);
    let mut found: Vec<_> = folders.next().map(|folder| folder.join("plugins")).into_iter().collect();
    // `target/debug/nv`, `target/debug/deps/it-…`, `target/x86_64-…/debug/nv`. Cargo marks its folder.
    found.extend(
        folders.take(3).find(|folder| folder.join("CACHEDIR.TAG").exists()).map(|target| target.join("plugins")),
    );
    found
}

/// The libraries in a folder, by name; none where it can't be read.
pub(crate) fn libraries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(std::env::consts::DLL_PREFIX) && name.ends_with(std::env::consts::DLL_SUFFIX)
    };
    let mut libraries: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).filter(is_library).collect();
    libraries.sort();
    libraries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_beside_the_executable_and_in_cargos_folder() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        let check = |exe: &str, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|e| root.path().join(e)).collect();
            assert_eq!(beside(&root.path().join(exe)), expected, "{exe}");
        };
        check("target/debug/nv", &["target/debug/plugins"]);
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        check("target/debug/nv", &["target/debug/plugins", "target/plugins"]);
        check("target/debug/deps/it-0123", &["target/debug/deps/plugins", "target/plugins"]);
        check("bin/nv", &["bin/plugins"]);
    }

    #[test]
    fn only_libraries_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for name in ["libb.so", "liba.so", "a.so", "liba.so.d", "README"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let names: Vec<_> = libraries(root.path()).iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        if cfg!(target_os = "linux") {
            assert_eq!(names, ["liba.so", "libb.so"]);
        }
        assert!(libraries(&root.path().join("nowhere")).is_empty());
    }
}
