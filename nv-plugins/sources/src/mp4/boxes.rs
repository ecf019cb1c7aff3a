use std::fmt;

use super::Mp4Error;

/// The four-character type of a box or codec.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FourCc(pub(crate) [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The boxes inside a box's payload, in file order.
///
/// Damage (a box that is larger than its parent, or smaller than its own header) is reported once and ends the iteration,
/// so that no input can make it loop or read out of bounds.
pub(crate) struct Boxes<'a> {
    rest: &'a [u8],
    parent: &'static str,
}

/// The boxes in the payload of `parent`.
pub(crate) fn boxes<'a>(payload: &'a [u8], parent: &'static str) -> Boxes<'a> {
    Boxes { rest: payload, parent }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<(&'a [u8; 4], &'a [u8]), Mp4Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer than 8 bytes are no box: QuickTime ends some containers with four zeros.
        let kind = self.rest.get(4..)?.first_chunk::<4>()?;
        let mut header = Reader::new(self.rest, self.parent);
        let mut read = || {
            let size = u64::from(header.u32()?);
            header.bytes(4)?;
            let size = match size {
                0 => self.rest.len() as u64,
                1 => header.u64()?,
                size => size,
            };
            let payload = usize::try_from(size).ok().and_then(|end| self.rest.get(header.at..end));
            let Some(payload) = payload else {
                return Err(Mp4Error::damaged(format!(
                    "box {} in {} claims {size} bytes, {} are left",
                    kind.escape_ascii(),
                    self.parent,
                    self.rest.len()
                )));
            };
            self.rest = &self.rest[size as usize..];
            Ok((kind, payload))
        };
        let item = read();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// Reads big-endian fields, one after the other; too few bytes are an error that names the box.
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    name: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a [u8], name: &'static str) -> Self {
        Self { data, at: 0, name }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Mp4Error> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.data.get(self.at..end));
        let bytes = bytes.ok_or_else(|| Mp4Error::damaged(format!("box {} is too short", self.name)))?;
        self.at += count;
        Ok(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.data[self.at..]
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Mp4Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Mp4Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Mp4Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Mp4Error> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Mp4Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn four_cc(&mut self) -> Result<FourCc, Mp4Error> {
        self.array().map(FourCc)
    }

    /// The version and flags that open a "full" box.
    pub(crate) fn full_box(&mut self) -> Result<(u8, u32), Mp4Error> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0xff_ffff))
    }

    /// A field of 64 bits in version 1 of a box, of 32 before.
    pub(crate) fn wide(&mut self, version: u8) -> Result<u64, Mp4Error> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }

    /// A table of `N` 32-bit columns that begins with its row count. Rows that the box has no room for are left out.
    pub(crate) fn table<const N: usize>(
        &mut self,
    ) -> Result<impl ExactSizeIterator<Item = [u32; N]> + Clone + use<'a, N>, Mp4Error> {
        let count = self.u32()? as usize;
        let rows = self.rest().chunks_exact(4 * N);
        let row = |row: &[u8]| {
            std::array::from_fn(|i| {
                let field = &row[4 * i..4 * i + 4];
                u32::from_be_bytes([field[0], field[1], field[2], field[3]])
            })
        };
        let present = rows.len();
        Ok(rows.take(count.min(present)).map(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_bounded_by_their_parent() {
        fn check(data: &[u8], expected: &[Result<(&str, usize), &str>]) {
            let found: Vec<_> = boxes(data, "test")
                .map(|b| {
                    b.map(|(kind, payload)| (kind.escape_ascii().to_string(), payload.len())).map_err(|e| e.to_string())
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|e| e.map(|(kind, len)| (kind.to_owned(), len)).map_err(|e| e.to_owned()))
                .collect();
            assert_eq!(found, expected);
        }
        check(b"", &[]);
        check(b"\0\0\0\x0aabcdXX\0\0\0\x08efgh", &[Ok(("abcd", 2)), Ok(("efgh", 0))]);
        check(b"\0\0\0\0abcdXYZ", &[Ok(("abcd", 3))]);
        check(b"\0\0\0\x01abcd\0\0\0\0\0\0\0\x12XY", &[Ok(("abcd", 2))]);
        check(b"\0\0\0\x08abcd\0\0\0\0", &[Ok(("abcd", 0))]);
        check(b"\0\0\0\x07abcd", &[Err("box abcd in test claims 7 bytes, 8 are left")]);
        check(b"\0\0\0\x09abcd", &[Err("box abcd in test claims 9 bytes, 8 are left")]);
        check(
            b"\0\0\0\x01abcd\xff\xff\xff\xff\xff\xff\xff\xff",
            &[Err("box abcd in test claims 18446744073709551615 bytes, 16 are left")],
        );
        check(b"\0\0\0\x01abcd", &[Err("box test is too short")]);
    }

    #[test]
    fn a_table_has_the_rows_that_are_there() {
        let data = [0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0];
        let rows: Vec<[u32; 2]> = Reader::new(&data, "test").table().unwrap().collect();
        assert_eq!(rows, [[1, 2], [3, 4]]);
    }
}
