use nv_plugin_sdk::{BuildContext, FromConfig, Stage, StageError, StageErrorKind, StageInput, StageOutput, serde};

/// Reports an error for each frame: its kind is the frame's number among the kinds.
pub struct Fail {
    config: FailConfig,
}

/// Config of [`Fail`].
#[derive(Debug, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct FailConfig {
    /// What the error says.
    pub message: String,
    /// Its detail.
    #[serde(default)]
    pub detail: String,
    /// Its causes, nearest first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// Fails while it is built.
    #[serde(default)]
    pub at_once: bool,
}

impl Fail {
    fn error(config: &FailConfig, kind: StageErrorKind) -> StageError {
        let error = StageError::new(kind, &config.message).with_detail(&config.detail);
        let cause = config.causes.iter().rev().fold(None::<StageError>, |source, text| {
            let cause = StageError::new(kind, text);
            Some(match source {
                Some(source) => cause.with_source(source),
                None => cause,
            })
        });
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

impl FromConfig for Fail {
    type Config = FailConfig;
    const KIND: &'static str = "fail";
    const SUMMARY: &'static str = "reports errors";

    fn from_config(config: FailConfig, _: &BuildContext) -> Result<Self, StageError> {
        if config.at_once { Err(Self::error(&config, StageErrorKind::Resource)) } else { Ok(Self { config }) }
    }
}

impl Stage for Fail {
    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        let kinds = StageErrorKind::ALL;
        Err(Self::error(&self.config, kinds[input.frame().seq() as usize % kinds.len()]))
    }
}
