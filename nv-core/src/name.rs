use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a feed, step, class, plugin or schema: an interned, immutable string.
///
/// Names come from config files and loaded plugins, so they can't be `&'static str`. Two names with the same text share
/// one allocation; a clone is a reference count. Names order and hash as their text does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The table of live names. It holds one count of each; entries that nobody else holds are swept when it has doubled,
/// so that its size follows the names in use, not the names ever seen.
struct Interner {
    names: HashSet<Name>,
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

fn interner() -> &'static Mutex<Interner> {
    static INTERNER: OnceLock<Mutex<Interner>> = OnceLock::new();
    INTERNER.get_or_init(|| Mutex::new(Interner { names: HashSet::new(), sweep_at: FIRST_SWEEP }))
}

impl Name {
    /// Returns the one shared name with this text.
    ///
    /// Takes a process-wide lock: intern when a step is built, not for each frame.
    pub fn new(text: &str) -> Self {
        // A panic while the lock is held can't leave the set half-changed.
        let mut interner = interner().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = interner.names.get(text) {
            return name.clone();
        }
        if interner.names.len() >= interner.sweep_at {
            interner.names.retain(|name| Arc::strong_count(&name.0) > 1);
            interner.sweep_at = (interner.names.len() * 2).max(FIRST_SWEEP);
        }
        let name = Self(Arc::from(text));
        interner.names.insert(name.clone());
        name
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    /// The empty name: of what has none, or will be given one. Takes no lock.
    fn default() -> Self {
        static EMPTY: LazyLock<Name> = LazyLock::new(|| Name::new(""));
        EMPTY.clone()
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_allocation() {
        let (a, b) = (Name::new("gate"), Name::new(&String::from("gate")));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_eq!(a, "gate");
        assert_ne!(a, Name::new("yard"));
        assert_eq!(Name::default(), "");
    }

    #[test]
    fn names_nobody_holds_are_swept() {
        for i in 0..50 * FIRST_SWEEP {
            Name::new(&format!("transient-{i}"));
        }
        let live = interner().lock().unwrap().names.len();
        assert!(live <= 2 * FIRST_SWEEP, "{live} names kept");
    }

    #[test]
    fn serialises_as_its_text() {
        let name = Name::new("north \"gate\"");
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, r#""north \"gate\"""#);
        assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
    }
}
