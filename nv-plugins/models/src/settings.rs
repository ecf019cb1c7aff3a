//! What is to be known of a model to use it, and who may say so.

use std::fmt;
use std::path::{Path, PathBuf};

use nv_infer::Model;
use nv_plugin_sdk::serde::Deserialize;
use nv_plugin_sdk::{StageError, StageErrorKind};

use crate::activation::Activation;
use crate::labels::{self, Labels};
use crate::priors::Priors;

/// How a picture is brought to the size of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", rename_all = "snake_case")]
pub enum ResizeMode {
    /// Aspect kept, at the top left, the rest padded.
    Letterbox,
    /// Aspect kept, in the middle, the rest padded.
    LetterboxCenter,
    /// Both sides stretched to the input's.
    Stretch,
    /// Not resized; padded right and below to the model's stride. For models whose input is open.
    PadToMultiple,
    /// Each side stretched to the next multiple of the model's stride. For models whose input is open.
    StretchToMultiple,
}

/// Which colour comes first in a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", rename_all = "snake_case")]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// A number for every colour channel, or one for all.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", untagged, expecting = "expected a number or a list of three numbers")]
pub enum PerChannel {
    /// The same for all.
    One(f32),
    /// One for each, in the order of the network's input.
    Three([f32; 3]),
}

impl PerChannel {
    pub(crate) fn values(self) -> [f32; 3] {
        match self {
            Self::One(value) => [value; 3],
            Self::Three(values) => values,
        }
    }
}

/// What is to be known of a model to use it. All of it may be given in config, in a file `model.toml` beside `model.onnx`,
/// or in the ONNX file's own metadata under keys that begin with `nv.`; what nobody says is what the family's authors
/// publish, or what is usual for the task. The first that says something counts, in that order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields, default)]
pub struct ModelSettings {
    /// The family of detectors, by name. Default: by the shapes of the outputs.
    pub family: Option<String>,
    /// Names of the classes.
    pub labels: Option<Labels>,
    /// Width and height of the network's input in pixels, for models that take any.
    pub input_size: Option<[u32; 2]>,
    /// How a picture is brought to that size.
    pub resize: Option<ResizeMode>,
    /// Sample value, 0 to 255, of what the picture does not cover.
    pub pad_value: Option<u8>,
    /// Which colour comes first.
    pub color_order: Option<ColorOrder>,
    /// Samples, 0 to 255, are multiplied by this first.
    pub scale: Option<f32>,
    /// Then this is taken away.
    pub mean: Option<PerChannel>,
    /// Then they are divided by this.
    pub std: Option<PerChannel>,
    /// Of two boxes of one class that overlap by more than this IoU, the lesser is dropped. For detectors.
    pub nms_iou: Option<f32>,
    /// What makes scores of the network's values. For classifiers, and for detectors whose exports differ in it.
    pub activation: Option<Activation>,
    /// The prior boxes of an SSD.
    pub priors: Option<Priors>,
}

/// The keys of [`ModelSettings`].
const KEYS: [&str; 12] = [
    "family",
    "labels",
    "input_size",
    "resize",
    "pad_value",
    "color_order",
    "scale",
    "mean",
    "std",
    "nms_iou",
    "activation",
    "priors",
];

impl ModelSettings {
    /// Pixels as they are, stretched, in RGB.
    pub(crate) fn plain() -> Self {
        Self {
            resize: Some(ResizeMode::Stretch),
            pad_value: Some(0),
            color_order: Some(ColorOrder::Rgb),
            scale: Some(1.0),
            mean: Some(PerChannel::One(0.0)),
            std: Some(PerChannel::One(1.0)),
            nms_iou: Some(0.45),
            ..Self::default()
        }
    }
}

/// Who said something of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Config,
    SideCar,
    Metadata,
    Published,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::SideCar => "the file beside the model",
            Self::Metadata => "the model's metadata",
            Self::Published => "the published default",
        })
    }
}

/// What one of them said, and the folder that its paths are relative to.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) origin: Origin,
    pub(crate) settings: ModelSettings,
    pub(crate) base_dir: PathBuf,
}

/// What all of them said, the one that counts first.
#[derive(Clone, Debug)]
pub(crate) struct Layers(Vec<Layer>);

impl Layers {
    /// What config, the file beside the model and the model's metadata say.
    ///
    /// # Errors
    /// `Resource` where the file beside the model can't be read or is wrong.
    pub(crate) fn collect(config: ModelSettings, base_dir: &Path, model: &Model) -> Result<Self, StageError> {
        let beside = model.path().parent().unwrap_or(Path::new("")).to_path_buf();
        let mut layers = vec![Layer { origin: Origin::Config, settings: config, base_dir: base_dir.into() }];
        if let Some(settings) = side_car(model.path())? {
            layers.push(Layer { origin: Origin::SideCar, settings, base_dir: beside.clone() });
        }
        let settings = metadata(model)?;
        layers.push(Layer { origin: Origin::Metadata, settings, base_dir: beside });
        Ok(Self(layers))
    }

    /// Adds what the model's authors publish, or what is usual for its task, which counts last.
    pub(crate) fn push_published(&mut self, settings: ModelSettings) {
        self.0.push(Layer { origin: Origin::Published, settings, base_dir: PathBuf::new() });
    }

    /// What the first layer that says something says, with that layer.
    pub(crate) fn pick<T>(&self, field: impl Fn(&ModelSettings) -> Option<T>) -> Option<(T, &Layer)> {
        self.0.iter().find_map(|layer| Some((field(&layer.settings)?, layer)))
    }

