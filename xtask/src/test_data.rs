//! What others computed, for tests to compare with: ONNX's own node tests, and what onnxruntime gives for whole models.
//! Fetched or made once, into a folder that outlives clean builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::fetch::{self, PackageFolder};
use crate::{Result, process, python};

const NODE_TESTS: PackageFolder = PackageFolder {
    name: "onnx",
    version: "1.17.0",
    member: "onnx/backend/test/data/node",
    sha256: "7758de641def9a715dd51d9125f01a1e8f5b0561c7663d7e9bd17fa3fc6cf328",
};

/// What computes the reference outputs, and what reads the picture.
const REQUIREMENTS: [&str; 2] = ["onnxruntime==1.32.0", "pillow==13.0.0"];
const SCRIPT: &str = include_str!("reference.py");
/// The picture that it is given, among the assets. It shows a person and a face.
const PICTURE: &str = "images/astronaut.png";

/// Where the data is, or is to be.
pub(crate) struct TestData {
    folder: PathBuf,
    /// What follows from models and a picture; `None` without those: then no test looks for it.
    reference: Option<Reference>,
}

struct Reference {
    assets: PathBuf,
    /// Its name says what it was made from, so that other models get other outputs.
    place: PathBuf,
}

impl TestData {
    /// The data that belongs to these assets.
    pub(crate) fn of(assets: Option<&Path>) -> Result<Self> {
        let folder = process::cargo_home()?.join("nextvision-test-data");
        let usable = assets.filter(|assets| assets.join("models").is_dir() && assets.join(PICTURE).is_file());
        let reference = usable.map(|assets| {
            let place = folder.join(format!("reference-{}", fingerprint(assets)?));
            Ok::<_, Box<dyn std::error::Error>>(Reference { assets: assets.into(), place })
        });
        Ok(Self { reference: reference.transpose()?, folder })
    }

    /// Gets what is missing.
    pub(crate) fn fetch(&self) -> Result<()> {
        fetch::take_folder(&NODE_TESTS, &self.node_tests())?;
        let Some(Reference { assets, place }) = &self.reference else { return Ok(()) };
        if place.is_dir() {
            return Ok(());
        }
        let python = python::environment(&self.folder.join("python"), &REQUIREMENTS)?;
        let script = self.folder.join("reference.py");
        fs::write(&script, SCRIPT).map_err(|error| format!("cannot write {}: {error}", script.display()))?;
        // Whatever has the name is complete.
        let part = self.folder.join(format!(".reference-{}", std::process::id()));
        let mut command = Command::new(python);
        command.arg(&script).arg(assets.join("models")).arg(assets.join(PICTURE)).arg(&part);
        let made = process::run(&mut command);
        let named = made.and_then(|()| {
            fs::rename(&part, place).map_err(|error| format!("cannot write {}: {error}", place.display()).into())
        });
        let _ = fs::remove_dir_all(&part);
        named
    }

    /// The places by the names under which tests look for them, whether there is anything or not: where nothing is, the test
    /// fails and says so.
    pub(crate) fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let reference = self.reference.as_ref().map(|r| ("NV_REFERENCE_OUTPUTS", r.place.clone()));
        [("NV_ONNX_NODE_TESTS", self.node_tests())].into_iter().chain(reference).collect()
    }

    fn node_tests(&self) -> PathBuf {
        self.folder.join(format!("{}-{}-node-tests", NODE_TESTS.name, NODE_TESTS.version))
    }
}

/// Of all that reference outputs depend on.
fn fingerprint(assets: &Path) -> Result<String> {
    let unreadable = |path: &Path, error| format!("cannot read {}: {error}", path.display());
    let models = assets.join("models");
    let entries = fs::read_dir(&models).map_err(|error| unreadable(&models, error))?;
    let mut files = vec![assets.join(PICTURE)];
    files.extend(
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "onnx")),
    );
    files.sort();
    let mut hash = Sha256::new();
    hash.update(SCRIPT);
    hash.update(REQUIREMENTS.join("\n"));
    for file in files {
        hash.update(fetch::sha256_of(&file).map_err(|error| unreadable(&file, error))?);
    }
    Ok(fetch::hex(&hash.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_and_pictures_have_other_references() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
            fs::write(path, content).expect("writable");
        };
        let place = || {
            let data = TestData::of(Some(folder.path())).expect("a folder for tools");
            let variables = data.variables();
            assert_eq!(
                variables.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                ["NV_ONNX_NODE_TESTS", "NV_REFERENCE_OUTPUTS"]
            );
            variables[1].1.clone()
        };
        write("models/m.onnx", "a");
        write(PICTURE, "picture");
        let first = place();
        write("models/README.md", "about the models");
        assert_eq!(place(), first);
        write("models/m.onnx", "b");
        let second = place();
        write(PICTURE, "another");
        let third = place();
        assert!(first != second && second != third, "{first:?} {second:?} {third:?}");
    }

    #[test]
    fn without_assets_there_is_nothing_to_compare_models_with() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        for assets in [None, Some(empty.path())] {
            let data = TestData::of(assets).expect("a folder for tools");
            assert_eq!(data.variables().len(), 1);
        }
    }
}
