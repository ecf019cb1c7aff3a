use std::path::PathBuf;

use nv_infer::Device;
use nv_plugin_sdk::StageError;
use nv_plugin_sdk::serde::Deserialize;

use crate::labels::Labels;
use crate::settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

/// Config of the kind `detect`.
///
/// Only `model` must be given. Everything that has to do with the model itself has a default that depends on the model: see
/// [`ModelSettings`] for who else may say it. What was chosen, and who said so, is logged.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct DetectConfig {
    /// The ONNX file, relative to the config file.
    pub model: PathBuf,
    /// Names of the classes: `"coco"`, a text file with one name on each line, or a list. Default: by the model.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Classes to keep, by name. Default: all.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Detections with a lower score, 0 to 1, are dropped. Default 0.1: a tracker makes use of uncertain ones.
    #[serde(default = "default_threshold")]
    pub threshold: f32,
    /// Of two boxes of one class that overlap by more than this IoU, 0 to 1, the lesser is dropped. Default: by the model,
    /// mostly 0.45.
    #[serde(default)]
    pub nms_iou: Option<f32>,
    /// The most detections in one frame or region; the best are kept. Default 300.
    #[serde(default = "default_max_detections")]
    pub max_detections: usize,
    /// The family of detectors: `yolox`, `fastestdet`, `ultraface`, `yunet` or `centerface`. Default: by the shapes of the
    /// model's outputs.
    #[serde(default)]
    pub family: Option<String>,
    /// Width and height of the network's input in pixels, for models that take any. Default: by the model.
    #[serde(default)]
    pub input_size: Option<[u32; 2]>,
    /// How a picture is brought to that size. Default: by the model.
    #[serde(default)]
    pub resize: Option<ResizeMode>,
    /// Sample value, 0 to 255, of what the picture does not cover. Default: by the model.
    #[serde(default)]
    pub pad_value: Option<u8>,
    /// Which colour comes first. Default: by the model.
    #[serde(default)]
    pub color_order: Option<ColorOrder>,
    /// The network gets `(sample · scale − mean) / std`, samples being 0 to 255. Default: by the model.
    #[serde(default)]
    pub scale: Option<f32>,
    /// See `scale`; one number, or three in the network's order of colours. Default: by the model.
    #[serde(default)]
    pub mean: Option<PerChannel>,
    /// See `scale`; one number, or three in the network's order of colours. Default: by the model.
    #[serde(default)]
    pub std: Option<PerChannel>,
    /// Threads that one instance uses. Default 1: several instances do more than several threads.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// What to run on: `auto`, `cpu`, `gpu` or `software`. Default `auto`.
    #[serde(default)]
    pub device: Device,
}

fn default_threshold() -> f32 {
    0.1
}

fn default_max_detections() -> usize {
    300
}

fn default_threads() -> usize {
    1
}

impl DetectConfig {
    /// The config of a model with everything else at its default.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            labels: None,
            classes: Vec::new(),
            threshold: default_threshold(),
            nms_iou: None,
            max_detections: default_max_detections(),
            family: None,
            input_size: None,
            resize: None,
            pad_value: None,
            color_order: None,
            scale: None,
            mean: None,
            std: None,
            threads: default_threads(),
            device: Device::default(),
        }
    }

    /// What it says of the model.
    pub(crate) fn settings(&self) -> ModelSettings {
        ModelSettings {
            family: self.family.clone(),
            labels: self.labels.clone(),
            input_size: self.input_size,
            resize: self.resize,
            pad_value: self.pad_value,
            color_order: self.color_order,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
            nms_iou: self.nms_iou,
        }
    }

    /// Whether the numbers are ones that can be meant.
    ///
    /// # Errors
    /// `Config`, naming the key and what it may be.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        let wrong = |key: &str, value: String, may: &str| {
            Err(StageError::config(format!("{key} is {value}, and must be {may}")))
        };
        if !(0.0..=1.0).contains(&self.threshold) {
            return wrong("threshold", self.threshold.to_string(), "from 0 to 1");
        }
        if self.max_detections == 0 {
            return wrong("max_detections", "0".into(), "at least 1");
        }
        if !(1..=256).contains(&self.threads) {
            return wrong("threads", self.threads.to_string(), "from 1 to 256");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DetectConfig, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn only_the_model_must_be_given() {
        assert_eq!(parse("model = 'm.onnx'").unwrap(), DetectConfig::new("m.onnx"));
        assert_eq!(parse("").unwrap_err(), "missing field `model`");
        let all = parse(
            "model = 'm.onnx'\nlabels = ['a', 'b']\nclasses = ['a']\nthreshold = 0.2\nnms_iou = 0.5\nmax_detections = 9\n\
             family = 'yolox'\ninput_size = [640, 480]\nresize = 'letterbox_center'\npad_value = 1\n\
             color_order = 'bgr'\nscale = 0.5\nmean = 1\nstd = [1, 2, 3]\nthreads = 2\ndevice = 'cpu'",
        )
        .unwrap();
        assert_eq!(all.input_size, Some([640, 480]));
        assert_eq!(all.std.unwrap().values(), [1.0, 2.0, 3.0]);
        assert_eq!(all.settings().resize, Some(ResizeMode::LetterboxCenter));
    }

    #[test]
    fn the_schema_and_the_type_have_the_same_keys() {
        let schema: nv_plugin_sdk::serde_json::Value =
            nv_plugin_sdk::serde_json::from_str(include_str!("detect.schema.json")).unwrap();
        let keys = schema["properties"].as_object().unwrap();
        let error = parse("model = 'm'\nno_such_key = 1").unwrap_err();
        for key in keys.keys() {
            assert!(error.contains(&format!("`{key}`")), "{key} in {error}");
        }
        assert_eq!(error.matches('`').count(), 2 * (keys.len() + 1), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let check = |change: fn(&mut DetectConfig), expected: &str| {
            let mut config = DetectConfig::new("m.onnx");
            change(&mut config);
            assert_eq!(config.check().unwrap_err().to_string(), expected);
        };
        check(|c| c.threshold = 1.5, "threshold is 1.5, and must be from 0 to 1");
        check(|c| c.threshold = f32::NAN, "threshold is NaN, and must be from 0 to 1");
        check(|c| c.max_detections = 0, "max_detections is 0, and must be at least 1");
        check(|c| c.threads = 0, "threads is 0, and must be from 1 to 256");
        assert!(DetectConfig::new("m.onnx").check().is_ok());
    }
}
