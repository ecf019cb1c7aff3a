use std::time::Duration;

use thiserror::Error;

/// What can go wrong with a device that was there. Every one can be had again in words, so that it can be told to each of
/// the sessions that share the device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum GpuError {
    /// The driver gives no device for an adapter that it has.
    #[error("{adapter} gives no device: {reason}")]
    Refused {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// A shader is wrong, or the driver can't compile it.
    #[error("the shader {label} does not compile: {reason}")]
    Shader {
        /// What the shader is for.
        label: String,
        /// What the compiler says.
        reason: String,
    },
    /// There is no memory left on the device.
    #[error("{what}: the GPU is out of memory")]
    OutOfMemory {
        /// What was done.
        what: String,
    },
    /// A call that wgpu refuses.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was done.
        what: String,
        /// What wgpu says.
        reason: String,
    },
    /// A picture that can't be taken.
    #[error("a picture can't be taken: {reason}")]
    Input {
        /// What is wrong with it.
        reason: String,
    },
    /// A plan that contradicts itself, which is a defect of whatever made it.
    #[error("{node}: {reason}")]
    Plan {
        /// The step's node.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What a step can't do with the data that there is.
    #[error("{node}: {reason}")]
    Step {
        /// The step's node: `Gather node "g"`.
        node: String,
        /// What is wrong with the data.
        reason: String,
    },
    /// A run more than there may be at once.
    #[error("{most} runs are in flight, which is the most; one has to be finished first")]
    Busy {
        /// How many there may be.
        most: usize,
    },
    /// The device is gone for good: reset, unplugged, its driver at fault. Another one can be asked for.
    #[error("the GPU was lost: {reason}")]
    Lost {
        /// What the driver says.
        reason: String,
    },
    /// Work that did not end in time. The device is taken for lost from then on.
    #[error("the GPU did not end its work within {limit:?}")]
    Hung {
        /// How long it was waited for.
        limit: Duration,
    },
}

impl GpuError {
    /// Whether nothing more can be done on that device, as opposed to one thing that can't.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Hung { .. })
    }

    /// wgpu's error, in the course of `what`.
    pub(crate) fn new(what: &str, error: &wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory { what: what.into() },
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                Self::Invalid { what: what.into(), reason: one_line(description) }
            }
        }
    }
}

/// wgpu's tree of causes, which has a line for each, in one line without its frame.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && *l != "Validation Error" && *l != "Caused by:");
    lines.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_one_line() {
        let text = "Validation Error\n\nCaused by:\n  In Device::create_buffer\n    Buffer size 8 is too large\n";
        assert_eq!(one_line(text), "In Device::create_buffer: Buffer size 8 is too large");
    }

    #[test]
    fn a_lost_device_is_told_from_a_failed_call() {
        assert!(GpuError::Lost { reason: "reset".into() }.is_lost());
        assert!(GpuError::Hung { limit: Duration::from_secs(1) }.is_lost());
        assert!(!GpuError::OutOfMemory { what: "a buffer".into() }.is_lost());
    }
}
