//! From the length-prefixed NAL units of MP4 (ISO/IEC 14496-15) to the byte stream of Annex B that decoders take.

/// What an access unit holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitKind {
    /// Slices of a picture.
    pub(crate) has_picture: bool,
    /// Of an IDR picture, at which decoding starts afresh.
    pub(crate) is_idr: bool,
}

/// Converts an access unit whose NAL units begin with a length of `length_size` bytes, appending to `out`. Each sequence
/// parameter set on the way is shown to `on_sps`.
///
/// # Errors
/// A length that runs beyond the unit: the unit is damaged.
pub(crate) fn to_annex_b(
    unit: &[u8],
    length_size: usize,
    out: &mut Vec<u8>,
    mut on_sps: impl FnMut(&[u8]),
) -> Result<UnitKind, String> {
    let mut kind = UnitKind::default();
    let mut rest = unit;
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_at_checked(length_size) else {
            return Err(format!("{} stray bytes after the last NAL unit", rest.len()));
        };
        let length = length.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
        let Some((nal, after)) = after.split_at_checked(length) else {
            return Err(format!("a NAL unit claims {length} bytes, {} are left", after.len()));
        };
        rest = after;
        let Some(&header) = nal.first() else { continue };
        match header & 0x1f {
            1 => kind.has_picture = true,
            5 => (kind.has_picture, kind.is_idr) = (true, true),
            // Data partitioning (Extended profile): slices, and no decoder of ours takes them.
            2 => return Err("data partitioning (Extended profile) is not supported".into()),
            7 => on_sps(nal),
            _ => {}
        }
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(nal);
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_start_codes() {
        fn check(unit: &[u8], length_size: usize, expected: Result<(&[u8], bool, bool), &str>) {
            let (mut out, mut parameter_sets) = (Vec::new(), 0);
            let result = to_annex_b(unit, length_size, &mut out, |_| parameter_sets += 1);
            let expected_sps = unit.iter().filter(|&&b| b == 0x67).count();
            match expected {
                Ok((bytes, has_picture, is_idr)) => {
                    assert_eq!(result, Ok(UnitKind { has_picture, is_idr }));
                    assert_eq!(out, bytes);
                    assert_eq!(parameter_sets, expected_sps);
                }
                Err(message) => assert_eq!(result, Err(message.to_owned())),
            }
        }
        check(&[], 4, Ok((&[], false, false)));
        check(&[0, 0, 0, 2, 0x41, 9], 4, Ok((&[0, 0, 0, 1, 0x41, 9], true, false)));
        check(&[1, 0x67, 2, 0x65, 7], 1, Ok((&[0, 0, 0, 1, 0x67, 0, 0, 0, 1, 0x65, 7], true, true)));
        check(&[0, 0, 0, 1, 0x06], 2, Ok((&[0, 0, 0, 1, 0x06], false, false)));
        check(&[0, 5, 0x41, 9], 2, Err("a NAL unit claims 5 bytes, 2 are left"));
        check(&[0, 1, 0x41, 9], 2, Err("1 stray bytes after the last NAL unit"));
        check(&[0xff, 0xff, 0xff, 0xff, 0x41], 4, Err("a NAL unit claims 4294967295 bytes, 1 are left"));
    }
}
