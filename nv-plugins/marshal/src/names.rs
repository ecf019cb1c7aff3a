use std::collections::{HashMap, HashSet};

use nv_core::Name;
use nv_plugin_abi::{Strings, StringsView};

use crate::MarshalError;

/// The sender's half: which index a name has in the table that is being filled.
///
/// Names are interned, so the address of their text tells them apart. A frame has few names and many uses of them.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    /// Address and index, searched from the front …
    few: Vec<(usize, u32)>,
    /// … and, from [`FEW`] on, a map.
    many: HashMap<usize, u32>,
    last: Option<(usize, u32)>,
}

const FEW: usize = 32;

impl NameIndex {
    pub(crate) fn clear(&mut self) {
        self.few.clear();
        self.many.clear();
        self.last = None;
    }

    /// The index of `name` in `strings`, to which it is added if it is new.
    pub(crate) fn get(&mut self, name: &Name, strings: &mut Strings) -> Result<u32, MarshalError> {
        let address = name.as_str().as_ptr() as usize;
        if let Some((_, index)) = self.last.filter(|(last, _)| *last == address) {
            return Ok(index);
        }
        let known = self.few.iter().find(|(a, _)| *a == address).map(|(_, index)| *index);
        let index = match known.or_else(|| self.many.get(&address).copied()) {
            Some(index) => index,
            None => {
                let index = strings.push(name).map_err(|_| MarshalError::TooLarge)?;
                if self.few.len() < FEW {
                    self.few.push((address, index));
                } else {
                    self.many.insert(address, index);
                }
                index
            }
        };
        self.last = Some((address, index));
        Ok(index)
    }
}

/// The receiver's half: names by text, without the lock of the process-wide table.
#[derive(Debug, Default)]
pub(crate) struct NameCache {
    known: HashSet<Name>,
    /// Names of the table that is being read, by index.
    resolved: Vec<Option<Name>>,
}

/// Beyond this the cache starts anew: names may come from data, and then there is no end to them.
const MOST_KNOWN: usize = 4096;

impl NameCache {
    /// The name with this text.
    pub(crate) fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return name.clone();
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let name = Name::new(text);
        self.known.insert(name.clone());
        name
    }

    /// Begins reading a table of `len` texts.
    pub(crate) fn begin(&mut self, len: usize) {
        self.resolved.clear();
        self.resolved.resize(len, None);
    }

    /// The name at `index` of the table begun last.
    pub(crate) fn resolve(
        &mut self,
        strings: &StringsView<'_>,
        index: u32,
        what: &'static str,
    ) -> Result<Name, MarshalError> {
        if let Some(Some(name)) = self.resolved.get(index as usize) {
            return Ok(name.clone());
        }
        let text = strings.get(index).ok_or(MarshalError::Malformed { what })?;
        let name = self.intern(text);
        if let Some(slot) = self.resolved.get_mut(index as usize) {
            *slot = Some(name.clone());
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_crosses_once() {
        let names: Vec<Name> = (0..3 * FEW).map(|i| Name::new(&format!("name-{i}"))).collect();
        let (mut index, mut strings) = (NameIndex::default(), Strings::default());
        for _ in 0..2 {
            for (i, name) in names.iter().enumerate() {
                assert_eq!(index.get(name, &mut strings), Ok(i as u32));
            }
        }
        assert_eq!(strings.view().len(), names.len());
        let mut cache = NameCache::default();
        cache.begin(names.len());
        for (i, name) in names.iter().enumerate() {
            assert_eq!(cache.resolve(&strings.view(), i as u32, "a test").as_ref(), Ok(name));
        }
        assert!(cache.resolve(&strings.view(), names.len() as u32, "a test").is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = NameCache::default();
        for i in 0..2 * MOST_KNOWN {
            cache.intern(&format!("object-{i}"));
        }
        assert!(cache.known.len() <= MOST_KNOWN);
    }
}
