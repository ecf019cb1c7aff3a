use super::Mp4Error;
use super::boxes::{Reader, boxes};
use super::movie::{Edit, FragmentDefaults, Track, find};

/// One access unit of the video track, in decoding order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) size: u32,
    /// Whether decoding can begin here.
    pub(crate) key: bool,
    /// When it is shown, in nanoseconds; before 0 it is not shown.
    pub(crate) pts_ns: i64,
}

/// The samples of a track, gathered from its tables and fragments.
pub(super) struct SampleList {
    samples: Vec<Entry>,
    /// How many samples the tables promise but don't describe.
    pub(super) missing: u64,
    /// Decoding time of the next fragment, unless it says otherwise.
    next_dts: i64,
}

#[derive(Clone, Copy)]
struct Entry {
    offset: u64,
    size: u32,
    key: bool,
    /// Composition time in ticks.
    cts: i64,
}

/// A fortnight at 15 frames a second, and about half a gigabyte of tables: beyond it, a count is damage.
const MAX_SAMPLES: u64 = 20_000_000;

impl SampleList {
    /// Reads the sample tables in the payload of `stbl`. In a fragmented file they are empty.
    pub(super) fn from_tables(track: &Track<'_>, file_size: u64) -> Result<Self, Mp4Error> {
        let stbl = track.tables;
        let table = |kind: &[u8; 4]| find(stbl, "stbl", kind);
        let sizes = Sizes::parse(table(b"stsz")?, table(b"stz2")?)?;
        let mut list = Self { samples: Vec::new(), missing: 0, next_dts: 0 };
        let count = sizes.count.min(file_size);
        if count == 0 {
            return Ok(list);
        }
        if count > MAX_SAMPLES {
            return Err(Mp4Error::damaged(format!("box stsz claims {count} samples")));
        }
        let mut durations = runs(table(b"stts")?, "stts")?;
        let mut offsets = runs(table(b"ctts")?, "ctts")?;
        let keys = table(b"stss")?.map(|stss| column(stss, "stss")).transpose()?;
        let mut keys = keys.map(|keys| keys.map(|[number]| number).peekable());
        let mut places = Places::parse(table(b"stsc")?, table(b"stco")?, table(b"co64")?)?;

        let mut dts = 0i64;
        for number in 1..=count {
            let (Some(size), Some(duration)) = (sizes.get(number - 1), durations.next()) else { break };
            let Some(offset) = places.next(size)? else { break };
            // Version 0 offsets are unsigned, but no writer goes beyond 31 bits and many write negative ones.
            let composition = i64::from(offsets.next().unwrap_or(0).cast_signed());
            let key = match &mut keys {
                None => true,
                Some(keys) => {
                    while keys.next_if(|&k| u64::from(k) < number).is_some() {}
                    keys.peek().is_some_and(|&k| u64::from(k) == number)
                }
            };
            list.samples.push(Entry { offset, size, key, cts: dts.saturating_add(composition) });
            dts = dts.saturating_add(i64::from(duration));
        }
        list.missing = sizes.count - list.samples.len() as u64;
        list.next_dts = dts;
        Ok(list)
    }

    /// Adds the samples that the payload of a `moof` at `moof_start` in the file describes.
    pub(super) fn add_fragment(
        &mut self,
        moof: &[u8],
        moof_start: u64,
        track_id: u32,
        defaults: &FragmentDefaults,
    ) -> Result<(), Mp4Error> {
        // Where the data of the previous track fragment ended.
        let mut data_end = moof_start;
        for child in boxes(moof, "moof") {
            let (b"traf", traf) = child? else { continue };
            let (mut header, mut runs) = (None, Vec::new());
            for child in boxes(traf, "traf") {
                match child? {
                    (b"tfhd", payload) => header = Some(FragmentHeader::parse(payload, defaults)?),
                    (b"tfdt", payload) if header.as_ref().is_some_and(|h| h.track == track_id) => {
                        let mut r = Reader::new(payload, "tfdt");
                        let (version, _) = r.full_box()?;
                        self.next_dts = r.wide(version)?.cast_signed();
                    }
                    (b"trun", payload) => runs.push(payload),
                    _ => {}
                }
            }
            let header = header.ok_or_else(|| Mp4Error::damaged("box traf has no tfhd"))?;
            let base = match header.base {
                Some(base) => base,
                None if header.base_is_moof => moof_start,
                None => data_end,
            };
            data_end = base;
            for run in runs {
                data_end = self.add_run(run, base, data_end, &header, header.track == track_id)?;
            }
        }
        Ok(())
    }

