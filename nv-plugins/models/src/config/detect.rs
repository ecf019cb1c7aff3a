use nv_plugin_sdk::StageError;

use super::{check_share, check_threads, config_schema, model_config, wrong};
use crate::activation::Activation;
use crate::labels::Labels;
use crate::priors::Priors;

model_config! {
    /// Config of the kind `detect`.
    ///
    /// Only `model` must be given. Everything that has to do with the model itself has a default that depends on the model:
    /// see [`ModelSettings`](crate::ModelSettings) for who else may say it. What was chosen, and who said so, is logged.
    DetectConfig {
        /// Names of the classes: `"coco"`, `"voc"`, a text file with one name on each line, or a list. Default: by the
        /// model.
        #[serde(default)]
        pub labels: Option<Labels>,
        /// Classes to keep, by name. Default: all.
        #[serde(default)]
        pub classes: Vec<String>,
        /// Detections with a lower score, 0 to 1, are dropped. Default 0.1: a tracker makes use of uncertain ones.
        #[serde(default = "default_threshold")]
        pub threshold: f32,
        /// Of two boxes of one class that overlap by more than this IoU, 0 to 1, the lesser is dropped. Default: by the
        /// model, mostly 0.45.
        #[serde(default)]
        pub nms_iou: Option<f32>,
        /// The most detections in one frame or region; the best are kept. Default 300.
        #[serde(default = "default_max_detections")]
        pub max_detections: usize,
        /// The family of detectors: `yolox`, `yolov5`, `yolov8`, `nanodet`, `fastestdet`, `ssd`, `centernet`, `ultraface`,
        /// `yunet` or `centerface`. Default: by the shapes of the model's outputs.
        #[serde(default)]
        pub family: Option<String>,
        /// What makes scores of the network's values, for families whose exports differ in it. Default: by the values that
        /// the network gives.
        #[serde(default)]
        pub activation: Option<Activation>,
        /// The prior boxes of an SSD. Default: by the number of boxes and classes.
        #[serde(default)]
        pub priors: Option<Priors>,
    }
    settings { family, labels, nms_iou, activation, priors }
}

fn default_threshold() -> f32 {
    0.1
}

fn default_max_detections() -> usize {
    300
}

impl DetectConfig {
    pub(crate) const SCHEMA: &'static str =
        config_schema!("detect", "Finds objects with a neural network from an ONNX file.", "detect.properties.json");

    /// Whether the numbers are ones that can be meant.
    ///
    /// # Errors
    /// `Config`, naming the key and what it may be.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        check_share("threshold", self.threshold)?;
        if self.max_detections == 0 {
            return Err(wrong("max_detections", 0, "at least 1"));
        }
        check_threads(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::serde_json::{self, Value, json};

    use super::super::ModelConfig as _;
    use super::super::tests::{check_schema, parse};
    use super::*;
    use crate::families::FAMILIES;
    use crate::priors;
    use crate::settings::ResizeMode;

    #[test]
    fn only_the_model_must_be_given() {
        assert_eq!(parse("model = 'm.onnx'"), Ok(DetectConfig::new("m.onnx")));
        assert_eq!(parse::<DetectConfig>("").unwrap_err(), "missing field `model`");
        let all: DetectConfig = parse(
            "model = 'm.onnx'\nlabels = ['a', 'b']\nclasses = ['a']\nthreshold = 0.2\nnms_iou = 0.5\nmax_detections = 9\n\
             family = 'yolox'\ninput_size = [640, 480]\nresize = 'letterbox_center'\npad_value = 1\n\
             color_order = 'bgr'\nscale = 0.5\nmean = 1\nstd = [1, 2, 3]\nthreads = 2\ndevice = 'cpu'\n\
             activation = 'softmax'\npriors = 'ssd300_voc'",
        )
        .unwrap();
        assert_eq!(all.input_size, Some([640, 480]));
        assert_eq!(all.std.unwrap().values(), [1.0, 2.0, 3.0]);
        assert_eq!(all.settings().resize, Some(ResizeMode::LetterboxCenter));
        assert_eq!(all.settings().nms_iou, Some(0.5));
    }

    #[test]
    fn the_schema_and_the_type_have_the_same_keys_and_names() {
        check_schema::<DetectConfig>(DetectConfig::SCHEMA);
        let schema: Value = serde_json::from_str(DetectConfig::SCHEMA).unwrap();
        let families: Vec<_> = FAMILIES.iter().map(|f| f.name).collect();
        assert_eq!(schema["properties"]["family"]["enum"], json!(families));
        assert_eq!(schema["properties"]["priors"]["oneOf"][0]["enum"], json!(priors::names()));
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
