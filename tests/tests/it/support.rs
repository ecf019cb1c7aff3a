//! Where the tests find what is not in the project, or built apart.

use std::path::{Path, PathBuf};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the workspace")
}

/// The folder of real models, clips and ground truth; `None`, and a line that says so, where there is none.
pub(crate) fn assets(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("NV_ASSETS").map_or_else(|| workspace().join("../shared/assets"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    #[expect(clippy::print_stdout, reason = "a skipped test is to be named")]
    {
        println!("skipped: {test}: no assets at {}", folder.display());
    }
    None
}

/// A plugin that `cargo xtask plugins` has built.
pub(crate) fn plugin_file(name: &str) -> PathBuf {
    let folder = std::env::var_os("NV_PLUGIN_DIR").map_or_else(
        || {
            // The test runs from <target>/<profile>/deps.
            let test = std::env::current_exe().expect("a running program has a path");
            test.ancestors().nth(3).expect("a test lies three folders deep in the target folder").join("plugins")
        },
        PathBuf::from,
    );
    let file = folder.join(name);
    assert!(file.is_file(), "{} is missing: run `cargo xtask plugins` first", file.display());
    file
}
