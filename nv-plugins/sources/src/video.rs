use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use nv_core::{
    CancelToken, ColorInfo, ColorMatrix, ColorRange, Frame, FrameHeader, OwnedPlanes, PixelFormat, Pts, Size,
};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceItem, StreamInfo};

use crate::h264::{DecodeError, H264Decoder, Picture, Reorder, RustyDecoder, Sps, Stamp, color_matrix, to_annex_b};
use crate::mp4::{AvcConfig, ContainerColor, FourCc, Mp4Error, Mp4File, codec_name};

/// The pictures of an MP4 file's H.264 track, in display order.
///
/// Damage does not end it: what can't be decoded is a gap, what follows is suspect until the next key frame, and after the
/// last frame comes an error that says how much was lost.
pub(crate) struct VideoSource {
    url: String,
    cancel: CancelToken,
    info: StreamInfo,
    file: Mp4File,
    /// The sample to decode next.
    at: usize,
    /// The earliest time among each sample and those after it.
    earliest_from: Vec<i64>,
    /// Whether the container tells key frames from others.
    keys_differ: bool,
    length_size: usize,
    container_color: Option<ContainerColor>,
    color: ColorInfo,
    decoder: Box<dyn H264Decoder>,
    reorder: Reorder,
    /// What is ready to be given.
    ready: VecDeque<SourceItem>,
    flushed: bool,
    health: Health,
    /// Buffers that are used again for each access unit: as stored, and as Annex B.
    stored: Vec<u8>,
    unit: Vec<u8>,
}

/// What went well and what did not.
#[derive(Default)]
struct Health {
    decoded: u64,
    failed: u64,
    /// When the first failure was to be shown, and what it was.
    first_failure: Option<(Pts, DecodeError)>,
    unsupported: u64,
    /// Whether what is decoded now rests on data that was lost.
    suspect: bool,
    /// Pictures that are shown before it may rest on lost data even though they come after the last key frame.
    clean_from: Pts,
}

impl Health {
    /// Whether going on is in vain.
    fn is_unsupported(&self) -> bool {
        self.decoded == 0 && self.unsupported >= UNSUPPORTED_UNITS && self.unsupported == self.failed
    }
}

/// So many access units that ask for an unknown tool before any picture, and it is the stream rather than damage.
const UNSUPPORTED_UNITS: u64 = 3;

const CONVERT: &str =
    "the GStreamer source plugin decodes it, or convert it: ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4";
const RECOPY: &str = "copy or record it again";
const KEPT: &str = "all frames that could be decoded are kept; for the rest, copy or record it again";

impl VideoSource {
    /// Opens `file` and decodes up to its first picture.
    pub(crate) fn open(url: &str, file: File, cancel: &CancelToken) -> Result<Self, SourceError> {
        let file = Mp4File::open(file).map_err(|error| container_error(url, error))?;
        let format = file.codec.format;
        let Some(avc) = &file.codec.avc else {
            let message = format!("its video is {}; this source decodes H.264", codec_name(format));
            return Err(unsupported(url, message, format));
        };
        let decoder = RustyDecoder::new(annex_b(avc)).map_err(|error| match error {
            DecodeError::Unsupported(what) => unsupported_h264(url, &what),
            DecodeError::Damaged(what) => {
                damaged(url, format!("the parameter sets of its H.264 ({format}) are damaged: {what}"))
            }
        });
        let sps = avc.parameter_sets.iter().filter(|set| is_sps(set)).find_map(|set| Sps::parse(set));
        if let Some(what) = sps.as_ref().and_then(|sps| sps.unsupported.as_deref()) {
            return Err(unsupported_h264(url, what));
        }
        if file.rotation != 0 {
            tracing::warn!(url, degrees = file.rotation, "players turn this video; frames and boxes are as recorded");
        }
        let mut source = Self::new(url, file, Box::new(decoder?), cancel);
        if let Some(sps) = sps {
            source.configure(&sps);
        }
        while !source.flushed && !source.ready.iter().any(|item| matches!(item, SourceItem::Frame(_))) {
            source.step()?;
        }
        match source.end() {
            Err(error) if source.health.decoded == 0 => Err(error),
            _ => Ok(source),
        }
    }

