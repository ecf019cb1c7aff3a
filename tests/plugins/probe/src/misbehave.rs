use nv_plugin_sdk::{
    BuildContext, Capabilities, FromConfig, Stage, StageError, StageInput, StageOutput, StreamContext, serde,
};

/// Panics when it is told to.
pub struct Misbehave {
    when: When,
}

/// Config of [`Misbehave`].
#[derive(Debug, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct MisbehaveConfig {
    /// In which call.
    pub panic: When,
}

/// A call of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the calls")]
pub enum When {
    Never,
    FromConfig,
    Capabilities,
    Start,
    Process,
    Thread,
    Discontinuity,
    Stop,
    Drop,
}

impl Misbehave {
    fn check(&self, now: When) {
        assert!(self.when != now, "told to panic in {now:?}");
    }
}

impl FromConfig for Misbehave {
    type Config = MisbehaveConfig;
    const KIND: &'static str = "misbehave";
    const SUMMARY: &'static str = "panics";

    fn from_config(config: MisbehaveConfig, _: &BuildContext) -> Result<Self, StageError> {
        let stage = Self { when: config.panic };
        if config.panic == When::FromConfig {
            panic!("told to panic in {:?}", config.panic);
        }
        Ok(stage)
    }
}

impl Stage for Misbehave {
    fn capabilities(&self) -> Capabilities {
        self.check(When::Capabilities);
        Capabilities::default()
    }

    fn start(&mut self, _: &StreamContext) -> Result<(), StageError> {
        self.check(When::Start);
        Ok(())
    }

    fn process(&mut self, _: &StageInput<'_>) -> Result<StageOutput, StageError> {
        self.check(When::Process);
        if self.when == When::Thread {
            let ended = std::thread::spawn(|| panic!("told to panic in a thread")).join();
            return ended.map(|()| StageOutput::default()).map_err(|_| StageError::input("the thread panicked"));
        }
        Ok(StageOutput::default())
    }

    fn discontinuity(&mut self, _: &StreamContext) {
        self.check(When::Discontinuity);
    }

    fn stop(&mut self) {
        self.check(When::Stop);
    }
}

impl Drop for Misbehave {
    fn drop(&mut self) {
        self.check(When::Drop);
    }
}
