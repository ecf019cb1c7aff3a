use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::Mp4Error;
use super::boxes::FourCc;
use super::movie::{Codec, Movie};
use super::samples::{Sample, SampleList};

/// An MP4 file with its index read. Samples are read one at a time, so a long recording costs the memory of its index.
pub(crate) struct Mp4File {
    file: File,
    position: u64,
    /// Coding of the video track.
    pub(crate) codec: Codec,
    /// The video track's samples, in decoding order.
    pub(crate) samples: Vec<Sample>,
    /// Set where the file ends before its index says so: how much is missing, for people.
    pub(crate) truncated: Option<String>,
    /// Degrees clockwise by which a player would turn the picture.
    pub(crate) rotation: u16,
}

/// Larger than any index of [`super::samples`]'s most samples.
const MAX_INDEX: u64 = 512 << 20;
/// Larger than any access unit of any level.
const MAX_UNIT: u32 = 64 << 20;

impl Mp4File {
    /// Reads the index of `file`.
    pub(crate) fn open(mut file: File) -> Result<Self, Mp4Error> {
        let file_size = file.metadata()?.len();
        let layout = Layout::scan(&mut file, file_size)?;
        let Some((start, end)) = layout.moov else { return Err(Mp4Error::NoIndex) };
        if end > file_size {
            return Err(Mp4Error::NoIndex);
        }
        let moov = read_payload(&mut file, start, end, "moov")?;
        let movie = Movie::parse(&moov)?;
        let track = &movie.track;
        let mut list = SampleList::from_tables(track, file_size)?;
        let mut truncated = None;
        if let Some(defaults) = &movie.fragment_defaults {
            for &(box_start, start, end) in &layout.moofs {
                // A recording that was cut off ends in half a fragment, and all before it is good.
                let added = if end > file_size {
                    Err(Mp4Error::damaged("it ends within a fragment"))
                } else {
                    read_payload(&mut file, start, end, "moof")
                        .and_then(|moof| list.add_fragment(&moof, box_start, track.id, defaults))
                };
                match added {
                    Ok(()) => {}
                    Err(error @ Mp4Error::Io(_)) => return Err(error),
                    Err(error) => {
                        truncated = Some(error.to_string());
                        break;
                    }
                }
            }
        }
        if list.missing > 0 {
            truncated = Some(format!("its index leaves out {} access units that it promises", list.missing));
        }
        let (timescale, edit) = (track.timescale, track.edit);
        let (codec, rotation) = (track.codec.clone(), track.rotation);
        Ok(Self { file, position: u64::MAX, codec, samples: list.place(timescale, edit), truncated, rotation })
    }