    /// Who says it, for the log.
    pub(crate) fn origin<T>(&self, field: impl Fn(&ModelSettings) -> Option<T>) -> String {
        self.pick(field).map_or_else(|| "nobody".into(), |(_, layer)| layer.origin.to_string())
    }
}

/// The settings in the file beside the model, if there is one.
fn side_car(model: &Path) -> Result<Option<ModelSettings>, StageError> {
    let file = model.with_extension("toml");
    let wrong = |what: String| StageError::new(StageErrorKind::Resource, format!("{}: {what}", file.display()));
    match std::fs::read_to_string(&file) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|e| wrong(e.to_string().trim_end().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(wrong(format!("can't be read: {e}"))),
    }
}

/// The settings in a model's metadata. Keys that this version does not know are named in the log and passed over: the file
/// may be meant for a later one.
fn metadata(model: &Model) -> Result<ModelSettings, StageError> {
    let mut table = toml::Table::new();
    for (key, text) in model.metadata() {
        let Some(key) = key.strip_prefix("nv.") else { continue };
        if !KEYS.contains(&key) {
            nv_plugin_sdk::tracing::warn!(model = %model.path().display(), "metadata key nv.{key} is not known and has no effect");
            continue;
        }
        // A TOML value, or a bare word.
        let value = toml::from_str::<toml::Table>(&format!("v = {text}"))
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| toml::Value::String(text.clone()));
        table.insert(key.into(), value);
    }
    let mut settings: ModelSettings = table.try_into().map_err(|e: toml::de::Error| {
        let message = format!("model {}: metadata keys nv.*: {}", model.path().display(), e.message());
        StageError::new(StageErrorKind::Resource, message)
    })?;
    if settings.labels.is_none() {
        // As Ultralytics writes it.
        settings.labels = model.metadata().get("names").map(|text| Labels::List(labels::parse_metadata_names(text)));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use nv_infer::testing::OnnxBuilder;

    use super::*;

    fn model(folder: &Path, metadata: &[(&str, &str)]) -> Model {
        let mut builder = OnnxBuilder::new().node("Identity", &["x"], &["y"]).output("y", &[1.into()]);
        for (key, value) in metadata {
            builder = builder.metadata(key, value);
        }
        Model::from_bytes(folder.join("m.onnx"), builder.build()).unwrap()
    }

    #[test]
    fn the_first_who_says_something_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.toml"), "scale = 2.0\nmean = [1, 2, 3]\nresize = \"stretch\"").unwrap();
        let config = ModelSettings { scale: Some(3.0), ..ModelSettings::default() };
        let model = model(
            folder.path(),
            &[("nv.std", "5"), ("nv.mean", "9"), ("nv.color_order", "bgr"), ("names", "{0: 'a'}"), ("author", "x")],
        );
        let mut layers = Layers::collect(config, Path::new("/base"), &model).unwrap();
        layers.push_published(ModelSettings::plain());
        let scale = layers.pick(|s| s.scale).unwrap();
        assert_eq!((scale.0, scale.1.origin, scale.1.base_dir.as_path()), (3.0, Origin::Config, Path::new("/base")));
        let mean = layers.pick(|s| s.mean).unwrap();
        assert_eq!((mean.0.values(), mean.1.origin), ([1.0, 2.0, 3.0], Origin::SideCar));
        assert_eq!(mean.1.base_dir, folder.path());
        let std = layers.pick(|s| s.std).unwrap();
        assert_eq!((std.0, std.1.origin), (PerChannel::One(5.0), Origin::Metadata));
        assert_eq!(layers.pick(|s| s.color_order).unwrap().0, ColorOrder::Bgr);
        assert_eq!(layers.pick(|s| s.labels.clone()).unwrap().0, Labels::List(vec!["a".into()]));
        let pad = layers.pick(|s| s.pad_value).unwrap();
        assert_eq!((pad.0, pad.1.origin), (0, Origin::Published));
        assert!(layers.pick(|s| s.input_size).is_none());
    }

    #[test]
    fn a_wrong_file_beside_the_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: &str| {
            std::fs::write(folder.path().join("m.toml"), text).unwrap();
            let model = model(folder.path(), &[]);
            let error = Layers::collect(ModelSettings::default(), Path::new(""), &model).unwrap_err();
            assert_eq!(error.kind(), StageErrorKind::Resource);
            let error = error.to_string();
            assert!(error.contains("m.toml") && error.contains(expected), "{error}");
        };
        check("colour = \"rgb\"", "unknown field `colour`");
        check("scale = \"big\"", "invalid type");
        check("scale", "TOML parse error");
    }

    #[test]
    fn metadata_of_a_wrong_type_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), &[("nv.scale", "big")]);
        let error = Layers::collect(ModelSettings::default(), Path::new(""), &model).unwrap_err().to_string();
        assert!(error.contains("m.onnx: metadata keys nv.*: invalid type"), "{error}");
    }

    #[test]
    fn every_key_is_known() {
        let error = toml::from_str::<ModelSettings>("no_such_key = 1").unwrap_err().to_string();
        for key in KEYS {
            assert!(error.contains(&format!("`{key}`")), "{key} in {error}");
        }
        assert_eq!(error.matches('`').count(), 2 * (KEYS.len() + 1), "{error}");
    }
}
