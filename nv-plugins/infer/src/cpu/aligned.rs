//! Floats that begin where a cache line does.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector: a vector that lies across two lines takes twice as long to load.
pub(crate) const LINE: usize = 64;

/// A fixed number of floats, the first at the beginning of a cache line.
#[derive(Debug)]
pub(crate) struct AlignedFloats {
    /// Never grows, so it stays where it is.
    data: Vec<f32>,
    begin: usize,
}

impl AlignedFloats {
    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let slack = LINE / size_of::<f32>();
        let data = vec![0.0; len + slack];
        // What cannot be aligned is slow, not wrong.
        let begin = data.as_ptr().align_offset(LINE).min(slack);
        let mut floats = Self { data, begin };
        floats.data.truncate(begin + len);
        floats
    }
}

impl Deref for AlignedFloats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.begin..]
    }
}

impl DerefMut for AlignedFloats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_a_line() {
        for len in [0, 1, 15, 16, 1000] {
            let mut floats = AlignedFloats::zeros(len);
            assert!(floats.len() == len && floats.as_ptr().align_offset(LINE) == 0);
            floats.iter_mut().for_each(|f| *f = 1.0);
            assert_eq!(floats.iter().sum::<f32>(), len as f32);
        }
    }
}
