use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;
use thiserror::Error;

use crate::error::Reason;

/// The SHA-256 of a file. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// A text that is no SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a SHA-256: that is 64 hexadecimal digits")]
pub struct ParseSha256Error(String);

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl FromStr for Sha256 {
    type Err = ParseSha256Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSha256Error(text.into());
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * i..2 * i + 2];
            // `from_str_radix` alone would take a sign.
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which files may be loaded: for each plugin, by name, the one with this hash. A plugin that is not listed is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginLock {
    /// Hashes by the plugin's name.
    pub plugins: BTreeMap<String, Sha256>,
}

impl PluginLock {
    pub(crate) fn check(&self, name: &str, found: Sha256) -> Result<(), Reason> {
        match self.plugins.get(name) {
            Some(&expected) if expected == found => Ok(()),
            Some(&expected) => Err(Reason::Hash { expected, found }),
            None => Err(Reason::NotLocked(name.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_and_written() {
        // FIPS 180-4, the example "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(Sha256::of(b"abc")));
        assert_eq!(abc.to_uppercase().parse(), Ok(Sha256::of(b"abc")));
        for wrong in ["", &abc[1..], &format!("{}+f", &abc[2..]), &format!("{}ü", &abc[2..])] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_lock_admits_only_what_it_lists() {
        let (good, bad) = (Sha256::of(b"good"), Sha256::of(b"bad"));
        let lock = PluginLock { plugins: [("track".into(), good)].into() };
        assert!(lock.check("track", good).is_ok());
        assert!(matches!(lock.check("track", bad), Err(Reason::Hash { .. })));
        assert!(matches!(lock.check("models", good), Err(Reason::NotLocked(_))));
    }
}
