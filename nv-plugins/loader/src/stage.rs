use nv_perception::{
    BuildContext, Capabilities, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext,
};
use nv_plugin_abi::abi_stable::std_types::{RResult, RSlice};
use nv_plugin_abi::{self as abi, Findings, PluginModule_Ref, StageBox};
use nv_plugin_marshal::{
    Decoder, Encoder, attachments_to_abi, capabilities_from_abi, error_from_abi, frame_to_abi, path_to_bytes,
    stream_to_abi,
};
use tracing::error;

/// A stage of a loaded plugin, as a native one.
pub(crate) struct PluginStage {
    /// Plugin and kind, for messages.
    label: String,
    stage: StageBox,
    capabilities: Capabilities,
    encoder: Encoder,
    decoder: Decoder,
    /// What was found before, as it crosses; kept for its memory.
    sent: Findings,
}

impl PluginStage {
    pub(crate) fn create(
        module: PluginModule_Ref,
        label: &str,
        kind: &str,
        config: &serde_json::Value,
        context: &BuildContext,
    ) -> Result<Self, StageError> {
        let (config, base_dir) = build_arguments(config, context)?;
        let context = abi::BuildContext { base_dir: RSlice::from_slice(base_dir), ext: RSlice::EMPTY };
        let stage = native(module.create_stage()(kind.into(), config.as_str().into(), &context))?;
        let capabilities = native(stage.capabilities())?;
        let capabilities = capabilities_from_abi(&capabilities)?;
        let (encoder, decoder) = (Encoder::default(), Decoder::default());
        Ok(Self { label: label.into(), stage, capabilities, encoder, decoder, sent: Findings::default() })
    }
}

/// What a plugin builds a step from: the config as JSON, the folder as bytes.
pub(crate) fn build_arguments<'c>(
    config: &serde_json::Value,
    context: &'c BuildContext,
) -> Result<(String, &'c [u8]), StageError> {
    let config = serde_json::to_string(config)
        .map_err(|e| StageError::config(format!("the config can't be handed to the plugin as JSON: {e}")))?;
    let base_dir = path_to_bytes(&context.base_dir).ok_or_else(|| {
        StageError::config(format!(
            "the folder {} can't be named to the plugin: it is not Unicode",
            context.base_dir.display()
        ))
    })?;
    Ok((config, base_dir))
}

/// What a plugin's call came to.
pub(crate) fn native<T>(result: RResult<T, abi::StageError>) -> Result<T, StageError> {
    match result {
        RResult::ROk(value) => Ok(value),
        RResult::RErr(error) => Err(error_from_abi(&error)),
    }
}

/// Reports an error of a call that has no result. After a panic the next call with a result says it again.
pub(crate) fn report(label: &str, method: &str, result: RResult<(), abi::StageError>) {
    if let Err(error) = native(result) {
        // `stop` comes after a panic only if the panic was in the call before it, and has been reported then.
        if !(method == "stop" && error.kind() == StageErrorKind::Panic) {
            error!(step = label, %error, "{method} failed");
        }
    }
}

impl Stage for PluginStage {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn start(&mut self, stream: &StreamContext) -> Result<(), StageError> {
        native(self.stage.start(&stream_to_abi(stream)))
    }

    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        self.encoder.findings(input.perception().into(), &mut self.sent)?;
        let attachments = attachments_to_abi(input.frame());
        let found = native(self.stage.process(&abi::StageInput {
            stream: stream_to_abi(input.stream()),
            frame: frame_to_abi(input.frame(), &attachments),
            perception: self.sent.view(),
            ext: RSlice::EMPTY,
        }));
        // Shares in artifacts are not kept until the next frame.
        self.sent.clear();
        Ok(self.decoder.findings(&found?.view())?)
    }

    fn discontinuity(&mut self, stream: &StreamContext) {
        let result = self.stage.discontinuity(&stream_to_abi(stream));
        report(&self.label, "discontinuity", result);
    }

    fn stop(&mut self) {
        let result = self.stage.stop();
        report(&self.label, "stop", result);
    }
}
