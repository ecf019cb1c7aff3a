use std::error::Error;
use std::fmt;

use crate::Output;

/// Takes the finished outputs of one feed, in order, on a thread of its own.
///
/// A slow sink fills its queue: a file feed then waits for it, a live feed passes it by and the sink's count says so.
pub trait OutputSink: Send {
    /// Whether it wants the frame with each output. Frames are kept alive for it only if it does.
    fn wants_frames(&self) -> bool {
        false
    }

    /// Takes one output.
    ///
    /// # Errors
    /// After one that [is fatal](SinkError::is_fatal) the sink gets nothing more.
    fn emit(&mut self, output: &Output) -> Result<(), SinkError>;

    /// Called once after the last output, also where there was none: write out what is held back. Not after a fatal error or
    /// a panic.
    ///
    /// # Errors
    /// Something could not be written.
    fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What kind of trouble a sink is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// This output could not be taken; the next may be.
    Transient,
    /// The reader at the other end has gone away: had enough.
    Closed,
    /// It can't go on: disk full, permission lost.
    Failed,
}

/// Why a sink could not take an output.
#[derive(Debug)]
pub struct SinkError {
    kind: SinkErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error of `kind`, described by `message`.
    pub fn new(kind: SinkErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// Whether the sink is done for.
    pub fn is_fatal(&self) -> bool {
        self.kind != SinkErrorKind::Transient
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
