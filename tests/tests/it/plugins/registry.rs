//! Plugins as a program finds them.

use std::fs;

use nv_perception::{Perception, StageInput, StreamContext};
use nv_plugin_loader::{LoadErrorKind, Origin, Registry};
use nv_plugin_sdk::testing::solid_frame;
use serde_json::json;

use super::{loader, probe_file, stage};

#[test]
fn all_plugins_link_into_one_program() {
    let mut registry = Registry::new();
    for plugin in [nv_models::plugin(), nv_track::plugin(), nv_test_plugin::plugin()] {
        registry.link(plugin).unwrap();
    }
    let names: Vec<_> = registry.plugins().iter().map(|p| p.descriptor.name.as_str()).collect();
    assert_eq!(names, ["models", "track", "test-plugin"]);
    for kind in ["models/detect", "track/bytetrack", "test-plugin/echo", "detect", "bytetrack"] {
        registry.find(kind).unwrap();
    }
    // What is linked may be loaded beside it, under another name.
    registry.load_as("loaded", probe_file()).unwrap();
    assert_eq!(registry.find("loaded/echo").unwrap().kind, "echo");
    assert!(registry.find("echo").unwrap_err().to_string().contains(r#""test-plugin/echo" or "loaded/echo""#));
}

#[test]
fn a_folder_is_searched() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let probe = fs::read(probe_file()).unwrap();
    fs::write(first.path().join("libnv_test_plugin.so"), &probe).unwrap();
    fs::write(first.path().join("README.md"), "not a library").unwrap();
    fs::write(second.path().join("libagain.so"), &probe).unwrap();
    fs::write(second.path().join("libcut.so"), &probe[..5000]).unwrap();

    let mut registry = Registry::with_loader(loader());
    let nowhere = first.path().join("nowhere");
    let refused = registry.search([first.path(), &nowhere, second.path()]);
    let refused: Vec<_> = refused.iter().map(|e| (e.kind(), e.path().to_owned())).collect();
    assert_eq!(refused, [(LoadErrorKind::Truncated, second.path().join("libcut.so"))]);
    let [plugin] = registry.plugins() else { panic!("{:?}", registry.plugins()) };
    let Origin::Loaded(from) = &plugin.origin else { panic!("{:?}", plugin.origin) };
    assert_eq!(from.file.path, first.path().join("libnv_test_plugin.so"));
    assert_eq!((from.file.note.package.as_str(), from.license.as_str()), ("nv-test-plugin", "MIT OR Apache-2.0"));
}

#[test]
fn a_file_that_is_overwritten_or_removed_goes_on_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::copy(probe_file(), &path).unwrap();
    let plugin = loader().load(&path).unwrap().descriptor;
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![0; length]).unwrap();
    fs::remove_file(&path).unwrap();

    let mut stage = stage(&plugin, "keep", json!({"most": 1})).unwrap();
    let stream = StreamContext::new("gate".into(), "keep".into(), 0);
    let (frame, nothing) = (solid_frame(4, 4, [0, 0, 0]), Perception::default());
    assert_eq!(stage.process(&StageInput::new(&stream, &frame, &nothing)).unwrap().signals.len(), 3);
}

#[test]
fn without_a_cache_the_file_itself_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let no_folder = folder.path().join("file");
    fs::write(&no_folder, "").unwrap();
    let loaded = super::loader().with_cache_dir(&no_folder).load(probe_file()).unwrap();
    assert_eq!(loaded.descriptor.name, "test-plugin");
}
