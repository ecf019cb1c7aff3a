use std::error::Error;
use std::fmt;

/// What kind of trouble a stage or batch processor is in. It decides what the runtime does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StageErrorKind {
    /// The config is wrong. Building the step fails.
    Config,
    /// A model or another file that the step needs is missing, damaged or not of the right sort. Building the step fails.
    Resource,
    /// No device of the kind that was asked for.
    NoDevice,
    /// This frame (or region) can't be processed; the next may be.
    Input,
    /// It may work the next time.
    Transient,
    /// The step asks for something that this build or host doesn't have.
    Unsupported,
    /// The device was lost. The step is built anew.
    DeviceLost,
    /// The step panicked. It is built anew.
    Panic,
    /// The step can't go on as it is. It is built anew.
    Fatal,
}

impl StageErrorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Config,
        Self::Resource,
        Self::NoDevice,
        Self::Input,
        Self::Transient,
        Self::Unsupported,
        Self::DeviceLost,
        Self::Panic,
        Self::Fatal,
    ];

    /// The name it has in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Resource => "resource",
            Self::NoDevice => "no_device",
            Self::Input => "input",
            Self::Transient => "transient",
            Self::Unsupported => "unsupported",
            Self::DeviceLost => "device_lost",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }
}

/// What a stage or batch processor reports when it can't do its work: a kind that decides policy, and a sentence that says
/// what, where and what to do.
pub struct StageError {
    kind: StageErrorKind,
    message: String,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StageError {
    /// An error of `kind`, described by `message`.
    pub fn new(kind: StageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: String::new(), source: None }
    }

    /// A [`StageErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(StageErrorKind::Config, message)
    }

    /// A [`StageErrorKind::Input`] error.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(StageErrorKind::Input, message)
    }

    /// A [`StageErrorKind::Fatal`] error.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(StageErrorKind::Fatal, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with text for developers: a backtrace, a dump.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> StageErrorKind {
        self.kind
    }

    /// The sentence, without causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Text for developers; often empty.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageError {{ {}: {:?}", self.kind.as_str(), self.message)?;
        if let Some(source) = &self.source {
            write!(f, ", source: {source:?}")?;
        }
        f.write_str(" }")
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
