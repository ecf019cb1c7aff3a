//! The scripted world: sources, stages, processors and sinks that do what a test tells them, when it tells them.
//!
//! Nothing here waits for time to pass. A [`Feeder`] gives a source its frames one by one; a [`Gate`] holds a processor, stage
//! or sink until the test opens it, and tells the test when it is reached.

mod gate;
mod processor;
mod sink;
mod source;
mod stage;

pub use gate::{Gate, Visitor, gate};
pub use processor::{idempotent_processor, number_processor, processor};
pub use sink::{RecordingSink, recording_sink};
pub use source::{Feeder, fed_source, scene, scene_source};
pub use stage::{stage, tally_stage};