    /// Reads the bytes of a sample into `unit`. `false` where the file ends before it does.
    pub(crate) fn read(&mut self, sample: &Sample, unit: &mut Vec<u8>) -> Result<bool, Mp4Error> {
        if sample.size > MAX_UNIT {
            return Err(Mp4Error::damaged(format!("an access unit claims {} bytes", sample.size)));
        }
        if self.position != sample.offset {
            self.file.seek(SeekFrom::Start(sample.offset))?;
        }
        unit.resize(sample.size as usize, 0);
        self.position = u64::MAX;
        match self.file.read_exact(unit) {
            Ok(()) => {
                self.position = sample.offset + u64::from(sample.size);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the boxes of interest are: payload start and end; of fragments also where the box starts.
#[derive(Default)]
struct Layout {
    moov: Option<(u64, u64)>,
    moofs: Vec<(u64, u64, u64)>,
}

impl Layout {
    /// Walks over the top level of the file. Boxes may claim to end after the file does.
    fn scan(file: &mut File, file_size: u64) -> Result<Self, Mp4Error> {
        let mut layout = Self::default();
        let mut at = 0u64;
        while file_size.saturating_sub(at) >= 8 {
            file.seek(SeekFrom::Start(at))?;
            let mut header = [0u8; 16];
            let got = file_size.saturating_sub(at).min(16) as usize;
            file.read_exact(&mut header[..got])?;
            let [s0, s1, s2, s3, k0, k1, k2, k3, large @ ..] = header;
            let (size, payload) = match u32::from_be_bytes([s0, s1, s2, s3]) {
                0 => (file_size - at, 8),
                1 => (u64::from_be_bytes(large), 16),
                size => (size.into(), 8),
            };
            // What follows is no box: padding, or damage. What was found so far still counts.
            if size < payload {
                break;
            }
            let end = at.saturating_add(size);
            match &[k0, k1, k2, k3] {
                b"moov" if layout.moov.is_none() => layout.moov = Some((at + payload, end)),
                b"moof" => layout.moofs.push((at, at + payload, end)),
                _ => {}
            }
            at = end;
        }
        Ok(layout)
    }
}

fn read_payload(file: &mut File, start: u64, end: u64, name: &str) -> Result<Vec<u8>, Mp4Error> {
    let size = end.saturating_sub(start);
    if size > MAX_INDEX {
        return Err(Mp4Error::damaged(format!("box {name} claims {size} bytes")));
    }
    file.seek(SeekFrom::Start(start))?;
    let mut payload = vec![0; size as usize];
    file.read_exact(&mut payload)?;
    Ok(payload)
}

/// What a file's first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    Empty,
    Mp4,
    Jpeg,
    Png,
    /// A kind of video that another source may read: its name.
    OtherVideo(&'static str),
    /// A kind of picture that isn't read: its name.
    OtherImage(&'static str),
    Text,
    Unknown,
}

/// Says what begins with `head`, the first bytes of a file (up to a few hundred).
pub(crate) fn sniff(head: &[u8]) -> Sniffed {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let box_kind = head.get(4..8);
    match () {
        () if head.is_empty() => Sniffed::Empty,
        () if at(0, b"\xff\xd8\xff") => Sniffed::Jpeg,
        () if at(0, b"\x89PNG\r\n\x1a\n") => Sniffed::Png,
        () if at(4, b"ftypheic") || at(4, b"ftypheix") || at(4, b"ftypmif1") => Sniffed::OtherImage("HEIF"),
        () if at(4, b"ftypavif") => Sniffed::OtherImage("AVIF"),
        () if box_kind.is_some_and(is_top_level) => Sniffed::Mp4,
        () if at(0, b"\x1a\x45\xdf\xa3") => Sniffed::OtherVideo("Matroska or WebM"),
        () if at(0, b"RIFF") && at(8, b"AVI ") => Sniffed::OtherVideo("AVI"),
        () if at(0, b"RIFF") && at(8, b"WEBP") => Sniffed::OtherImage("WebP"),
        () if at(0, b"FLV\x01") => Sniffed::OtherVideo("Flash video"),
        () if at(0, b"OggS") => Sniffed::OtherVideo("Ogg"),
        () if at(0, b"\0\0\x01\xba") => Sniffed::OtherVideo("MPEG program stream"),
        () if at(0, b"\x47") && at(188, b"\x47") => Sniffed::OtherVideo("MPEG transport stream"),
        () if at(0, b"\0\0\0\x01") || at(0, b"\0\0\x01") => Sniffed::OtherVideo("raw H.264 or H.265"),
        () if at(0, b"\x30\x26\xb2\x75") => Sniffed::OtherVideo("Windows Media"),
        () if at(0, b"BM") && !is_text(head) => Sniffed::OtherImage("BMP"),
        () if at(0, b"GIF8") => Sniffed::OtherImage("GIF"),
        () if at(0, b"II*\0") || at(0, b"MM\0*") => Sniffed::OtherImage("TIFF"),
        () if is_text(head) => Sniffed::Text,
        () => Sniffed::Unknown,
    }
}

/// Boxes that a file may begin with.
fn is_top_level(kind: &[u8]) -> bool {
    const KINDS: [&[u8]; 10] =
        [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx"];
    KINDS.contains(&kind)
}

fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

/// What people call a codec, as in `"H.265 (hvc1)"`.
pub(crate) fn codec_name(format: FourCc) -> String {
    let name = match &format.0 {
        b"avc1" | b"avc3" => "H.264",
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "H.265",
        b"av01" => "AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"vvc1" | b"vvi1" => "H.266",
        b"mp4v" => "MPEG-4 Part 2",
        b"s263" | b"H263" | b"h263" => "H.263",
        b"jpeg" | b"mjpa" | b"mjpb" => "Motion JPEG",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes",
        b"encv" => "an encrypted video",
        _ => "an unknown codec",
    };
    format!("{name} ({format})")
}