    /// Adds (or, of another track, only measures) one `trun`; returns where its data ends.
    fn add_run(
        &mut self,
        trun: &[u8],
        base: u64,
        previous_end: u64,
        header: &FragmentHeader,
        ours: bool,
    ) -> Result<u64, Mp4Error> {
        let mut r = Reader::new(trun, "trun");
        let (_, flags) = r.full_box()?;
        let count = r.u32()?;
        let has = |bit: u32| flags & bit != 0;
        let mut at = if has(0x1) { base.saturating_add_signed(i64::from(r.i32()?)) } else { previous_end };
        let mut first_flags = if has(0x4) { Some(r.u32()?) } else { None };
        let row = [0x100, 0x200, 0x400, 0x800].into_iter().filter(|&bit| has(bit)).count() as u64 * 4;
        let fits = (r.rest().len() as u64).checked_div(row).unwrap_or(u64::MAX).min(count.into());
        if self.samples.len() as u64 + fits > MAX_SAMPLES {
            return Err(Mp4Error::damaged(format!("box trun claims {count} samples")));
        }
        if !ours && row == 0 {
            return Ok(at.saturating_add(fits * u64::from(header.defaults.size)));
        }
        for _ in 0..fits {
            let duration = if has(0x100) { r.u32()? } else { header.defaults.duration };
            let size = if has(0x200) { r.u32()? } else { header.defaults.size };
            let sample_flags = if has(0x400) { r.u32()? } else { header.defaults.flags };
            let sample_flags = first_flags.take().unwrap_or(sample_flags);
            let composition = if has(0x800) { r.i32()? } else { 0 };
            if ours {
                let cts = self.next_dts.saturating_add(composition.into());
                // sample_is_non_sync_sample
                let key = sample_flags & 0x1_0000 == 0;
                self.samples.push(Entry { offset: at, size, key, cts });
                self.next_dts = self.next_dts.saturating_add(duration.into());
            }
            at = at.saturating_add(size.into());
        }
        if ours {
            self.missing += u64::from(count) - fits;
        }
        Ok(at)
    }

    /// The samples, with composition times placed on the presentation's time line.
    ///
    /// With an edit list that is where the list says; what it leaves out at the start gets a time before 0. Without one, or
    /// with one that would leave out everything, the first picture is at 0.
    pub(super) fn place(self, timescale: u32, edit: Option<Edit>) -> Vec<Sample> {
        let earliest = self.samples.iter().map(|s| s.cts).min().unwrap_or(0);
        let latest = self.samples.iter().map(|s| s.cts).max().unwrap_or(0);
        let edit = edit.filter(|edit| edit.media_time <= latest).unwrap_or(Edit { delay_ns: 0, media_time: earliest });
        let place = |entry: Entry| Sample {
            offset: entry.offset,
            size: entry.size,
            key: entry.key,
            pts_ns: edit.delay_ns.saturating_add(ticks_to_ns(entry.cts.saturating_sub(edit.media_time), timescale)),
        };
        self.samples.into_iter().map(place).collect()
    }
}

/// The nearest nanosecond.
fn ticks_to_ns(ticks: i64, timescale: u32) -> i64 {
    let (ticks, timescale) = (i128::from(ticks) * 1_000_000_000, i128::from(timescale));
    let ns = (2 * ticks + timescale).div_euclid(2 * timescale);
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// A `tfhd` box, with what it leaves out filled in from the `trex`.
struct FragmentHeader {
    track: u32,
    base: Option<u64>,
    base_is_moof: bool,
    defaults: FragmentDefaults,
}

impl FragmentHeader {
    fn parse(tfhd: &[u8], defaults: &FragmentDefaults) -> Result<Self, Mp4Error> {
        let mut r = Reader::new(tfhd, "tfhd");
        let (_, flags) = r.full_box()?;
        let track = r.u32()?;
        let base = if flags & 0x1 != 0 { Some(r.u64()?) } else { None };
        if flags & 0x2 != 0 {
            r.u32()?;
        }
        let mut or = |bit: u32, default| if flags & bit != 0 { r.u32() } else { Ok(default) };
        let defaults = FragmentDefaults {
            duration: or(0x8, defaults.duration)?,
            size: or(0x10, defaults.size)?,
            flags: or(0x20, defaults.flags)?,
        };
        Ok(Self { track, base, base_is_moof: flags & 0x2_0000 != 0, defaults })
    }
}

/// `stsz` or `stz2`: the size of each sample.
struct Sizes<'a> {
    count: u64,
    /// 0: all have the size `constant`.
    bits: usize,
    constant: u32,
    table: &'a [u8],
}

