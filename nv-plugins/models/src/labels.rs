//! Names of classes: where they come from, and which of them are wanted.

use std::path::Path;

use nv_plugin_sdk::serde::Deserialize;
use nv_plugin_sdk::{Name, StageError, StageErrorKind};

/// Names of a model's classes, in the order of its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    crate = "nv_plugin_sdk::serde",
    untagged,
    expecting = "expected \"coco\", \"voc\", the path of a text file, or a list of names"
)]
pub enum Labels {
    /// `"coco"`: the 80 classes of COCO; `"voc"`: the 20 of PASCAL VOC; anything else: the path of a text file with one name
    /// on each line.
    Named(String),
    /// The names themselves.
    List(Vec<String>),
}

impl Labels {
    /// The names. A path is relative to `base_dir`.
    ///
    /// # Errors
    /// `Resource` where the file can't be read or has no names.
    pub(crate) fn load(&self, base_dir: &Path) -> Result<Vec<Name>, StageError> {
        let file = match self {
            Self::List(names) => return Ok(names.iter().map(|n| Name::new(n)).collect()),
            Self::Named(name) if name == "coco" => return Ok(COCO.iter().map(|n| Name::new(n)).collect()),
            Self::Named(name) if name == "voc" => return Ok(VOC.iter().map(|n| Name::new(n)).collect()),
            Self::Named(file) => base_dir.join(file),
        };
        let text = std::fs::read_to_string(&file).map_err(|e| {
            let message = format!(
                "labels {}: {e}; give \"coco\", \"voc\", the path of a text file with one name on each line, or a list of names",
                file.display()
            );
            StageError::new(StageErrorKind::Resource, message).with_source(e)
        })?;
        let mut names: Vec<_> = text.lines().map(|line| Name::new(line.trim())).collect();
        // Empty lines at the end are an editor's; one in the middle would be a class without a name.
        while names.last().is_some_and(|name| name.is_empty()) {
            names.pop();
        }
        if names.is_empty() {
            let message = format!("labels {}: the file has no names", file.display());
            return Err(StageError::new(StageErrorKind::Resource, message));
        }
        Ok(names)
    }
}

impl From<&[&str]> for Labels {
    fn from(names: &[&str]) -> Self {
        Self::List(names.iter().map(|&n| n.into()).collect())
    }
}

/// The names in a value of a model's metadata: a list in brackets, the Python dictionary that Ultralytics writes
/// (`{0: 'person', 1: 'bicycle'}`), or names between commas or on lines of their own.
pub(crate) fn parse_metadata_names(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .or_else(|| text.strip_prefix('[').and_then(|t| t.strip_suffix(']')));
    let (body, keyed) = (inner.unwrap_or(text), text.starts_with('{'));
    let mut names = Vec::new();
    let mut rest = body;
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        if keyed {
            rest = rest.split_once(':').map_or("", |(_, value)| value).trim_start();
        }
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quoted = quote.and_then(|q| rest[1..].split_once(q));
        let (name, after) = match quoted {
            Some((name, after)) => (name, after.split_once([',', '\n']).map_or("", |(_, after)| after)),
            None => rest.split_once([',', '\n']).unwrap_or((rest, "")),
        };
        names.push(name.trim().to_owned());
        rest = after;
    }
    names
}

/// For each class whether it is wanted; `None`: all are.
///
/// # Errors
/// `Config` for a name that is no class, with the nearest one that is.
pub(crate) fn wanted(classes: &[String], labels: Option<&[Name]>) -> Result<Option<Vec<bool>>, StageError> {
    if classes.is_empty() {
        return Ok(None);
    }
    let labels = labels.ok_or_else(|| {
        StageError::config("classes selects by name, and this model's classes have none: give labels too")
    })?;
    let mut wanted = vec![false; labels.len()];
    for class in classes {
        let mut known = false;
        for (wanted, _) in wanted.iter_mut().zip(labels).filter(|(_, label)| *label == class.as_str()) {
            (*wanted, known) = (true, true);
        }
        if !known {
            let near = labels
                .iter()
                .map(|label| (strsim::damerau_levenshtein(label, class), label))
                .filter(|(edits, label)| *edits <= 1 + label.len() / 4)
                .min_by_key(|(edits, _)| *edits);
            let hint = match near {
                Some((_, label)) => format!("did you mean {:?}?", label.as_str()),
                None if labels.len() <= 20 => format!("there are {}", labels.join(", ")),
                None => format!("there are {}, … ({} in all)", labels[..5].join(", "), labels.len()),
            };
            return Err(StageError::config(format!("classes: the model has no class {class:?}; {hint}")));
        }
    }
    Ok(Some(wanted))
}

/// The classes of COCO's detection task (Lin et al. 2014), in the order that detectors number them.
pub(crate) static COCO: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// The classes of PASCAL VOC (Everingham et al. 2010), in the order that detectors number them.
pub(crate) static VOC: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_a_set_a_file_or_a_list() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("two.txt"), "bolt\r\n nut \n\n").unwrap();
        std::fs::write(folder.path().join("none.txt"), "\n\n").unwrap();
        let load = |labels: Labels| {
            labels.load(folder.path()).map(|names| names.iter().map(|n| n.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(load(Labels::Named("two.txt".into())).unwrap(), ["bolt", "nut"]);
        assert_eq!(load(Labels::List(vec!["a".into()])).unwrap(), ["a"]);
        let coco = load(Labels::Named("coco".into())).unwrap();
        assert_eq!((coco.len(), coco[0].as_str(), coco[79].as_str()), (80, "person", "toothbrush"));
        let voc = load(Labels::Named("voc".into())).unwrap();
        assert_eq!((voc.len(), voc[0].as_str(), voc[14].as_str()), (20, "aeroplane", "person"));
        for (file, text) in [("none.txt", "no names"), ("missing.txt", "one name on each line")] {
            let error = load(Labels::Named(file.into())).unwrap_err();
            assert_eq!(error.kind(), StageErrorKind::Resource);
            assert!(error.to_string().contains(file) && error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn metadata_names_are_read_in_every_form() {
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(parse_metadata_names(text), expected, "{text}");
        }
        check("{0: 'person', 1: 'traffic light', 2: \"driver's cab\"}", &["person", "traffic light", "driver's cab"]);
        check(r#"["a", "b, c"]"#, &["a", "b, c"]);
        check("a, b", &["a", "b"]);
        check("a\nb\n", &["a", "b"]);
        check("", &[]);
        check("{broken", &[""]);
    }

    #[test]
    fn an_unknown_class_gets_a_hint() {
        let labels: Vec<_> = ["person", "car", "bus"].map(Name::new).to_vec();
        let wanted = |classes: &[&str], labels: Option<&[Name]>| {
            wanted(&classes.iter().map(|&c| c.into()).collect::<Vec<_>>(), labels).map_err(|e| e.to_string())
        };
        assert_eq!(wanted(&[], None), Ok(None));
        assert_eq!(wanted(&["bus", "person"], Some(&labels)), Ok(Some(vec![true, false, true])));
        let check = |classes: &[&str], labels: Option<&[Name]>, text: &str| {
            let error = wanted(classes, labels).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        check(&["persom"], Some(&labels), "no class \"persom\"; did you mean \"person\"?");
        check(&["xyzzy"], Some(&labels), "there are person, car, bus");
        check(&["car"], None, "give labels too");
    }
}
