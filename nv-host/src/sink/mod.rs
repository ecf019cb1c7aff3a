//! Where outputs go: lines of JSON or MOT text in files or on standard output, and annotated pictures.

mod annotate;
mod jsonl;
mod lines;
mod mot;
mod outputs;

pub(crate) use outputs::{Outputs, write_whole};

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_perception::{SinkError, SinkErrorKind};

/// Why an output can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The reader of standard output has gone away: it had enough.
    Closed,
    /// Something can't be written.
    Failed(String),
}

/// How sinks tell the run that it can't go on. The first word counts, so that it never waits.
#[derive(Clone, Debug)]
pub(crate) struct TroubleSender(Sender<Trouble>);

impl TroubleSender {
    pub(crate) fn channel() -> (Self, Receiver<Trouble>) {
        let (sender, receiver) = bounded(1);
        (Self(sender), receiver)
    }

    /// Tells the run of an error of writing to `place`, and makes a sink's error of it.
    fn report(&self, place: &str, error: std::io::Error) -> SinkError {
        let (kind, trouble, message) = if error.kind() == std::io::ErrorKind::BrokenPipe {
            (SinkErrorKind::Closed, Trouble::Closed, format!("{place}: the reader has gone away"))
        } else {
            let message = format!("{place} can't be written: {error}");
            (SinkErrorKind::Failed, Trouble::Failed(message.clone()), message)
        };
        // Full: somebody was first.
        let _ = self.0.try_send(trouble);
        SinkError::new(kind, message).with_source(error)
    }
}