    fn new(url: &str, file: Mp4File, decoder: Box<dyn H264Decoder>, cancel: &CancelToken) -> Self {
        let mut earliest_from: Vec<i64> = file.samples.iter().map(|s| s.pts_ns).collect();
        for i in (1..earliest_from.len()).rev() {
            earliest_from[i - 1] = earliest_from[i - 1].min(earliest_from[i]);
        }
        let shown = file.samples.iter().filter(|s| s.pts_ns >= 0).count();
        let info = StreamInfo {
            size: Size::default(),
            frame_interval: frame_interval(file.samples.iter().map(|s| s.pts_ns).collect()),
            frame_count: Some(shown as u64),
            live: false,
            codec: "H.264".into(),
            decoder: "rusty_h264".into(),
            max_outstanding: None,
        };
        Self {
            url: url.into(),
            cancel: cancel.clone(),
            info,
            at: 0,
            earliest_from,
            keys_differ: file.samples.iter().any(|s| !s.key),
            length_size: file.codec.avc.as_ref().map_or(4, |avc| avc.length_size),
            container_color: file.codec.color,
            color: ColorInfo::default(),
            file,
            decoder,
            reorder: Reorder::default(),
            ready: VecDeque::new(),
            flushed: false,
            // Until the first key frame there is nothing to build on.
            health: Health { suspect: true, ..Health::default() },
            stored: Vec::new(),
            unit: Vec::new(),
        }
    }

    /// Takes over what a parameter set says of the pictures that follow.
    fn configure(&mut self, sps: &Sps) {
        self.decoder.configure(sps);
        let container = self.container_color;
        let matrix = sps.matrix_coefficients.and_then(color_matrix);
        let range = sps.range.or_else(|| {
            let full = container?.full_range?;
            Some(if full { ColorRange::Full } else { ColorRange::Limited })
        });
        // What nobody names is taken as BT.601 limited, as most players and all of OpenCV do.
        self.color = ColorInfo {
            range: range.unwrap_or(ColorRange::Limited),
            matrix: matrix.or_else(|| color_matrix(container?.matrix_coefficients)).unwrap_or(ColorMatrix::Bt601),
        };
        self.info.codec = format!("H.264 {}", sps.profile);
        if self.info.size == Size::default() {
            self.info.size = sps.size;
        }
    }

