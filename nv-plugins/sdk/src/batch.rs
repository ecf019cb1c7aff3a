use std::sync::Arc;

use nv_core::BBox;
use nv_perception::{BatchEntry, BatchProcessor, ObjectId, Perception, Region, StageError};
use nv_plugin_abi::abi_stable::sabi_trait::TD_Opaque;
use nv_plugin_abi::abi_stable::std_types::{ROption, RResult, RVec};
use nv_plugin_abi::{self as abi, BatchBox, BatchCall, BatchObject, BatchObject_TO, BatchOutcome, Findings};
use nv_plugin_marshal::{Decoder, Encoder, MarshalError, batch_capabilities_to_abi, error_to_abi};

use crate::guard::Guarded;
use crate::stage::crossed;

/// A native batch processor as an object that may cross.
pub(crate) fn batch_to_abi(processor: Box<dyn BatchProcessor>) -> BatchBox {
    let state = State { processor, decoder: Decoder::default(), encoder: Encoder::default() };
    BatchObject_TO::from_value(BatchAdapter(Guarded::new(state)), TD_Opaque)
}

struct BatchAdapter(Guarded<State>);

struct State {
    processor: Box<dyn BatchProcessor>,
    decoder: Decoder,
    encoder: Encoder,
}

impl State {
    fn process(&mut self, call: &BatchCall<'_>) -> Result<BatchOutcome, StageError> {
        let mut entries = self.entries(call)?;
        let error = self.processor.process(&mut entries).err();
        // The processor may have put them into another order; across the boundary results go back in the one they came in.
        entries.sort_by_key(BatchEntry::slot);
        let results = entries.iter_mut().map(|entry| self.result(entry)).collect();
        Ok(BatchOutcome { results, error: error.as_ref().map(error_to_abi).into() })
    }

    /// The entries as the processor knows them. What they share at the boundary they share here.
    fn entries(&mut self, call: &BatchCall<'_>) -> Result<Vec<BatchEntry>, MarshalError> {
        let frames = call.frames.iter().map(|frame| self.decoder.frame(frame)).collect::<Result<Vec<_>, _>>()?;
        let perceptions = call
            .perceptions
            .iter()
            .map(|found| self.decoder.findings(found).map(|found| Arc::new(Perception::from(found))))
            .collect::<Result<Vec<_>, _>>()?;
        call.entries
            .iter()
            .enumerate()
            .map(|(slot, entry)| {
                let frame = frames.get(entry.frame as usize);
                let perception = perceptions.get(entry.perception as usize);
                let (Some(frame), Some(perception)) = (frame, perception) else {
                    return Err(MarshalError::Malformed { what: "an entry of a batch" });
                };
                let abi::BBox { x1, y1, x2, y2 } = entry.region;
                let region = entry
                    .has_region
                    .then(|| Region { object: ObjectId(entry.region_object), bbox: BBox::new(x1, y1, x2, y2) });
                let feed = self.decoder.name(entry.feed.as_str());
                Ok(BatchEntry::new(feed, entry.session, frame.clone(), region, perception.clone()).at_slot(slot))
            })
            .collect()
    }

    fn result(&mut self, entry: &mut BatchEntry) -> abi::EntryResult {
        if !entry.is_finished() {
            return ROption::RNone;
        }
        let encoded = entry.take_result().and_then(|output| {
            let mut findings = Findings::default();
            self.encoder.findings((&output).into(), &mut findings)?;
            Ok(findings)
        });
        ROption::RSome(crossed(encoded))
    }
}

impl BatchObject for BatchAdapter {
    fn capabilities(&self) -> RResult<abi::BatchCapabilities, abi::StageError> {
        crossed(self.0.ask("capabilities", |s| batch_capabilities_to_abi(&s.processor.capabilities())))
    }

    fn start(&mut self) -> RResult<(), abi::StageError> {
        crossed(self.0.call("start", |s| s.processor.start()))
    }

    fn process(&mut self, call: &BatchCall<'_>) -> BatchOutcome {
        self.0
            .call("process", |s| s.process(call))
            .unwrap_or_else(|error| BatchOutcome { results: RVec::new(), error: ROption::RSome(error_to_abi(&error)) })
    }

    fn stop(&mut self) -> RResult<(), abi::StageError> {
        crossed(self.0.call("stop", |s| {
            s.processor.stop();
            Ok(())
        }))
    }
}