impl<'a> Sizes<'a> {
    fn parse(stsz: Option<&'a [u8]>, stz2: Option<&'a [u8]>) -> Result<Self, Mp4Error> {
        let (payload, compact) = match (stsz, stz2) {
            (Some(stsz), _) => (stsz, false),
            (None, Some(stz2)) => (stz2, true),
            (None, None) => return Err(Mp4Error::damaged("box stbl has no stsz")),
        };
        let mut r = Reader::new(payload, "stsz");
        r.full_box()?;
        let field = r.u32()?;
        let count = u64::from(r.u32()?);
        let (bits, constant) = match (compact, field) {
            (false, 0) => (32, 0),
            (false, constant) => (0, constant),
            (true, field) => (field as usize & 0xff, 0),
        };
        if !matches!(bits, 0 | 4 | 8 | 16 | 32) {
            return Err(Mp4Error::damaged(format!("box stz2 has fields of {bits} bits")));
        }
        Ok(Self { count, bits, constant, table: r.rest() })
    }

    fn get(&self, index: u64) -> Option<u32> {
        let i = index as usize;
        match self.bits {
            0 => Some(self.constant),
            4 => self.table.get(i / 2).map(|&b| u32::from(if i.is_multiple_of(2) { b >> 4 } else { b & 15 })),
            bits => {
                let bytes = self.table.get(i * bits / 8..(i + 1) * bits / 8)?;
                Some(bytes.iter().fold(0, |n, &b| n << 8 | u32::from(b)))
            }
        }
    }
}

/// `stsc` with `stco` or `co64`: where each sample begins.
struct Places<'a> {
    /// First chunk (from 1), samples in each chunk, sample description.
    groups: std::iter::Peekable<Box<dyn Iterator<Item = [u32; 3]> + 'a>>,
    chunks: Box<dyn Iterator<Item = u64> + 'a>,
    chunk_number: u32,
    samples_per_chunk: u32,
    left_in_chunk: u32,
    at: u64,
}

impl<'a> Places<'a> {
    fn parse(stsc: Option<&'a [u8]>, stco: Option<&'a [u8]>, co64: Option<&'a [u8]>) -> Result<Self, Mp4Error> {
        let stsc = stsc.ok_or_else(|| Mp4Error::damaged("box stbl has no stsc"))?;
        let chunks: Box<dyn Iterator<Item = u64>> = match (stco, co64) {
            (Some(stco), _) => Box::new(column(stco, "stco")?.map(|[at]: [u32; 1]| at.into())),
            (None, Some(co64)) => {
                Box::new(column(co64, "co64")?.map(|[high, low]| u64::from(high) << 32 | u64::from(low)))
            }
            (None, None) => return Err(Mp4Error::damaged("box stbl has no stco")),
        };
        let groups: Box<dyn Iterator<Item = [u32; 3]>> = Box::new(column(stsc, "stsc")?);
        let groups = groups.peekable();
        Ok(Self { groups, chunks, chunk_number: 0, samples_per_chunk: 0, left_in_chunk: 0, at: 0 })
    }

    /// Where the next sample begins, given its size; `None` past the last chunk.
    fn next(&mut self, size: u32) -> Result<Option<u64>, Mp4Error> {
        while self.left_in_chunk == 0 {
            let Some(chunk) = self.chunks.next() else { return Ok(None) };
            self.chunk_number += 1;
            while let Some([_, samples, description]) = self.groups.next_if(|group| group[0] <= self.chunk_number) {
                self.samples_per_chunk = samples;
                if description != 1 {
                    return Err(Mp4Error::Unsupported("the codec's settings change within the track".into()));
                }
            }
            self.left_in_chunk = self.samples_per_chunk;
            self.at = chunk;
        }
        self.left_in_chunk -= 1;
        let at = self.at;
        self.at = at.saturating_add(size.into());
        Ok(Some(at))
    }
}

/// The rows of a full box that is one table.
fn column<'a, const N: usize>(
    payload: &'a [u8],
    name: &'static str,
) -> Result<impl ExactSizeIterator<Item = [u32; N]> + Clone + use<'a, N>, Mp4Error> {
    let mut r = Reader::new(payload, name);
    r.full_box()?;
    r.table()
}

/// A table of (count, value) runs, one value for each sample; empty where the box is absent.
fn runs<'a>(payload: Option<&'a [u8]>, name: &'static str) -> Result<impl Iterator<Item = u32> + use<'a>, Mp4Error> {
    let runs = payload.map(|payload| column(payload, name)).transpose()?;
    Ok(runs.into_iter().flatten().flat_map(|[count, value]| std::iter::repeat_n(value, count as usize)))
}
