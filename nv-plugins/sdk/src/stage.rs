use nv_core::Name;
use nv_perception::{Perception, Stage, StageError, StageInput, StreamContext};
use nv_plugin_abi::abi_stable::sabi_trait::TD_Opaque;
use nv_plugin_abi::abi_stable::std_types::RResult;
use nv_plugin_abi::{self as abi, Findings, StageBox, StageObject, StageObject_TO};
use nv_plugin_marshal::{Decoder, Encoder, capabilities_to_abi, error_to_abi};

use crate::guard::Guarded;

/// A native stage as an object that may cross.
pub(crate) fn stage_to_abi(stage: Box<dyn Stage>) -> StageBox {
    let state = State { stage, stream: None, decoder: Decoder::default(), encoder: Encoder::default() };
    StageObject_TO::from_value(StageAdapter(Guarded::new(state)), TD_Opaque)
}

/// Outcome of a guarded call as it crosses.
pub(crate) fn crossed<T>(result: Result<T, StageError>) -> RResult<T, abi::StageError> {
    match result {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error_to_abi(&error)),
    }
}

struct StageAdapter(Guarded<State>);

struct State {
    stage: Box<dyn Stage>,
    /// The stream's context, as it was at the last call: it changes once a session.
    stream: Option<StreamContext>,
    decoder: Decoder,
    encoder: Encoder,
}

impl State {
    fn process(&mut self, input: &abi::StageInput<'_>) -> Result<Findings, StageError> {
        let stream = decode_stream(&mut self.stream, &mut self.decoder, &input.stream);
        let frame = self.decoder.frame(&input.frame)?;
        let perception = Perception::from(self.decoder.findings(&input.perception)?);
        let output = self.stage.process(&StageInput::new(stream, &frame, &perception))?;
        let mut findings = Findings::default();
        self.encoder.findings((&output).into(), &mut findings)?;
        Ok(findings)
    }
}

fn decode_stream<'s>(
    last: &'s mut Option<StreamContext>,
    decoder: &mut Decoder,
    stream: &abi::StreamContext<'_>,
) -> &'s StreamContext {
    let same = |name: &Name, text: &str| name.as_str() == text;
    if !last.as_ref().is_some_and(|l| {
        l.session == stream.session && same(&l.feed, stream.feed.as_str()) && same(&l.step, stream.step.as_str())
    }) {
        *last = None;
    }
    last.get_or_insert_with(|| decoder.stream(stream))
}

impl StageObject for StageAdapter {
    fn capabilities(&self) -> RResult<abi::Capabilities, abi::StageError> {
        crossed(self.0.ask("capabilities", |s| capabilities_to_abi(&s.stage.capabilities())))
    }

    fn start(&mut self, stream: &abi::StreamContext<'_>) -> RResult<(), abi::StageError> {
        crossed(self.0.call("start", |s| s.stage.start(decode_stream(&mut s.stream, &mut s.decoder, stream))))
    }

    fn process(&mut self, input: &abi::StageInput<'_>) -> RResult<Findings, abi::StageError> {
        crossed(self.0.call("process", |s| s.process(input)))
    }

    fn discontinuity(&mut self, stream: &abi::StreamContext<'_>) -> RResult<(), abi::StageError> {
        crossed(self.0.call("discontinuity", |s| {
            s.stage.discontinuity(decode_stream(&mut s.stream, &mut s.decoder, stream));
            Ok(())
        }))
    }

    fn stop(&mut self) -> RResult<(), abi::StageError> {
        crossed(self.0.call("stop", |s| {
            s.stage.stop();
            Ok(())
        }))
    }
}
