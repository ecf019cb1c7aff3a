//! The plugin boundary: the same plugin linked and loaded, refusals, faults, logs.

mod equality;
mod faults;
mod logs;
mod refusals;
mod registry;
mod sharing;

use std::path::PathBuf;
use std::sync::LazyLock;

use nv_perception::{BatchProcessor, BuildContext, Creator, PluginDescriptor, Stage, StageError};
use nv_plugin_loader::Loader;
use serde_json::Value;

use crate::support::plugin_file;

/// The test plugin's file.
fn probe_file() -> PathBuf {
    plugin_file("libnv_test_plugin.so")
}

/// A loader whose copies are in the target folder, not in the user's cache.
fn loader() -> Loader {
    Loader::new().with_cache_dir(concat!(env!("CARGO_TARGET_TMPDIR"), "/plugin-cache"))
}

/// The test plugin, loaded: once, since a property asks for it often.
fn loaded() -> PluginDescriptor {
    static LOADED: LazyLock<PluginDescriptor> = LazyLock::new(|| loader().load(probe_file()).unwrap().descriptor);
    LOADED.clone()
}

/// The test plugin, as a part of this program.
fn linked() -> PluginDescriptor {
    nv_test_plugin::plugin()
}

fn stage(plugin: &PluginDescriptor, kind: &str, config: Value) -> Result<Box<dyn Stage>, StageError> {
    match &plugin.kind(kind).unwrap().creator {
        Creator::Stage(create) => create(&config, &BuildContext::new("/etc/nv")),
        Creator::Batch(_) => panic!("{kind} is a batch kind"),
    }
}

fn batch(plugin: &PluginDescriptor, kind: &str, config: Value) -> Result<Box<dyn BatchProcessor>, StageError> {
    match &plugin.kind(kind).unwrap().creator {
        Creator::Batch(create) => create(&config, &BuildContext::new("/etc/nv")),
        Creator::Stage(_) => panic!("{kind} is a stage kind"),
    }
}

/// All that an error says.
fn told(error: &StageError) -> String {
    let causes: Vec<_> =
        std::iter::successors(std::error::Error::source(error), |&e| e.source()).map(ToString::to_string).collect();
    format!("{:?}: {} [{}] {causes:?}", error.kind(), error.message(), error.detail())
}
