use super::Mp4Error;
use super::boxes::{FourCc, Reader, boxes};

/// The file's `moov` box, as far as one video track needs it.
pub(crate) struct Movie<'a> {
    /// The video track: the first one in H.264, else the first.
    pub(crate) track: Track<'a>,
    /// What fragments of that track assume; present in a fragmented file.
    pub(crate) fragment_defaults: Option<FragmentDefaults>,
}

/// The headers of a track.
pub(crate) struct Track<'a> {
    pub(crate) id: u32,
    /// Ticks per second.
    pub(crate) timescale: u32,
    pub(crate) codec: Codec,
    /// How the track lies on the presentation's time line, where the file says so.
    pub(crate) edit: Option<Edit>,
    /// Degrees clockwise by which a player would turn the picture.
    pub(crate) rotation: u16,
    /// The payload of `stbl`.
    pub(crate) tables: &'a [u8],
}

/// What a track's samples are coded in.
#[derive(Clone, Debug)]
pub(crate) struct Codec {
    pub(crate) format: FourCc,
    /// Present where `format` is `avc1` or `avc3`.
    pub(crate) avc: Option<AvcConfig>,
    pub(crate) color: Option<ContainerColor>,
}

/// An `avcC` box (ISO/IEC 14496-15 §5.3.3): how access units are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AvcConfig {
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub(crate) length_size: usize,
    /// Sequence, then picture parameter sets, as NAL units.
    pub(crate) parameter_sets: Vec<Vec<u8>>,
}

/// A `colr` box: code points of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContainerColor {
    pub(crate) matrix_coefficients: u16,
    /// `None` in QuickTime's older form.
    pub(crate) full_range: Option<bool>,
}

/// The part of an edit list that matters to frames: where the presentation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Nothing is shown for so long at first, in nanoseconds.
    pub(crate) delay_ns: i64,
    /// The composition time, in the track's ticks, that is shown then.
    pub(crate) media_time: i64,
}

/// A `trex` box.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FragmentDefaults {
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) flags: u32,
}

impl<'a> Movie<'a> {
    /// Reads the payload of `moov`.
    pub(crate) fn parse(moov: &'a [u8]) -> Result<Self, Mp4Error> {
        let mut movie_timescale = 0;
        let mut traks = Vec::new();
        let mut mvex = None;
        for child in boxes(moov, "moov") {
            match child? {
                (b"mvhd", payload) => movie_timescale = header_timescale(payload, "mvhd")?,
                (b"trak", payload) => traks.push(payload),
                (b"mvex", payload) => mvex = Some(payload),
                _ => {}
            }
        }
        let mut best: Option<Track<'a>> = None;
        let mut damage = None;
        for trak in traks {
            match Track::parse(trak, movie_timescale) {
                Ok(Some(track)) => {
                    if best.as_ref().is_none_or(|b| b.codec.avc.is_none() && track.codec.avc.is_some()) {
                        best = Some(track);
                    }
                }
                Ok(None) => {}
                Err(error) => damage = Some(error),
            }
        }
        let track = match (best, damage) {
            (Some(track), _) => track,
            // It may be the video track that is damaged.
            (None, Some(error)) => return Err(error),
            (None, None) => return Err(Mp4Error::NoVideoTrack),
        };
        let fragment_defaults = mvex.map(|mvex| fragment_defaults(mvex, track.id)).transpose()?;
        Ok(Self { track, fragment_defaults })
    }
}

impl<'a> Track<'a> {
    /// Reads the payload of a `trak`; `None` where it isn't video.
    fn parse(trak: &'a [u8], movie_timescale: u32) -> Result<Option<Self>, Mp4Error> {
        let (mut tkhd, mut elst, mut mdia) = (None, None, None);
        for child in boxes(trak, "trak") {
            match child? {
                (b"tkhd", payload) => tkhd = Some(payload),
                (b"edts", payload) => elst = find(payload, "edts", b"elst")?,
                (b"mdia", payload) => mdia = Some(payload),
                _ => {}
            }
        }
        let mdia = mdia.ok_or_else(|| missing("mdia", "trak"))?;
        let (mut mdhd, mut handler, mut minf) = (None, None, None);
        for child in boxes(mdia, "mdia") {
            match child? {
                (b"mdhd", payload) => mdhd = Some(payload),
                (b"hdlr", payload) => {
                    let mut r = Reader::new(payload, "hdlr");
                    r.bytes(8)?;
                    handler = Some(r.four_cc()?);
                }
                (b"minf", payload) => minf = Some(payload),
                _ => {}
            }
        }
        if handler != Some(FourCc(*b"vide")) {
            return Ok(None);
        }
        let (id, rotation) = track_header(tkhd.ok_or_else(|| missing("tkhd", "trak"))?)?;
        let timescale = header_timescale(mdhd.ok_or_else(|| missing("mdhd", "mdia"))?, "mdhd")?;
        if timescale == 0 {
            return Err(Mp4Error::damaged("the video track has a timescale of 0"));
        }
        let minf = minf.ok_or_else(|| missing("minf", "mdia"))?;
        let tables = find(minf, "minf", b"stbl")?.ok_or_else(|| missing("stbl", "minf"))?;
        let stsd = find(tables, "stbl", b"stsd")?.ok_or_else(|| missing("stsd", "stbl"))?;
        let edit = elst.map(|elst| edit(elst, movie_timescale)).transpose()?.flatten();
        Ok(Some(Self { id, timescale, codec: Codec::parse(stsd)?, edit, rotation, tables }))
    }
}

