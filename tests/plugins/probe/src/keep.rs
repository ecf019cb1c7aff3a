use std::collections::VecDeque;

use nv_plugin_sdk::{BuildContext, Frame, FromConfig, Signal, Stage, StageError, StageInput, StageOutput, serde};

/// Keeps frames beyond the call, and says what is in the oldest that it has: signals `kept`, `oldest`, `first_byte`.
pub struct Keep {
    most: usize,
    frames: VecDeque<Frame>,
}

/// Config of [`Keep`].
#[derive(Debug, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct KeepConfig {
    /// How many frames it keeps.
    pub most: usize,
}

impl FromConfig for Keep {
    type Config = KeepConfig;
    const KIND: &'static str = "keep";
    const SUMMARY: &'static str = "keeps frames";

    fn from_config(config: KeepConfig, _: &BuildContext) -> Result<Self, StageError> {
        Ok(Self { most: config.most, frames: VecDeque::new() })
    }
}

impl Stage for Keep {
    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        self.frames.push_back(input.frame().clone());
        if self.frames.len() > self.most {
            self.frames.pop_front();
        }
        let mut signals = vec![Signal::new("kept", self.frames.len() as i64)];
        if let Some(oldest) = self.frames.front() {
            let view = oldest.host().map_err(|e| StageError::input(e.to_string()))?;
            signals.push(Signal::new("oldest", oldest.seq() as i64));
            signals.push(Signal::new("first_byte", i64::from(view.plane(0).data[0])));
        }
        Ok(StageOutput { signals, ..StageOutput::default() })
    }

    fn stop(&mut self) {
        // Not on the thread that brought them.
        let frames = std::mem::take(&mut self.frames);
        let _ = std::thread::spawn(move || drop(frames)).join();
    }
}
