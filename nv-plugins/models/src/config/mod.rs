//! The config of each kind. What the kinds have in common is written once, in [`model_config`].

mod classify;
mod detect;
mod embed;

use std::path::Path;

use nv_infer::Device;
use nv_plugin_sdk::StageError;

pub use classify::ClassifyConfig;
pub use detect::DetectConfig;
pub use embed::EmbedConfig;

use crate::settings::ModelSettings;

/// A config that names a model: what every kind's has.
pub(crate) trait ModelConfig {
    /// The ONNX file.
    fn model(&self) -> &Path;

    /// What the config says of the model.
    fn settings(&self) -> ModelSettings;

    /// Threads of one instance.
    fn threads(&self) -> usize;

    /// What to run on.
    fn device(&self) -> Device;
}

/// Declares a kind's config: its own fields, then those that every kind has, and what is made of them.
///
/// Own fields stand as in any struct that serde reads. `settings` are those that belong to
/// [`ModelSettings`] under the same name.
macro_rules! model_config {
    ($(#[$about:meta])* $name:ident { $($own:tt)* } settings { $($setting:ident),* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, nv_plugin_sdk::serde::Deserialize)]
        #[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
        pub struct $name {
            /// The ONNX file, relative to the config file.
            pub model: std::path::PathBuf,
            $($own)*
            /// Width and height of the network's input in pixels, for models that take any. Default: by the model.
            #[serde(default)]
            pub input_size: Option<[u32; 2]>,
            /// How a picture is brought to that size. Default: by the model.
            #[serde(default)]
            pub resize: Option<crate::settings::ResizeMode>,
            /// Sample value, 0 to 255, of what the picture does not cover. Default: by the model.
            #[serde(default)]
            pub pad_value: Option<u8>,
            /// Which colour comes first. Default: by the model.
            #[serde(default)]
            pub color_order: Option<crate::settings::ColorOrder>,
            /// The network gets `(sample · scale − mean) / std`, samples being 0 to 255. Default: by the model.
            #[serde(default)]
            pub scale: Option<f32>,
            /// See `scale`; one number, or three in the network's order of colours. Default: by the model.
            #[serde(default)]
            pub mean: Option<crate::settings::PerChannel>,
            /// See `scale`; one number, or three in the network's order of colours. Default: by the model.
            #[serde(default)]
            pub std: Option<crate::settings::PerChannel>,
            /// Threads that one instance uses. Default 1: several instances do more than several threads.
            #[serde(default = "crate::config::one")]
            pub threads: usize,
            /// What to run on: `auto`, `cpu`, `gpu` or `software`. Default `auto`.
            #[serde(default)]
            pub device: nv_infer::Device,
        }

        impl $name {
            /// The config of a model with everything else at its default.
            pub fn new(model: impl Into<std::path::PathBuf>) -> Self {
                use nv_plugin_sdk::serde::de::value::{Error, MapDeserializer};
                use nv_plugin_sdk::serde::Deserialize as _;

                let only_model = MapDeserializer::<_, Error>::new([("model", "")].into_iter());
                let config = Self::deserialize(only_model).expect("nothing but the model must be given");
                Self { model: model.into(), ..config }
            }
        }

        impl crate::config::ModelConfig for $name {
            fn model(&self) -> &std::path::Path {
                &self.model
            }

            fn settings(&self) -> crate::settings::ModelSettings {
                let mut settings = crate::settings::ModelSettings::default();
                crate::config::copy!(self, settings: input_size, resize, pad_value, color_order, scale, mean, std);
                $(crate::config::copy!(self, settings: $setting);)*
                settings
            }

            fn threads(&self) -> usize {
                self.threads
            }

            fn device(&self) -> nv_infer::Device {
                self.device
            }
        }
    };
}
use model_config;

/// Gives one struct the values of another's fields of the same names.
macro_rules! copy {
    ($from:ident, $to:ident: $($field:ident),*) => {
        $($to.$field.clone_from(&$from.$field);)*
    };
}
pub(crate) use copy;

/// The JSON schema of a kind's config: of its own keys, which stand in a file, and of those that every kind has.
macro_rules! config_schema {
    ($kind:literal, $about:literal, $own:literal) => {
        concat!(
            "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": \"models/",
            $kind,
            "\",\n  \"description\": \"",
            $about,
            "\",\n  \"type\": \"object\",\n  \"additionalProperties\": false,\n  \"required\": [\"model\"],\n  \
             \"properties\": {\n    \"model\": { \"type\": \"string\", \"description\": \"The ONNX file, relative to the \
             config file.\" },\n",
            include_str!($own),
            ",\n",
            include_str!("model.properties.json"),
            "  }\n}\n"
        )
    };
}
use config_schema;

pub(crate) fn one() -> usize {
    1
}

/// That a key has a value that it can't have.
fn wrong(key: &str, value: impl std::fmt::Display, may: &str) -> StageError {
    StageError::config(format!("{key} is {value}, and must be {may}"))
}

/// Whether a number that must be from 0 to 1 is.
fn check_share(key: &str, value: f32) -> Result<(), StageError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(wrong(key, value, "from 0 to 1")) }
}

/// Whether a number of threads is one that can be meant.
fn check_threads(threads: usize) -> Result<(), StageError> {
    if (1..=256).contains(&threads) { Ok(()) } else { Err(wrong("threads", threads, "from 1 to 256")) }
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::serde::de::DeserializeOwned;
    use nv_plugin_sdk::serde_json::{self, Value};

    pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    /// The keys that a type takes are those of its schema.
    pub(super) fn check_schema<T: DeserializeOwned>(schema: &str) {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let keys = schema["properties"].as_object().unwrap();
        let error = parse::<T>("model = 'm'\nno_such_key = 1").err().expect("an unknown key is an error");
        for key in keys.keys() {
            assert!(error.contains(&format!("`{key}`")), "{key} in {error}");
        }
        assert_eq!(error.matches('`').count(), 2 * (keys.len() + 1), "{error}");
    }
}
