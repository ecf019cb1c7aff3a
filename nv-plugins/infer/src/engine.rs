use std::fmt;

use serde::{Deserialize, Serialize};

/// What computes a [`Session`](crate::Session)'s graph.
///
/// A [`Device`](crate::Device) is what was asked for; this is what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Engine {
    /// Our plan, on the CPU's vector instructions.
    Cpu,
    /// Our plan, in compute shaders on a GPU or on one that is emulated.
    Gpu,
    /// The crate `rten` on the CPU: for models with an operator that our plan lacks.
    Rten,
}

impl Engine {
    /// The name it has in logs and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Rten => "rten",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde() {
        for engine in [Engine::Cpu, Engine::Gpu, Engine::Rten] {
            assert_eq!(serde_json::to_value(engine).unwrap(), engine.as_str());
        }
    }
}