    /// Decodes one access unit, or, after the last, takes out what the decoder holds.
    fn step(&mut self) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::new(SourceErrorKind::Cancelled, &self.url, "cancelled"));
        }
        let Some(&sample) = self.file.samples.get(self.at) else {
            self.finish();
            return Ok(());
        };
        let pts = Pts::from_nanos(sample.pts_ns);
        match self.file.read(&sample, &mut self.stored) {
            Ok(true) => {}
            Ok(false) => {
                let (at, count) = (self.at, self.file.samples.len());
                self.file.truncated = Some(format!("its data ends after {at} of {count} access units"));
                self.at = count;
                self.finish();
                return Ok(());
            }
            Err(Mp4Error::Io(error)) => return Err(read_error(&self.url, error)),
            Err(error) => {
                self.at += 1;
                self.fail(pts, DecodeError::Damaged(error.to_string()));
                return Ok(());
            }
        }
        self.at += 1;
        if let Err(error) = self.decode(pts, sample.key) {
            self.fail(pts, error);
            if self.health.is_unsupported() {
                self.at = self.file.samples.len();
            }
        }
        self.take_pictures();
        Ok(())
    }

    /// Decodes the access unit in `stored`.
    fn decode(&mut self, pts: Pts, container_key: bool) -> Result<(), DecodeError> {
        self.unit.clear();
        let mut sps = None;
        let kind =
            to_annex_b(&self.stored, self.length_size, &mut self.unit, |nal| sps = Sps::parse(nal).or(sps.take()))
                .map_err(DecodeError::Damaged)?;
        if let Some(sps) = sps {
            if let Some(what) = &sps.unsupported {
                return Err(DecodeError::Unsupported(what.clone()));
            }
            self.configure(&sps);
        }
        let recovers = kind.has_picture && (kind.is_idr || (container_key && self.keys_differ));
        let suspect = !recovers && (self.health.suspect || pts < self.health.clean_from);
        self.decoder.push(&self.unit, kind, Stamp { pts, suspect })?;
        if recovers && self.health.suspect {
            self.health.suspect = false;
            // After an IDR nothing before it is used any more. Of another key frame only the pictures that are shown after it
            // can be relied on (the leading pictures of an open GOP may use what came before).
            self.health.clean_from = if kind.is_idr { Pts::from_nanos(i64::MIN) } else { pts };
        }
        Ok(())
    }

    /// Books an access unit that gave no picture.
    fn fail(&mut self, pts: Pts, error: DecodeError) {
        let health = &mut self.health;
        health.failed += 1;
        health.unsupported += u64::from(matches!(error, DecodeError::Unsupported(_)));
        match self.ready.back_mut() {
            Some(SourceItem::Event(SourceEvent::Gap { count })) => *count += 1,
            _ => self.ready.push_back(SourceItem::Event(SourceEvent::Gap { count: 1 })),
        }
        if !health.suspect || health.first_failure.is_none() {
            let reason = failure_text(pts, &error);
            self.ready.push_back(SourceItem::Event(SourceEvent::Suspect { reason }));
        }
        health.suspect = true;
        health.first_failure.get_or_insert((pts, error));
    }

    /// Moves pictures from the decoder through the reordering to `ready`.
    fn take_pictures(&mut self) {
        while let Some(picture) = self.decoder.next() {
            self.health.decoded += 1;
            self.reorder.push(picture);
        }
        let next_pts = self.earliest_from.get(self.at).copied().map(Pts::from_nanos);
        while let Some(picture) = self.reorder.pop(next_pts) {
            self.show(picture);
        }
    }

    fn show(&mut self, picture: Picture) {
        let Picture { stamp: Stamp { pts, suspect }, size, planes } = picture;
        // An edit list leaves out what comes before its start.
        if pts < Pts::from_nanos(0) {
            return;
        }
        let header = FrameHeader { size, format: PixelFormat::I420, color: self.color, pts, captured: None, suspect };
        match Frame::new(header, Arc::new(OwnedPlanes(planes))) {
            Ok(frame) => {
                if size != self.info.size {
                    self.info.size = size;
                    self.ready.push_back(SourceItem::Event(SourceEvent::FormatChanged));
                }
                self.ready.push_back(SourceItem::Frame(frame));
            }
            Err(error) => self.fail(pts, DecodeError::Damaged(error.to_string())),
        }
    }

    fn finish(&mut self) {
        if !self.flushed {
            self.flushed = true;
            self.decoder.flush();
            self.take_pictures();
        }
    }

    /// How the session ends, after its last frame.
    fn end(&self) -> Result<SourceItem, SourceError> {
        let (health, count) = (&self.health, self.file.samples.len());
        if let Some((pts, error)) = &health.first_failure {
            if health.decoded == 0 {
                return Err(match error {
                    DecodeError::Unsupported(what) => unsupported_h264(&self.url, what),
                    DecodeError::Damaged(what) => damaged(
                        &self.url,
                        format!("none of its {count} H.264 access units could be decoded; the first: {what}"),
                    ),
                });
            }
            let first = failure_text(*pts, error);
            let failed = health.failed;
            let mut message =
                format!("{failed} of {count} H.264 access units could not be decoded; the first: {first}");
            if let Some(truncated) = &self.file.truncated {
                message += &format!("; and it is cut off: {truncated}");
            }
            return Err(match error {
                DecodeError::Unsupported(_) if health.unsupported == failed => {
                    unsupported(&self.url, message, FourCc(*b"avc1"))
                }
                _ => damaged(&self.url, message).with_remedy(KEPT),
            });
        }
        let remedy = if health.decoded > 0 { KEPT } else { RECOPY };
        match &self.file.truncated {
            Some(truncated) => Err(damaged(&self.url, format!("the file is cut off: {truncated}")).with_remedy(remedy)),
            None if count == 0 => Err(damaged(&self.url, "its video track holds no pictures".into())),
            None if health.decoded == 0 => {
                Err(damaged(&self.url, format!("its {count} access units hold no pictures")))
            }
            None => Ok(SourceItem::End),
        }
    }
}

