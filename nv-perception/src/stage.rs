use nv_core::{Frame, Name};

use crate::{Capabilities, ObjectId, Perception, StageError, StageOutput};

/// A step of one feed's pipeline: it sees every frame of that feed, in order, on the feed's thread.
///
/// Each feed has an instance of its own, so a stage may keep state from frame to frame (a tracker does). A slow stage slows
/// its own feed only. A panic is caught, reported and answered by building the stage anew; so are errors of kind
/// [`DeviceLost`](crate::StageErrorKind::DeviceLost) and [`Fatal`](crate::StageErrorKind::Fatal).
pub trait Stage: Send {
    /// What it needs and makes. Asked once, before the first frame.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Called once before the first frame, on the feed's thread. The place for what is slow.
    ///
    /// # Errors
    /// Any: the feed does not start.
    fn start(&mut self, stream: &StreamContext) -> Result<(), StageError> {
        let _ = stream;
        Ok(())
    }

    /// Looks at one frame.
    ///
    /// # Errors
    /// The frame is dropped with [`nv_core::DropReason::StageError`] (or passed on without this step's results, if the feed
    /// says so); the next frame is given as usual.
    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError>;

    /// The stream was cut here: a new session, a jump in time. What was learnt from earlier frames may no longer hold.
    fn discontinuity(&mut self, stream: &StreamContext) {
        let _ = stream;
    }

    /// Called once after the last frame, on the feed's thread, if `start` succeeded. Not called on a stage that is given up:
    /// after a panic, or an error for which it is built anew.
    fn stop(&mut self) {}
}

/// What a stage is told of the stream that it works on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamContext {
    /// The feed's name.
    pub feed: Name,
    /// The step's name in the pipeline.
    pub step: Name,
    /// The number of the session with the source, from 0.
    pub session: u32,
}

impl StreamContext {
    /// The context of `step` in `feed`, in session `session`.
    pub fn new(feed: Name, step: Name, session: u32) -> Self {
        Self { feed, step, session }
    }
}

/// One frame, and what earlier steps found in it.
#[derive(Clone, Copy, Debug)]
pub struct StageInput<'a> {
    stream: &'a StreamContext,
    frame: &'a Frame,
    perception: &'a Perception,
}

impl<'a> StageInput<'a> {
    /// The input for one call. The runtime makes it, and so does a test.
    pub fn new(stream: &'a StreamContext, frame: &'a Frame, perception: &'a Perception) -> Self {
        Self { stream, frame, perception }
    }

    /// The stream that the frame belongs to.
    pub fn stream(&self) -> &'a StreamContext {
        self.stream
    }

    /// The frame. A clone of it may be kept beyond the call.
    pub fn frame(&self) -> &'a Frame {
        self.frame
    }

    /// What earlier steps found.
    pub fn perception(&self) -> &'a Perception {
        self.perception
    }

    /// The id of the first object that this step makes.
    pub fn next_object_id(&self) -> ObjectId {
        self.perception.next_object_id()
    }
}
