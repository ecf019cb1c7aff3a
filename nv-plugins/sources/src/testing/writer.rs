use nv_core::Size;

/// Writes an MP4 file of one track (ISO/IEC 14496-12), as small as players take it.
#[derive(Clone, Debug)]
pub struct Mp4Writer {
    /// Type of the track: `vide`, or `soun` for a file without video.
    pub handler: [u8; 4],
    /// The codec: `avc1`, `hvc1`, …
    pub format: [u8; 4],
    /// Type and payload of the box with the codec's settings, such as `avcC`.
    pub config: ([u8; 4], Vec<u8>),
    /// Width and height in the headers.
    pub size: Size,
    /// Ticks per second.
    pub timescale: u32,
    /// The samples, in decoding order.
    pub samples: Vec<Mp4Sample>,
    /// Where the boxes go.
    pub layout: Layout,
    /// An edit list that starts the presentation at this composition time.
    pub edit_start: Option<i32>,
    /// A `colr` box: `matrix_coefficients`, full range.
    pub color: Option<(u16, bool)>,
}

/// One sample of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mp4Sample {
    /// As it is stored: NAL units, each after its length in 4 bytes.
    pub data: Vec<u8>,
    /// Whether decoding can begin here.
    pub key: bool,
    /// Ticks to the next sample's decoding.
    pub duration: u32,
    /// Ticks from its decoding to its presentation.
    pub composition_offset: i32,
}

/// Where the boxes of a file go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The index before the data, as for the web.
    IndexFirst,
    /// The index after the data, as recorders write it: a file that is cut off has none.
    IndexLast,
    /// An empty index, then fragments.
    Fragmented {
        /// Samples in a fragment.
        samples: usize,
    },
}

impl Mp4Writer {
    /// The same, in another layout.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let ftyp = boxed(b"ftyp", [b"isom\0\0\x02\0isomavc1".as_slice()]);
        let data: Vec<u8> = self.samples.iter().flat_map(|s| s.data.iter().copied()).collect();
        match self.layout {
            Layout::IndexFirst => {
                // The index is as long whatever it says.
                let data_at = ftyp.len() + self.moov(&self.samples, 0).len() + 8;
                [ftyp, self.moov(&self.samples, data_at), boxed(b"mdat", [data])].concat()
            }
            Layout::IndexLast => {
                let moov = self.moov(&self.samples, ftyp.len() + 8);
                [ftyp, boxed(b"mdat", [data]), moov].concat()
            }
            Layout::Fragmented { samples } => {
                let mut file = [ftyp, self.moov(&[], 0)].concat();
                let mut decode_time = 0;
                for (number, fragment) in (1..).zip(self.samples.chunks(samples.max(1))) {
                    file.extend(self.fragment(number, fragment, decode_time));
                    decode_time += fragment.iter().map(|s| u64::from(s.duration)).sum::<u64>();
                }
                file
            }
        }
    }

    fn moov(&self, samples: &[Mp4Sample], data_at: usize) -> Vec<u8> {
        let duration: u32 = samples.iter().map(|s| s.duration).sum();
        let mvhd = full(
            b"mvhd",
            0,
            0,
            [
                &words(&[0, 0, self.timescale, duration, 0x1_0000]),
                [1, 0].as_slice(),
                &[0; 10],
                &words(&MATRIX),
                &[0; 24],
                &words(&[2]),
            ],
        );
        let mvex = match self.layout {
            Layout::Fragmented { .. } => boxed(b"mvex", [full(b"trex", 0, 0, [words(&[1, 1, 0, 0, 0])])]),
            _ => Vec::new(),
        };
        boxed(b"moov", [mvhd, self.trak(samples, duration, data_at), mvex])
    }

    fn trak(&self, samples: &[Mp4Sample], duration: u32, data_at: usize) -> Vec<u8> {
        let (width, height) = (self.size.width, self.size.height);
        let tkhd = full(
            b"tkhd",
            0,
            3,
            [words(&[0, 0, 1, 0, duration, 0, 0, 0, 0]), words(&MATRIX), words(&[width << 16, height << 16])],
        );
        let edts = self.edit_start.map_or(Vec::new(), |start| {
            boxed(b"edts", [full(b"elst", 0, 0, [words(&[1, duration, start.cast_unsigned(), 0x1_0000])])])
        });
        let mdhd = full(b"mdhd", 0, 0, [words(&[0, 0, self.timescale, duration]), vec![0x55, 0xc4, 0, 0]]);
        let hdlr = full(b"hdlr", 0, 0, [&[0; 4], self.handler.as_slice(), &[0; 13]]);
        let dinf = boxed(b"dinf", [full(b"dref", 0, 0, [words(&[1]), full(b"url ", 0, 1, [[]])])]);
        let stbl = boxed(b"stbl", [self.stsd(), tables(samples, data_at)]);
        let vmhd = full(b"vmhd", 0, 1, [[0; 8]]);
        boxed(b"trak", [tkhd, edts, boxed(b"mdia", [mdhd, hdlr, boxed(b"minf", [vmhd, dinf, stbl])])])
    }

    fn stsd(&self) -> Vec<u8> {
        let size = [self.size.width as u16, self.size.height as u16].map(u16::to_be_bytes).concat();
        let colr = self.color.map_or(Vec::new(), |(matrix, full_range)| {
            let [high, low] = matrix.to_be_bytes();
            boxed(b"colr", [b"nclx\0\x02\0\x02".as_slice(), &[high, low, u8::from(full_range) << 7]])
        });
        let config = boxed(&self.config.0, [&self.config.1]);
        let entry = boxed(
            &self.format,
            [
                [0, 0, 0, 0, 0, 0, 0, 1].as_slice(),
                &[0; 16],
                &size,
                &words(&[0x48_0000, 0x48_0000, 0]),
                &[0, 1],
                &[0; 32],
                &[0, 0x18, 0xff, 0xff],
                &config,
                &colr,
            ],
        );
        full(b"stsd", 0, 0, [words(&[1]), entry])
    }

    fn fragment(&self, number: u32, samples: &[Mp4Sample], decode_time: u64) -> Vec<u8> {
        let rows = samples.iter().flat_map(|s| {
            let flags = if s.key { 0x200_0000 } else { 0x101_0000 };
            [s.duration, s.data.len() as u32, flags, s.composition_offset.cast_unsigned()]
        });
        let rows = words(&rows.collect::<Vec<_>>());
        let moof = |data_at: u32| {
            let tfhd = full(b"tfhd", 0, 0x2_0000, [words(&[1])]);
            let tfdt = full(b"tfdt", 1, 0, [decode_time.to_be_bytes()]);
            let trun = full(b"trun", 1, 0xf01, [&words(&[samples.len() as u32, data_at]), &rows]);
            boxed(b"moof", [full(b"mfhd", 0, 0, [words(&[number])]), boxed(b"traf", [tfhd, tfdt, trun])])
        };
        let data: Vec<u8> = samples.iter().flat_map(|s| s.data.iter().copied()).collect();
        [moof(moof(0).len() as u32 + 8), boxed(b"mdat", [data])].concat()
    }
}

