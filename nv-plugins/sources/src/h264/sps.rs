use nv_core::{ColorMatrix, ColorRange, Size};

/// What a sequence parameter set (ITU-T H.264 §7.3.2.1.1, Annex E) says of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sps {
    /// The profile's name, as in `"High"`.
    pub(crate) profile: &'static str,
    /// After cropping.
    pub(crate) size: Size,
    /// Luma samples left out at the left and the top. Nearly always 0.
    pub(crate) crop_offset: (u32, u32),
    pub(crate) range: Option<ColorRange>,
    /// `matrix_coefficients` of ITU-T H.273, where given.
    pub(crate) matrix_coefficients: Option<u16>,
    /// Why no decoder of ours can decode it, where that shows.
    pub(crate) unsupported: Option<String>,
}

impl Sps {
    /// Reads a NAL unit. `None` where it is damaged.
    pub(crate) fn parse(nal: &[u8]) -> Option<Self> {
        let rbsp = without_emulation_prevention(nal.get(1..)?);
        let mut r = Bits::new(&rbsp);
        let (profile_idc, constraints) = (r.bits(8)?, r.bits(8)?);
        r.bits(8)?; // level
        r.ue()?; // id
        let (mut chroma_format, mut bit_depth) = (1, (8, 8));
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format = r.ue()?;
            if chroma_format == 3 {
                r.bit()?;
            }
            bit_depth = (r.ue()?.checked_add(8)?, r.ue()?.checked_add(8)?);
            r.bit()?;
            if r.bit()? {
                for i in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if r.bit()? {
                        r.skip_scaling_list(if i < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        r.ue()?; // log2_max_frame_num
        match r.ue()? {
            0 => {
                r.ue()?;
            }
            1 => {
                r.bit()?;
                r.ue()?;
                r.ue()?;
                for _ in 0..r.ue()?.min(255) {
                    r.ue()?;
                }
            }
            _ => {}
        }
        r.ue()?; // max_num_ref_frames
        r.bit()?;
        let (width_mbs, height_units) = (r.ue()?.checked_add(1)?, r.ue()?.checked_add(1)?);
        let frame_mbs_only = r.bit()?;
        let mbaff = !frame_mbs_only && r.bit()?;
        r.bit()?; // direct_8x8_inference
        let crop = if r.bit()? { [r.ue()?, r.ue()?, r.ue()?, r.ue()?] } else { [0; 4] };
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let unit_y = if frame_mbs_only { unit_y } else { 2 * unit_y };
        let height_mbs = if frame_mbs_only { height_units } else { height_units.checked_mul(2)? };
        let cropped = |mbs: u32, unit: u32, from: u32, to: u32| {
            let cut = from.checked_add(to)?.checked_mul(unit)?;
            mbs.checked_mul(16)?.checked_sub(cut).filter(|&left| left > 0)
        };
        let [left, right, top, bottom] = crop;
        let size = Size::new(cropped(width_mbs, unit_x, left, right)?, cropped(height_mbs, unit_y, top, bottom)?);

        let unsupported = match (chroma_format, bit_depth) {
            (0, _) => Some("monochrome (4:0:0)".into()),
            (2, _) => Some("4:2:2 chroma".into()),
            (3, _) => Some("4:4:4 chroma".into()),
            (_, (8, 8)) if mbaff => Some("interlaced (MBAFF)".into()),
            (_, (8, 8)) => None,
            (_, (luma, chroma)) => Some(format!("{} bits a sample", luma.max(chroma))),
        };
        // The rest only adds colour; where it is cut short the picture is still known.
        let (range, matrix_coefficients) = r.video_signal().unwrap_or_default();
        let profile = profile_name(profile_idc, constraints);
        Some(Self {
            profile,
            size,
            crop_offset: (left * unit_x, top * unit_y),
            range,
            matrix_coefficients,
            unsupported,
        })
    }
}

/// What `matrix_coefficients` of ITU-T H.273 means; `None` for "unspecified" and what isn't known.
pub(crate) fn color_matrix(matrix_coefficients: u16) -> Option<ColorMatrix> {
    match matrix_coefficients {
        1 => Some(ColorMatrix::Bt709),
        4..=6 => Some(ColorMatrix::Bt601),
        9 | 10 => Some(ColorMatrix::Bt2020),
        _ => None,
    }
}

fn profile_name(profile_idc: u32, constraints: u32) -> &'static str {
    let constraint = |set: u32| constraints & (0x80 >> set) != 0;
    match profile_idc {
        66 if constraint(1) => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4 Predictive",
        44 => "CAVLC 4:4:4 Intra",
        118 | 128 | 138 => "Multiview",
        83 | 86 => "Scalable",
        _ => "unknown profile",
    }
}

/// Takes out the 3 of each `00 00 03` (§7.4.1).
fn without_emulation_prevention(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Reads bits, most significant first. `None` past the end.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.at / 8)?;
        self.at += 1;
        Some(byte >> (7 - (self.at - 1) % 8) & 1 == 1)
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    /// An unsigned Exp-Golomb code (§9.1). Signed ones have the same length, so this skips those too.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        Some((1u32 << zeros) - 1 + rest)
    }

