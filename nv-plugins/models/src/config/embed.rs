use nv_plugin_sdk::StageError;

use super::{check_threads, config_schema, model_config};

model_config! {
    /// Config of the kind `embed`.
    ///
    /// Only `model` must be given. What has to do with the model itself may be said by others too: see
    /// [`ModelSettings`](crate::ModelSettings). What nobody says is as for networks that were trained on ImageNet: RGB,
    /// stretched, normalised by that set's mean and deviation; for a model that takes bytes, bytes.
    EmbedConfig {
        /// The network's output to read, by name, where it has several.
        #[serde(default)]
        pub output: Option<String>,
    }
    settings {}
}

impl EmbedConfig {
    pub(crate) const SCHEMA: &'static str = config_schema!(
        "embed",
        "Gives a picture, or an object in it, a vector that tells likeness, with a neural network from an ONNX file.",
        "embed.properties.json"
    );

    /// Whether the values are ones that can be meant.
    ///
    /// # Errors
    /// `Config`, naming the key and what it may be.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        check_threads(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_schema, parse};
    use super::*;

    #[test]
    fn only_the_model_must_be_given() {
        assert_eq!(parse("model = 'm.onnx'"), Ok(EmbedConfig::new("m.onnx")));
        assert_eq!(parse::<EmbedConfig>("model = 'm'\noutput = 'y'").unwrap().output.as_deref(), Some("y"));
        check_schema::<EmbedConfig>(EmbedConfig::SCHEMA);
        let error = EmbedConfig { threads: 0, ..EmbedConfig::new("m") }.check().unwrap_err();
        assert_eq!(error.to_string(), "threads is 0, and must be from 1 to 256");
    }
}