/// The sample tables, for samples that lie one after the other from `data_at`, three to a chunk.
fn tables(samples: &[Mp4Sample], data_at: usize) -> Vec<u8> {
    const CHUNK: usize = 3;
    let count = samples.len() as u32;
    let pairs = |value: fn(&Mp4Sample) -> u32| {
        let rows: Vec<u32> = samples.iter().flat_map(|s| [1, value(s)]).collect();
        [words(&[count]), words(&rows)]
    };
    let keys: Vec<u32> = (1..).zip(samples).filter(|(_, s)| s.key).map(|(n, _)| n).collect();
    let mut at = data_at as u32;
    let chunks: Vec<u32> = samples
        .chunks(CHUNK)
        .map(|chunk| {
            let start = at;
            at += chunk.iter().map(|s| s.data.len() as u32).sum::<u32>();
            start
        })
        .collect();
    // The last chunk may be shorter.
    let (whole, rest) = (samples.len() / CHUNK, samples.len() % CHUNK);
    let mut groups = Vec::new();
    if whole > 0 {
        groups.push([1, CHUNK as u32, 1]);
    }
    if rest > 0 {
        groups.push([whole as u32 + 1, rest as u32, 1]);
    }
    let sizes: Vec<u32> = samples.iter().map(|s| s.data.len() as u32).collect();
    [
        full(b"stts", 0, 0, pairs(|s| s.duration)),
        full(b"ctts", 1, 0, pairs(|s| s.composition_offset.cast_unsigned())),
        full(b"stss", 0, 0, [words(&[keys.len() as u32]), words(&keys)]),
        full(b"stsc", 0, 0, [words(&[groups.len() as u32]), words(groups.as_flattened())]),
        full(b"stsz", 0, 0, [words(&[0, count]), words(&sizes)]),
        full(b"stco", 0, 0, [words(&[chunks.len() as u32]), words(&chunks)]),
    ]
    .concat()
}

const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn boxed<P: AsRef<[u8]>>(kind: &[u8; 4], parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut bytes = [[0; 4], *kind].concat();
    for part in parts {
        bytes.extend_from_slice(part.as_ref());
    }
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes
}

fn full<P: AsRef<[u8]>>(kind: &[u8; 4], version: u8, flags: u32, parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let head = words(&[u32::from(version) << 24 | flags]);
    let parts: Vec<u8> = parts.into_iter().flat_map(|part| part.as_ref().to_vec()).collect();
    boxed(kind, [head, parts])
}