    fn skip_scaling_list(&mut self, size: u32) -> Option<()> {
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..size {
            if next != 0 {
                let code = i64::from(self.ue()?);
                let delta = if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }

    /// Range and matrix from the VUI parameters (§E.1.1).
    fn video_signal(&mut self) -> Option<(Option<ColorRange>, Option<u16>)> {
        if !self.bit()? {
            return None;
        }
        if self.bit()? && self.bits(8)? == 255 {
            self.bits(32)?;
        }
        if self.bit()? {
            self.bit()?;
        }
        if !self.bit()? {
            return None;
        }
        self.bits(3)?;
        let range = if self.bit()? { ColorRange::Full } else { ColorRange::Limited };
        let matrix = if self.bit()? {
            self.bits(16)?;
            Some(self.bits(8)? as u16)
        } else {
            None
        };
        Some((Some(range), matrix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a parameter set bit by bit.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn bits(&mut self, value: u32, count: u32) -> &mut Self {
            self.0.extend((0..count).rev().map(|i| value >> i & 1 == 1));
            self
        }

        fn ue(&mut self, value: u32) -> &mut Self {
            let length = 32 - (value + 1).leading_zeros();
            self.bits(0, length - 1).bits(value + 1, length)
        }

        /// A NAL unit, with emulation prevention.
        fn nal(&self) -> Vec<u8> {
            let mut bits = self.0.clone();
            bits.push(true);
            let mut nal = vec![0x67];
            for byte in bits.chunks(8) {
                let byte = byte.iter().enumerate().fold(0, |b, (i, &bit)| b | u8::from(bit) << (7 - i));
                if byte <= 3 && nal.ends_with(&[0, 0]) {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    struct Case {
        profile: u32,
        chroma: u32,
        depth: u32,
        frame_mbs_only: bool,
        mbs: (u32, u32),
        crop: [u32; 4],
        /// Full range, matrix.
        signal: Option<(bool, Option<u32>)>,
    }

    const HD: Case = Case {
        profile: 100,
        chroma: 1,
        depth: 8,
        frame_mbs_only: true,
        mbs: (120, 68),
        crop: [0, 0, 0, 4],
        signal: None,
    };

    fn parse(case: &Case) -> Sps {
        let mut w = Writer::default();
        w.bits(case.profile, 8).bits(0, 8).bits(40, 8).ue(0);
        if case.profile >= 100 {
            w.ue(case.chroma);
            if case.chroma == 3 {
                w.bits(0, 1);
            }
            w.ue(case.depth - 8).ue(case.depth - 8).bits(0, 1).bits(1, 1);
            // One scaling list: the default; the others absent.
            w.bits(1, 1).ue(16).bits(0, if case.chroma == 3 { 11 } else { 7 });
        }
        w.ue(0).ue(0).ue(2).ue(4).bits(0, 1).ue(case.mbs.0 - 1).ue(case.mbs.1 - 1);
        w.bits(case.frame_mbs_only.into(), 1);
        if !case.frame_mbs_only {
            w.bits(1, 1);
        }
        w.bits(1, 1).bits(1, 1);
        for crop in case.crop {
            w.ue(crop);
        }
        w.bits(case.signal.is_some().into(), 1);
        if let Some((full, matrix)) = case.signal {
            // Aspect ratio 255 with both numbers, no overscan, then the video signal.
            w.bits(1, 1).bits(255, 8).bits(1, 16).bits(1, 16).bits(0, 1).bits(1, 1).bits(5, 3);
            w.bits(full.into(), 1).bits(matrix.is_some().into(), 1);
            if let Some(matrix) = matrix {
                w.bits(1, 8).bits(1, 8).bits(matrix, 8);
            }
        }
        Sps::parse(&w.nal()).unwrap()
    }

    #[test]
    fn sizes_are_cropped() {
        assert_eq!(parse(&HD).size, Size::new(1920, 1080));
        let odd = parse(&Case { crop: [1, 2, 3, 4], ..HD });
        assert_eq!((odd.size, odd.crop_offset), (Size::new(1914, 1074), (2, 6)));
        let mbaff = parse(&Case { frame_mbs_only: false, mbs: (120, 34), crop: [0, 0, 0, 2], ..HD });
        assert_eq!(mbaff.size, Size::new(1920, 1080));
        let baseline = parse(&Case { profile: 66, crop: [0; 4], ..HD });
        assert_eq!((baseline.profile, baseline.size), ("Baseline", Size::new(1920, 1088)));
    }

    #[test]
    fn colour_is_what_the_stream_names() {
        fn check(signal: Option<(bool, Option<u32>)>, range: Option<ColorRange>, matrix: Option<ColorMatrix>) {
            let sps = parse(&Case { signal, ..HD });
            assert_eq!((sps.range, sps.matrix_coefficients.and_then(color_matrix)), (range, matrix), "{signal:?}");
        }
        check(None, None, None);
        check(Some((false, None)), Some(ColorRange::Limited), None);
        check(Some((true, Some(1))), Some(ColorRange::Full), Some(ColorMatrix::Bt709));
        check(Some((false, Some(6))), Some(ColorRange::Limited), Some(ColorMatrix::Bt601));
        check(Some((false, Some(9))), Some(ColorRange::Limited), Some(ColorMatrix::Bt2020));
        check(Some((false, Some(2))), Some(ColorRange::Limited), None);
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        fn check(case: &Case, expected: Option<&str>) {
            assert_eq!(parse(case).unsupported.as_deref(), expected);
        }
        check(&HD, None);
        check(&Case { chroma: 0, ..HD }, Some("monochrome (4:0:0)"));
        check(&Case { profile: 122, chroma: 2, ..HD }, Some("4:2:2 chroma"));
        check(&Case { profile: 244, chroma: 3, ..HD }, Some("4:4:4 chroma"));
        check(&Case { profile: 110, depth: 10, ..HD }, Some("10 bits a sample"));
        check(&Case { frame_mbs_only: false, ..HD }, Some("interlaced (MBAFF)"));
    }

    #[test]
    fn damage_is_none_never_a_panic() {
        let mut w = Writer::default();
        w.bits(100, 8).bits(0, 8).bits(40, 8).ue(0).ue(1).ue(0).ue(0).bits(0, 2).ue(0).ue(0).ue(2).ue(4).bits(0, 1);
        w.ue(7).ue(5).bits(1, 1).bits(1, 1).bits(0, 1).bits(0, 1);
        let nal = w.nal();
        assert_eq!(Sps::parse(&nal).unwrap().size, Size::new(128, 96));
        assert_eq!(Sps::parse(&[]), None);
        for cut in 0..nal.len() - 1 {
            assert_eq!(Sps::parse(&nal[..cut]), None, "{cut}");
        }
        for (i, bit) in (0..nal.len()).flat_map(|i| (0..8).map(move |bit| (i, bit))) {
            let mut damaged = nal.clone();
            damaged[i] ^= 1 << bit;
            let _ = Sps::parse(&damaged);
        }
    }
}
