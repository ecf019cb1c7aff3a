use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{BatchProcessor, Stage, StageError};

/// A stage or batch processor that is built from a section of config.
///
/// The same type serves a program that links its crate and a host that loads its `.so`.
pub trait FromConfig: Sized {
    /// The section, parsed. Use `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error.
    type Config: DeserializeOwned;
    /// The name by which config asks for it, after the plugin's: the `detect` of `models/detect`.
    const KIND: &'static str;
    /// What it does, in half a sentence.
    const SUMMARY: &'static str;
    /// A JSON Schema of the section.
    const CONFIG_SCHEMA: &'static str = "{}";

    /// Builds it. Opens what it needs (a model), so that a wrong config is refused before any frame.
    ///
    /// # Errors
    /// What is wrong with the config or what it names.
    fn from_config(config: Self::Config, context: &BuildContext) -> Result<Self, StageError>;
}

/// Where a stage is being built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildContext {
    /// The folder that relative paths in the config are relative to.
    pub base_dir: PathBuf,
}

impl BuildContext {
    /// A context for config whose relative paths are relative to `base_dir`.
    pub fn new(base_dir: impl Into<PathBuf>) -> Self {
        Self { base_dir: base_dir.into() }
    }

    /// `path` as it is meant in the config.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// What a plugin has to offer: a name, a version and kinds of stages. Linked crates hand it out as it is; the loader makes
/// one of a `.so`.
#[derive(Clone, Debug)]
pub struct PluginDescriptor {
    /// The name that config uses: the `models` of `models/detect`.
    pub name: String,
    /// The crate's version.
    pub version: String,
    /// The kinds.
    pub kinds: Vec<KindDescriptor>,
}

impl PluginDescriptor {
    /// The kind called `kind`.
    pub fn kind(&self, kind: &str) -> Option<&KindDescriptor> {
        self.kinds.iter().find(|k| k.kind == kind)
    }
}

/// One kind of stage or batch processor, and how to build it.
#[derive(Clone)]
pub struct KindDescriptor {
    /// The name by which config asks for it.
    pub kind: String,
    /// What it does, in half a sentence.
    pub summary: String,
    /// A JSON Schema of its config.
    pub config_schema: String,
    /// Builds it.
    pub creator: Creator,
}

/// Builds a stage or batch processor from its section of config.
#[derive(Clone)]
pub enum Creator {
    /// A stage: one for each feed.
    Stage(Arc<CreateFn<dyn Stage>>),
    /// A batch processor: one for each instance of a batch point.
    Batch(Arc<CreateFn<dyn BatchProcessor>>),
}

type CreateFn<T> = dyn Fn(&serde_json::Value, &BuildContext) -> Result<Box<T>, StageError> + Send + Sync;

impl KindDescriptor {
    /// The kind of a stage type.
    pub fn stage<S: Stage + FromConfig + 'static>() -> Self {
        Self::new::<S>(Creator::Stage(Arc::new(|config, context| {
            build::<S>(config, context).map(|s| Box::new(s) as Box<dyn Stage>)
        })))
    }

    /// The kind of a batch processor type.
    pub fn batch<B: BatchProcessor + FromConfig + 'static>() -> Self {
        Self::new::<B>(Creator::Batch(Arc::new(|config, context| {
            build::<B>(config, context).map(|b| Box::new(b) as Box<dyn BatchProcessor>)
        })))
    }

    fn new<T: FromConfig>(creator: Creator) -> Self {
        Self { kind: T::KIND.into(), summary: T::SUMMARY.into(), config_schema: T::CONFIG_SCHEMA.into(), creator }
    }
}

impl fmt::Debug for KindDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let creates = match self.creator {
            Creator::Stage(_) => "stage",
            Creator::Batch(_) => "batch",
        };
        f.debug_struct("KindDescriptor").field("kind", &self.kind).field("creates", &creates).finish_non_exhaustive()
    }
}

fn build<T: FromConfig>(config: &serde_json::Value, context: &BuildContext) -> Result<T, StageError> {
    // An absent section is an empty one.
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let config = if config.is_null() { &empty } else { config };
    let config = serde_path_to_error::deserialize(config).map_err(|e| config_error(T::KIND, &e))?;
    T::from_config(config, context)
}

/// The error for a section that could not be parsed: it names the key, if what serde says of it does not.
fn config_error(kind: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> StageError {
    let (what, path) = (error.inner().to_string(), error.path().to_string());
    let key = path.rsplit('.').next().unwrap_or(&path);
    let named = key.is_empty() || what.contains(&format!("`{key}`"));
    StageError::config(if named {
        format!("config of {kind:?}: {what}")
    } else {
        format!("config of {kind:?}: `{path}`: {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StageErrorKind, StageInput, StageOutput};

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        level: u8,
    }

    struct Blank;

    impl FromConfig for Blank {
        type Config = Config;
        const KIND: &'static str = "blank";
        const SUMMARY: &'static str = "finds nothing";

        fn from_config(config: Config, _: &BuildContext) -> Result<Self, StageError> {
            if config.level > 3 { Err(StageError::config("level is 0 to 3")) } else { Ok(Self) }
        }
    }

    impl Stage for Blank {
        fn process(&mut self, _: &StageInput<'_>) -> Result<StageOutput, StageError> {
            Ok(StageOutput::default())
        }
    }

    #[test]
    fn config_is_checked_before_the_stage_exists() {
        fn check(config: serde_json::Value, expected: Result<(), &str>) {
            let Creator::Stage(create) = KindDescriptor::stage::<Blank>().creator else { unreachable!("a stage") };
            let result = create(&config, &BuildContext::default()).map(|_| ());
            if let Err(e) = &result {
                assert_eq!(e.kind(), StageErrorKind::Config);
            }
            assert_eq!(result.map_err(|e| e.to_string()), expected.map_err(String::from));
        }
        check(serde_json::json!(null), Ok(()));
        check(serde_json::json!({"level": 3}), Ok(()));
        check(serde_json::json!({"level": 4}), Err("level is 0 to 3"));
        check(
            serde_json::json!({"level": "high"}),
            Err("config of \"blank\": `level`: invalid type: string \"high\", expected u8"),
        );
        check(serde_json::json!([1]), Ok(()));
        check(serde_json::json!(7), Err("config of \"blank\": invalid type: integer `7`, expected struct Config"));
        check(serde_json::json!({"levle": 1}), Err("config of \"blank\": unknown field `levle`, expected `level`"));
    }
}
