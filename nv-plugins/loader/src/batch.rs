use std::sync::Arc;

use nv_core::Frame;
use nv_perception::{
    BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, Perception, StageError, StageErrorKind,
};
use nv_plugin_abi::abi_stable::std_types::{ROption, RSlice, RStr};
use nv_plugin_abi::{self as abi, BatchBox, BatchCall, Findings, PluginModule_Ref};
use nv_plugin_marshal::{
    Decoder, Encoder, MarshalError, attachments_to_abi, batch_capabilities_from_abi, error_from_abi, frame_to_abi,
};

use crate::stage::{build_arguments, native, report};

/// A batch processor of a loaded plugin, as a native one.
pub(crate) struct PluginBatch {
    /// Plugin and kind, for messages.
    label: String,
    processor: BatchBox,
    capabilities: BatchCapabilities,
    encoder: Encoder,
    decoder: Decoder,
    /// What was found before in the frames of a batch, as it crosses; kept for its memory.
    sent: Vec<Findings>,
}

impl PluginBatch {
    pub(crate) fn create(
        module: PluginModule_Ref,
        label: &str,
        kind: &str,
        config: &serde_json::Value,
        context: &BuildContext,
    ) -> Result<Self, StageError> {
        let (config, base_dir) = build_arguments(config, context)?;
        let context = abi::BuildContext { base_dir: RSlice::from_slice(base_dir), ext: RSlice::EMPTY };
        let processor = native(module.create_batch()(kind.into(), config.as_str().into(), &context))?;
        let capabilities = native(processor.capabilities())?;
        let capabilities = batch_capabilities_from_abi(&capabilities)?;
        let (encoder, decoder) = (Encoder::default(), Decoder::default());
        Ok(Self { label: label.into(), processor, capabilities, encoder, decoder, sent: Vec::new() })
    }

    /// Calls the plugin. Frames and perceptions that entries share cross once.
    fn call(&mut self, batch: &[BatchEntry]) -> Result<abi::BatchOutcome, MarshalError> {
        let mut frames: Vec<&Frame> = Vec::new();
        let mut perceptions: Vec<&Arc<Perception>> = Vec::new();
        let entries: Vec<_> = batch
            .iter()
            .map(|entry| abi::BatchEntry {
                feed: RStr::from_str(entry.feed()),
                session: entry.session(),
                frame: index_of(&mut frames, entry.frame(), same_frame),
                perception: index_of(&mut perceptions, entry.perception(), Arc::ptr_eq),
                has_region: entry.region().is_some(),
                region_object: entry.region().map_or(0, |region| region.object.0),
                region: entry.region().map_or_else(abi::BBox::default, |region| {
                    let [x1, y1, x2, y2] = region.bbox.into();
                    abi::BBox { x1, y1, x2, y2 }
                }),
            })
            .collect();

        let attachments: Vec<_> = frames.iter().map(|frame| attachments_to_abi(frame)).collect();
        let frames: Vec<_> = frames.iter().zip(&attachments).map(|(frame, a)| frame_to_abi(frame, a)).collect();
        self.sent.resize_with(self.sent.len().max(perceptions.len()), Findings::default);
        for (perception, sent) in perceptions.iter().zip(&mut self.sent) {
            self.encoder.findings((&***perception).into(), sent)?;
        }
        let views: Vec<_> = self.sent[..perceptions.len()].iter().map(Findings::view).collect();
        let outcome = self.processor.process(&BatchCall {
            entries: RSlice::from_slice(&entries),
            frames: RSlice::from_slice(&frames),
            perceptions: RSlice::from_slice(&views),
            ext: RSlice::EMPTY,
        });
        // Shares in artifacts are not kept until the next batch.
        self.sent.iter_mut().for_each(Findings::clear);
        Ok(outcome)
    }
}

/// The index of `item` in `items`, to which it is added if it is not there. Entries that share one mostly follow each other.
fn index_of<'a, T>(items: &mut Vec<&'a T>, item: &'a T, same: impl Fn(&T, &T) -> bool) -> u32 {
    let index = items.iter().rposition(|other| same(other, item)).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    });
    // A batch has thousands of entries at most (the bound of a batch point).
    index as u32
}

fn same_frame(a: &Frame, b: &Frame) -> bool {
    Arc::ptr_eq(a.memory(), b.memory())
        && std::ptr::eq(a.header(), b.header())
        && std::ptr::eq(a.attachments(), b.attachments())
        && (a.seq(), a.received()) == (b.seq(), b.received())
}

impl BatchProcessor for PluginBatch {
    fn capabilities(&self) -> BatchCapabilities {
        self.capabilities.clone()
    }

    fn start(&mut self) -> Result<(), StageError> {
        native(self.processor.start())
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        let outcome = self.call(batch)?;
        let error = outcome.error.into_option().map(|e| error_from_abi(&e));
        if error.is_none() && outcome.results.len() != batch.len() {
            return Err(StageError::new(
                StageErrorKind::Fatal,
                format!("{} gave {} results for {} entries", self.label, outcome.results.len(), batch.len()),
            ));
        }
        for (entry, result) in batch.iter_mut().zip(outcome.results) {
            let ROption::RSome(result) = result else { continue };
            let result = native(result).and_then(|found| Ok(self.decoder.findings(&found.view())?));
            entry.finish(result);
        }
        error.map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        let result = self.processor.stop();
        report(&self.label, "stop", result);
    }
}
