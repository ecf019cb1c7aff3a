use crossbeam_channel::{Receiver, Sender, bounded};
use nv_perception::{Output, OutputSink, SinkError};
use nv_runtime::SinkConfig;

/// A sink that passes each output on to the test.
#[derive(Debug)]
pub struct RecordingSink(Sender<Output>);

/// A recording sink, and where its outputs come out. It holds up to 4,096 of them, and so does its queue: a live feed passes
/// it by on no machine, however busy.
pub fn recording_sink() -> (Receiver<Output>, SinkConfig) {
    const MOST: usize = 4096;
    let (sender, outputs) = bounded(MOST);
    let sink = SinkConfig::new("recording", Box::new(RecordingSink(sender)));
    (outputs, SinkConfig { queue_capacity: MOST, ..sink })
}

impl OutputSink for RecordingSink {
    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        // A test that has seen enough drops its end.
        let _ = self.0.send(output.clone());
        Ok(())
    }
}
