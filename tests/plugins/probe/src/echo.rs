use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use nv_plugin_sdk::serde_json::Value;
use nv_plugin_sdk::{
    Artifact, BuildContext, Capabilities, DataKind, Frame, FromConfig, Perception, Stage, StageError, StageInput,
    StageOutput, StreamContext, serde,
};

/// Gives back what earlier steps found, and says all else that it was given in an artifact `probe.input/1`.
pub struct Echo {
    config: EchoConfig,
    base_dir: PathBuf,
    calls: Vec<String>,
}

/// Config of [`Echo`]: anything.
#[derive(Debug, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct EchoConfig {
    /// Any value, to be given back.
    #[serde(default)]
    pub any: Value,
    /// Numbers, to be given back to the last digit.
    #[serde(default)]
    pub numbers: Vec<f64>,
}

impl FromConfig for Echo {
    type Config = EchoConfig;
    const KIND: &'static str = "echo";
    const SUMMARY: &'static str = "gives back what it is given";
    const CONFIG_SCHEMA: &'static str = r#"{"type":"object","properties":{"any":{},"numbers":{"type":"array"}}}"#;

    fn from_config(config: EchoConfig, context: &BuildContext) -> Result<Self, StageError> {
        Ok(Self { config, base_dir: context.base_dir.clone(), calls: Vec::new() })
    }
}

impl Stage for Echo {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            consumes: vec![DataKind::Objects, DataKind::Signal("speed".into())],
            produces: vec![DataKind::Tracks, DataKind::Embeddings, DataKind::Artifact("probe.input/1".into())],
            host_pixels: true,
        }
    }

    fn start(&mut self, stream: &StreamContext) -> Result<(), StageError> {
        self.calls.push(format!("start {stream:?}"));
        Ok(())
    }

    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        let mut text = format!("{:?} {:?} {:?} {:?}\n", self.config, self.base_dir, self.calls, input.stream());
        describe(&mut text, input.frame());
        let _ = write!(text, "next object {:?}", input.next_object_id());
        let mut output = found(input.perception());
        output.artifacts.push(Artifact {
            schema: "probe.input/1".into(),
            encoding: "text".into(),
            bytes: Arc::from(text.into_bytes()),
        });
        Ok(output)
    }

    fn discontinuity(&mut self, stream: &StreamContext) {
        self.calls.push(format!("discontinuity {stream:?}"));
    }
}

/// Everything about a frame.
pub(crate) fn describe(text: &mut String, frame: &Frame) {
    let _ = writeln!(text, "{:?} #{} at {:?} {:?}", frame.header(), frame.seq(), frame.received(), frame.attachments());
    match frame.host() {
        Ok(view) => {
            for plane in view.planes() {
                let _ = writeln!(text, "stride {}: {:?}", plane.stride, plane.data);
            }
        }
        Err(error) => {
            let _ = writeln!(text, "{error}");
        }
    }
}

/// What was found, as if this step had found it.
pub(crate) fn found(perception: &Perception) -> StageOutput {
    StageOutput {
        objects: perception.has_objects().then(|| perception.objects().to_vec()),
        tables: perception.tables().clone(),
        attributes: perception.attributes().to_vec(),
        tracks: perception.has_tracks().then(|| perception.tracks().to_vec()),
        signals: perception.signals().to_vec(),
        scene: perception.scene().to_vec(),
        artifacts: perception.artifacts().to_vec(),
    }
}