impl FrameSource for VideoSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if self.flushed {
                return self.end();
            }
            self.step()?;
        }
    }
}

/// The interval of a stream whose frames are evenly spaced, within an eighth of it: many containers round to milliseconds.
fn frame_interval(mut times: Vec<i64>) -> Option<Duration> {
    times.sort_unstable();
    let (first, last) = (i128::from(*times.first()?), i128::from(*times.last()?));
    let steps = times.len() as i128 - 1;
    let interval = (last - first).checked_div(steps).filter(|&ns| ns > 0)?;
    let place = |i: i128| first + (last - first) * i / steps;
    let even = (0..).zip(&times).all(|(i, &at)| (i128::from(at) - place(i)).abs() <= interval / 8);
    even.then(|| Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX)))
}

fn annex_b(avc: &AvcConfig) -> Vec<u8> {
    avc.parameter_sets.iter().flat_map(|set| [&[0, 0, 0, 1], set.as_slice()].concat()).collect()
}

fn is_sps(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| header & 0x1f == 7)
}

fn failure_text(pts: Pts, error: &DecodeError) -> String {
    let (DecodeError::Damaged(what) | DecodeError::Unsupported(what)) = error;
    format!("at {:.3} s: {what}", pts.as_millis_f64() / 1000.0)
}

fn container_error(url: &str, error: Mp4Error) -> SourceError {
    match error {
        Mp4Error::Io(error) => read_error(url, error),
        Mp4Error::NoIndex => damaged(
            url,
            "the MP4 is cut off: its index (the moov box) is missing, so that none of its frames can be found".into(),
        )
        .with_remedy("the copy or the recording did not finish: do it again, or rebuild the index with a repair tool"),
        Mp4Error::NoVideoTrack => SourceError::new(SourceErrorKind::NotVideo, url, "the MP4 has no video track")
            .with_remedy("give a file with video in it"),
        Mp4Error::Unsupported(what) => SourceError::new(SourceErrorKind::Unsupported, url, what).with_remedy(CONVERT),
        Mp4Error::Damaged(what) => damaged(url, format!("the MP4's index is damaged: {what}"))
            .with_remedy("copy or record it again, or rebuild the index with a repair tool"),
    }
}

fn unsupported(url: &str, message: String, format: FourCc) -> SourceError {
    let error = SourceError::new(SourceErrorKind::Unsupported, url, message);
    if format == FourCc(*b"encv") { error.with_remedy("give it decrypted") } else { error.with_remedy(CONVERT) }
}

fn unsupported_h264(url: &str, what: &str) -> SourceError {
    let message = format!("its H.264 is of a kind that the built-in decoder lacks: {what}");
    unsupported(url, message, FourCc(*b"avc1"))
}

fn damaged(url: &str, message: String) -> SourceError {
    SourceError::new(SourceErrorKind::Damaged, url, message).with_remedy(RECOPY)
}

fn read_error(url: &str, error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Io, url, format!("reading failed: {error}")).with_source(error)
}

#[cfg(test)]
mod tests;