impl Codec {
    /// Reads the payload of `stsd`. Only its first entry: samples that use another one are refused with the tables.
    fn parse(stsd: &[u8]) -> Result<Self, Mp4Error> {
        let mut r = Reader::new(stsd, "stsd");
        r.bytes(8)?;
        let Some(entry) = boxes(r.rest(), "stsd").next() else {
            return Err(Mp4Error::damaged("the video track names no codec (stsd is empty)"));
        };
        let (format, entry) = entry?;
        let format = FourCc(*format);
        let mut codec = Self { format, avc: None, color: None };
        if !matches!(&format.0, b"avc1" | b"avc3") {
            return Ok(codec);
        }
        // VisualSampleEntry (ISO/IEC 14496-12 §12.1.3) has 78 bytes of fields before its boxes.
        let mut r = Reader::new(entry, "avc1");
        r.bytes(78)?;
        for child in boxes(r.rest(), "avc1") {
            match child? {
                (b"avcC", payload) => codec.avc = Some(AvcConfig::parse(payload)?),
                (b"colr", payload) => codec.color = codec.color.or(color(payload)?),
                _ => {}
            }
        }
        if codec.avc.is_none() {
            return Err(missing("avcC", "avc1"));
        }
        Ok(codec)
    }
}

impl AvcConfig {
    fn parse(avcc: &[u8]) -> Result<Self, Mp4Error> {
        let mut r = Reader::new(avcc, "avcC");
        // Version, profile, compatibility, level.
        r.bytes(4)?;
        let length_size = usize::from(r.u8()? & 3) + 1;
        if length_size == 3 {
            return Err(Mp4Error::damaged("box avcC has a NAL length size of 3"));
        }
        let mut parameter_sets = Vec::new();
        for mask in [0x1f, 0xff] {
            for _ in 0..r.u8()? & mask {
                let length = usize::from(r.u16()?);
                parameter_sets.push(r.bytes(length)?.to_vec());
            }
        }
        Ok(Self { length_size, parameter_sets })
    }
}

/// Track id and rotation from a `tkhd`.
fn track_header(tkhd: &[u8]) -> Result<(u32, u16), Mp4Error> {
    let mut r = Reader::new(tkhd, "tkhd");
    let (version, _) = r.full_box()?;
    r.bytes(if version == 1 { 16 } else { 8 })?;
    let id = r.u32()?;
    // Reserved, duration, reserved, layer, group, volume, reserved.
    r.bytes(4 + if version == 1 { 8 } else { 4 } + 16)?;
    let (a, b) = (r.i32()?, r.i32()?);
    let rotation = match (a.signum(), b.signum()) {
        (0, 1) => 90,
        (-1, 0) => 180,
        (0, -1) => 270,
        _ => 0,
    };
    Ok((id, rotation))
}

/// The timescale of an `mvhd` or `mdhd`, which begin alike.
fn header_timescale(payload: &[u8], name: &'static str) -> Result<u32, Mp4Error> {
    let mut r = Reader::new(payload, name);
    let (version, _) = r.full_box()?;
    r.bytes(if version == 1 { 16 } else { 8 })?;
    r.u32()
}

/// Empty edits delay the first edit that shows something; what comes after that one is not considered.
fn edit(elst: &[u8], movie_timescale: u32) -> Result<Option<Edit>, Mp4Error> {
    let mut r = Reader::new(elst, "elst");
    let (version, _) = r.full_box()?;
    let mut delay = 0i128;
    for _ in 0..r.u32()? {
        let duration = r.wide(version)?;
        let media_time = if version == 1 { r.u64()?.cast_signed() } else { i64::from(r.i32()?) };
        r.bytes(4)?;
        if media_time >= 0 {
            let delay_ns = delay * 1_000_000_000 / i128::from(movie_timescale.max(1));
            return Ok(Some(Edit { delay_ns: i64::try_from(delay_ns).unwrap_or(0), media_time }));
        }
        delay += i128::from(duration);
    }
    Ok(None)
}

/// `nclx` of ISO/IEC 14496-12 §12.1.5, or QuickTime's `nclc`. ICC profiles say nothing of the matrix.
fn color(colr: &[u8]) -> Result<Option<ContainerColor>, Mp4Error> {
    let mut r = Reader::new(colr, "colr");
    let kind = r.four_cc()?;
    if !matches!(&kind.0, b"nclx" | b"nclc") {
        return Ok(None);
    }
    r.bytes(4)?;
    let matrix_coefficients = r.u16()?;
    let full_range = if &kind.0 == b"nclx" { Some(r.u8()? & 0x80 != 0) } else { None };
    Ok(Some(ContainerColor { matrix_coefficients, full_range }))
}

fn fragment_defaults(mvex: &[u8], track: u32) -> Result<FragmentDefaults, Mp4Error> {
    for child in boxes(mvex, "mvex") {
        let (b"trex", payload) = child? else { continue };
        let mut r = Reader::new(payload, "trex");
        r.full_box()?;
        if r.u32()? == track {
            r.u32()?;
            return Ok(FragmentDefaults { duration: r.u32()?, size: r.u32()?, flags: r.u32()? });
        }
    }
    Ok(FragmentDefaults::default())
}

/// The payload of the first `kind` in `payload`.
pub(super) fn find<'a>(payload: &'a [u8], parent: &'static str, kind: &[u8; 4]) -> Result<Option<&'a [u8]>, Mp4Error> {
    for child in boxes(payload, parent) {
        let (found, payload) = child?;
        if found == kind {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

fn missing(kind: &str, parent: &str) -> Mp4Error {
    Mp4Error::damaged(format!("box {parent} has no {kind}"))
}
