use std::error::Error;
use std::fmt;

use nv_core::FrameError;
use nv_perception::{StageError, StageErrorKind};
use nv_plugin_abi as abi;
use thiserror::Error;

use crate::kinds::{error_kind_from_abi, error_kind_to_abi};

/// A value that can't cross the plugin boundary.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum MarshalError {
    /// The other side uses a constant that this side does not know.
    #[error(
        "{what} number {value} is not known on this side of the plugin boundary: the other side is of a later version"
    )]
    Unknown {
        /// What it is a constant of.
        what: &'static str,
        /// The constant.
        value: u32,
    },
    /// What the other side sent contradicts itself.
    #[error("{what} came over the plugin boundary with references that lead nowhere: the sender is faulty")]
    Malformed {
        /// What it was.
        what: &'static str,
    },
    /// More than the boundary's indices can count.
    #[error("the names and texts found in one frame are more than 4 GiB")]
    TooLarge,
    /// The other side's picture is none.
    #[error("a frame came over the plugin boundary that is none: {0}")]
    Frame(#[from] FrameError),
}

impl From<MarshalError> for StageError {
    fn from(error: MarshalError) -> Self {
        let kind = match error {
            MarshalError::Unknown { .. } => StageErrorKind::Unsupported,
            MarshalError::Malformed { .. } => StageErrorKind::Fatal,
            MarshalError::TooLarge | MarshalError::Frame(_) => StageErrorKind::Input,
        };
        StageError::new(kind, error.to_string())
    }
}

/// A stage's error as it crosses. Of its causes the texts cross.
pub fn error_to_abi(error: &StageError) -> abi::StageError {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    abi::StageError {
        kind: error_kind_to_abi(error.kind()),
        message: error.message().into(),
        detail: error.detail().into(),
        causes: causes.map(|cause| cause.to_string().into()).collect(),
    }
}

/// A stage's error that has crossed. A kind that this side does not know counts as [`StageErrorKind::Fatal`].
pub fn error_from_abi(error: &abi::StageError) -> StageError {
    let kind = error_kind_from_abi(error.kind).unwrap_or(StageErrorKind::Fatal);
    let native = StageError::new(kind, error.message.as_str()).with_detail(error.detail.as_str());
    let cause = error
        .causes
        .iter()
        .rev()
        .fold(None, |source, text| Some(Box::new(ForeignCause { text: text.as_str().into(), source })));
    match cause {
        Some(cause) => native.with_source(cause),
        None => native,
    }
}

/// A cause on the other side: its text, and the text of its own cause.
#[derive(Debug)]
struct ForeignCause {
    text: String,
    source: Option<Box<ForeignCause>>,
}

impl fmt::Display for ForeignCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ForeignCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_kind_texts_and_causes() {
        for kind in StageErrorKind::ALL {
            let inner = StageError::fatal("disk on fire").with_source("no water");
            let error = StageError::new(kind, "model is gone").with_detail("at line 3").with_source(inner);
            let back = error_from_abi(&error_to_abi(&error));
            assert_eq!((back.kind(), back.message(), back.detail()), (kind, "model is gone", "at line 3"));
            let causes: Vec<_> = std::iter::successors(back.source(), |&e| e.source()).map(|e| e.to_string()).collect();
            assert_eq!(causes, ["disk on fire", "no water"]);
        }
    }

    #[test]
    fn an_error_kind_of_a_later_version_is_fatal() {
        let error = abi::StageError::new(abi::ErrorKind(99), "?");
        assert_eq!(error_from_abi(&error).kind(), StageErrorKind::Fatal);
    }
}
