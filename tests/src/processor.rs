use std::sync::Arc;

use nv_core::BBox;
use nv_perception::testing::read_frame_number;
use nv_perception::{
    BatchCapabilities, BatchEntry, BatchProcessor, Capabilities, DataKind, Object, ObjectId, StageError, StageOutput,
};
use nv_runtime::ProcessorFactory;

struct Scripted<F> {
    process: F,
    idempotent: bool,
}

impl<F: FnMut(&mut [BatchEntry]) -> Result<(), StageError> + Send> BatchProcessor for Scripted<F> {
    fn capabilities(&self) -> BatchCapabilities {
        let step = Capabilities { produces: vec![DataKind::Objects], host_pixels: true, ..Capabilities::default() };
        BatchCapabilities { step, idempotent: self.idempotent, ..BatchCapabilities::default() }
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        (self.process)(batch)
    }
}

/// Processors that do what `process` says. Each instance, and each one built anew, gets a clone.
pub fn processor<F>(process: F) -> ProcessorFactory
where
    F: FnMut(&mut [BatchEntry]) -> Result<(), StageError> + Send + Sync + Clone + 'static,
{
    Arc::new(move || Ok(Box::new(Scripted { process: process.clone(), idempotent: false })))
}

/// The same, and entries may be given to it again after a batch failed.
pub fn idempotent_processor<F>(process: F) -> ProcessorFactory
where
    F: FnMut(&mut [BatchEntry]) -> Result<(), StageError> + Send + Sync + Clone + 'static,
{
    Arc::new(move || Ok(Box::new(Scripted { process: process.clone(), idempotent: true })))
}

/// A processor that reads the number that is coded into each picture: one object, whose class is the number.
pub fn number_processor() -> ProcessorFactory {
    processor(|batch: &mut [BatchEntry]| {
        for entry in batch {
            let result = read_number(entry);
            entry.finish(result);
        }
        Ok(())
    })
}

fn read_number(entry: &BatchEntry) -> Result<StageOutput, StageError> {
    let number = read_frame_number(entry.frame()).ok_or_else(|| StageError::input("the picture carries no number"))?;
    let ObjectId(first) = entry.next_object_id();
    let object = Object {
        id: ObjectId(first),
        parent: entry.region().map(|r| r.object),
        source: "".into(),
        class_id: u32::from(number),
        class: None,
        score: 1.0,
        bbox: BBox::new(0.0, 0.0, 8.0, 8.0),
    };
    Ok(StageOutput { objects: Some(vec![object]), ..StageOutput::default() })
}
