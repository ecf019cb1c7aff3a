use std::fmt;
use std::str::FromStr;

/// The vector instructions that the CPU executor uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SimdLevel {
    /// None: what the compiler makes of plain Rust.
    Scalar,
    /// 128 bits, on 64-bit ARM.
    Neon,
    /// 256 bits and fused multiply-add, on x86-64.
    Avx2,
    /// 512 bits, on x86-64.
    Avx512,
}

/// Narrows the choice of [`SimdLevel::detect`]: the name of a level.
const VARIABLE: &str = "NV_SIMD";

impl SimdLevel {
    /// The best level of this machine, or the one that the environment variable `NV_SIMD` names if the machine has it.
    pub fn detect() -> Self {
        let wanted = std::env::var(VARIABLE).ok().and_then(|name| name.parse().ok());
        let best = || Self::available().last().unwrap_or(Self::Scalar);
        wanted.filter(|level: &Self| level.is_available()).unwrap_or_else(best)
    }

    /// The levels of this machine, the slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512].into_iter().filter(|level| level.is_available())
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// How many channels lie side by side in the pictures that it works on.
    pub(crate) fn block(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 | Self::Scalar => 8,
            Self::Neon => 4,
        }
    }

    /// Its name: `avx512`, `avx2`, `neon`, `scalar`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SimdLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| format!("no SIMD level {text:?}: give avx512, avx2, neon or scalar"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_one_name() {
        for level in [SimdLevel::Scalar, SimdLevel::Neon, SimdLevel::Avx2, SimdLevel::Avx512] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert!("sse9".parse::<SimdLevel>().unwrap_err().contains("avx512"));
        assert!(SimdLevel::available().any(|level| level == SimdLevel::Scalar));
        assert!(SimdLevel::detect().is_available());
    }
}
