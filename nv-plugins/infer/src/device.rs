use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a model is to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The best that is there: a hardware GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A hardware GPU, and nothing else.
    Gpu,
    /// A GPU that is emulated in software, and nothing else; for tests of the GPU path.
    Software,
}

impl Device {
    /// The name it has in config and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Software => "software",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Auto, Self::Cpu, Self::Gpu, Self::Software]
            .into_iter()
            .find(|device| device.as_str() == text)
            .ok_or_else(|| format!("no device {text:?}: give auto, cpu, gpu or software"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde() {
        for device in [Device::Auto, Device::Cpu, Device::Gpu, Device::Software] {
            assert_eq!(device.as_str().parse(), Ok(device));
            assert_eq!(serde_json::to_value(device).unwrap(), device.as_str());
        }
        assert!("cuda".parse::<Device>().unwrap_err().contains("software"));
    }
}
