use nv_plugin_sdk::StageError;

use super::{check_share, check_threads, config_schema, model_config, wrong};
use crate::activation::Activation;
use crate::labels::Labels;

model_config! {
    /// Config of the kind `classify`.
    ///
    /// Only `model` must be given. What has to do with the model itself may be said by others too: see
    /// [`ModelSettings`](crate::ModelSettings). What nobody says is as for networks that were trained on ImageNet: RGB,
    /// stretched, normalised by that set's mean and deviation; for a model that takes bytes, bytes.
    ClassifyConfig {
        /// Names of the classes: `"coco"`, `"voc"`, a text file with one name on each line, or a list. Default: by the
        /// model; a class without a name is given by its number.
        #[serde(default)]
        pub labels: Option<Labels>,
        /// What the finding is called, as in `"colour"`. Default `"label"`.
        #[serde(default = "default_attribute")]
        pub attribute: String,
        /// How many classes are given, the best first, up to 100. Default 1.
        #[serde(default = "super::one")]
        pub top: usize,
        /// Classes with a lower score, 0 to 1, are not given. Default 0.
        #[serde(default)]
        pub threshold: f32,
        /// What makes scores of the network's values. Default: none where they are scores already, else softmax.
        #[serde(default)]
        pub activation: Option<Activation>,
        /// The network's output to read, by name, where it has several.
        #[serde(default)]
        pub output: Option<String>,
    }
    settings { labels, activation }
}

/// Each class is two attributes of every object.
const MOST_CLASSES: usize = 100;

fn default_attribute() -> String {
    "label".into()
}

impl ClassifyConfig {
    pub(crate) const SCHEMA: &'static str = config_schema!(
        "classify",
        "Tells what a picture, or an object in it, is with a neural network from an ONNX file.",
        "classify.properties.json"
    );

    /// Whether the values are ones that can be meant.
    ///
    /// # Errors
    /// `Config`, naming the key and what it may be.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        check_share("threshold", self.threshold)?;
        if self.attribute.trim().is_empty() {
            return Err(wrong("attribute", "empty", "a name"));
        }
        if !(1..=MOST_CLASSES).contains(&self.top) {
            return Err(wrong("top", self.top, &format!("from 1 to {MOST_CLASSES}")));
        }
        check_threads(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ModelConfig as _;
    use super::super::tests::{check_schema, parse};
    use super::*;

    #[test]
    fn only_the_model_must_be_given() {
        assert_eq!(parse("model = 'm.onnx'"), Ok(ClassifyConfig::new("m.onnx")));
        let all = parse::<ClassifyConfig>(
            "model = 'm.onnx'\nlabels = ['a', 'b']\nattribute = 'colour'\ntop = 2\nthreshold = 0.5\n\
             activation = 'sigmoid'\noutput = 'y'\nscale = 2.0",
        )
        .unwrap();
        assert_eq!((all.attribute.as_str(), all.top), ("colour", 2));
        assert_eq!(all.settings().activation, Some(Activation::Sigmoid));
        assert_eq!(all.settings().scale, Some(2.0));
        check_schema::<ClassifyConfig>(ClassifyConfig::SCHEMA);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let check = |change: fn(&mut ClassifyConfig), expected: &str| {
            let mut config = ClassifyConfig::new("m.onnx");
            change(&mut config);
            assert_eq!(config.check().unwrap_err().to_string(), expected);
        };
        check(|c| c.threshold = -1.0, "threshold is -1, and must be from 0 to 1");
        check(|c| c.attribute = " ".into(), "attribute is empty, and must be a name");
        check(|c| c.top = 0, "top is 0, and must be from 1 to 100");
        check(|c| c.threads = 999, "threads is 999, and must be from 1 to 256");
        assert!(ClassifyConfig::new("m.onnx").check().is_ok());
    }
}
