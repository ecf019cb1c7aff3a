use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr, RString, RVec};

/// A table of texts in two allocations: records refer to a text by its index.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, Default)]
pub struct Strings {
    text: RString,
    ends: RVec<u32>,
}

/// A [`Strings`], borrowed.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StringsView<'a> {
    text: RStr<'a>,
    /// Where each text ends in `text`; it begins where the one before ends.
    ends: RSlice<'a, u32>,
}

impl Strings {
    /// Adds a text and returns its index.
    ///
    /// # Errors
    /// Gives the text back where the table would grow beyond 4 GiB.
    pub fn push<'t>(&mut self, text: &'t str) -> Result<u32, &'t str> {
        let (Ok(index), Ok(end)) = (u32::try_from(self.ends.len()), u32::try_from(self.text.len() + text.len())) else {
            return Err(text);
        };
        self.text.push_str(text);
        self.ends.push(end);
        Ok(index)
    }

    /// Removes all texts and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// The table, borrowed.
    pub fn view(&self) -> StringsView<'_> {
        StringsView { text: self.text.as_rstr(), ends: self.ends.as_rslice() }
    }
}

impl<'a> StringsView<'a> {
    /// A table without texts.
    pub const EMPTY: Self = Self { text: RStr::empty(), ends: RSlice::EMPTY };

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Text `index`; `None` where there is no such text, or the other side laid the table out wrongly.
    pub fn get(&self, index: u32) -> Option<&'a str> {
        let ends = self.ends.as_slice();
        let end = *ends.get(index as usize)? as usize;
        let start = if index == 0 { 0 } else { ends[index as usize - 1] as usize };
        self.text.as_str().get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_index() {
        let mut strings = Strings::default();
        for (i, text) in ["gate", "", "süd", "gate"].into_iter().enumerate() {
            assert_eq!(strings.push(text), Ok(i as u32));
        }
        let view = strings.view();
        let all: Vec<_> = (0..5).map(|i| view.get(i)).collect();
        assert_eq!(all, [Some("gate"), Some(""), Some("süd"), Some("gate"), None]);
        strings.clear();
        assert!(strings.view().is_empty());
    }

    #[test]
    fn a_table_laid_out_wrongly_has_no_texts() {
        let ends = [9, 1, 2];
        let view = StringsView { text: RStr::from_str("aü"), ends: RSlice::from_slice(&ends) };
        assert_eq!((0..3).map(|i| view.get(i)).collect::<Vec<_>>(), [None, None, None]);
    }
}
