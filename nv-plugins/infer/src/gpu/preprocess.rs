//! Pre-processing of a batch on the GPU: frames go up as they are, and one dispatch makes the network's input of them.

use std::sync::Arc;

use nv_core::{HostView, Size};

use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::pipeline::{Checks, Kernel, Shader};
use crate::picture::{Axis, PictureInput, PictureLayout, PicturePart, PixelRect, Samples, Tap, YuvToRgb};

/// The function that puts a pixel in its place: how a network's input lies in memory. An entry of the batch follows on another.
fn store(layout: PictureLayout) -> &'static str {
    match layout {
        PictureLayout::Planar => {
            "@group(0) @binding(3) var<storage, read_write> input: array<f32>;
fn store(id: vec3<u32>, value: vec3<f32>) {
    let area = batch.size.x * batch.size.y;
    let at = id.z * 3u * area + id.y * batch.size.x + id.x;
    input[at + batch.plane.x * area] = value.x;
    input[at + batch.plane.y * area] = value.y;
    input[at + batch.plane.z * area] = value.z;
}
"
        }
        PictureLayout::Interleaved => {
            "@group(0) @binding(3) var<storage, read_write> input: array<f32>;
fn store(id: vec3<u32>, value: vec3<f32>) {
    let at = ((id.z * batch.size.y + id.y) * batch.size.x + id.x) * 3u;
    input[at + batch.plane.x] = value.x;
    input[at + batch.plane.y] = value.y;
    input[at + batch.plane.z] = value.z;
}
"
        }
    }
}

/// Makes network inputs of frames, batch by batch. Its buffers are used again: the queue does one batch after the other.
#[derive(Debug)]
pub(crate) struct Preprocessor {
    input: PictureInput,
    kernel: Arc<Kernel>,
    batch: Upload,
    taps: Upload,
    frames: Upload,
    /// Whose taps the buffer holds.
    tapped: Vec<Geometry>,
}

/// A batch whose frames are on their way up.
#[derive(Debug)]
pub(crate) struct Prepared {
    kernel: Arc<Kernel>,
    resources: wgpu::BindGroup,
    groups: [u32; 3],
}

impl Prepared {
    /// Adds the work to `pass`.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.kernel.dispatch(pass, &self.resources, self.groups);
    }
}

/// All that taps depend on. Pictures that agree in it share theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    source: PixelRect,
    target: [u32; 2],
    /// Bytes between samples at full resolution, and at half of it where there are such.
    steps: [usize; 2],
}

/// A picture, as the shader's `Picture` has it.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PictureRecord {
    place: [u32; 4],
    taps: [u32; 4],
    base: [u32; 4],
    stride: [i32; 4],
    luma: [f32; 4],
    chroma: [f32; 4],
}

/// What all pictures have in common: the shader's `Batch` without them.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct BatchRecord {
    size: [u32; 4],
    mul: [f32; 4],
    add: [f32; 4],
    plane: [u32; 4],
    pad: [f32; 4],
}

impl Preprocessor {
    /// For networks that take `input`.
    ///
    /// # Errors
    /// `Shader`, `Lost`.
    pub(crate) fn new(context: &Context, input: PictureInput, checks: Checks) -> Result<Self, GpuError> {
        let source = format!("{}{}", include_str!("preprocess.wgsl"), store(input.layout));
        let kernel = context.kernel(Shader { label: "preprocess", source: &source }, checks)?;
        let (batch, taps, frames) = Default::default();
        Ok(Self { input, kernel, batch, taps, frames, tapped: Vec::new() })
    }

    /// What the networks take.
    pub(crate) fn input(&self) -> &PictureInput {
        &self.input
    }

    /// Sends `pictures`, at least one, up. The dispatch writes an entry of `size` for each, one after another, to `input`.
    ///
    /// # Errors
    /// `Input` for pixels that can't be read, rectangles that reach beyond frame or input, more bytes than the adapter takes
    /// at once; `OutOfMemory`, `Lost`.
    pub(crate) fn prepare(
        &mut self,
        context: &Context,
        pictures: &[PicturePart<'_>],
        size: Size,
        input: wgpu::BufferBinding<'_>,
    ) -> Result<Prepared, GpuError> {
        let views = pictures.iter().map(|picture| picture.view(size).map_err(|reason| GpuError::Input { reason }));
        let views: Vec<_> = views.collect::<Result<_, _>>()?;
        let mut geometries: Vec<Geometry> = Vec::new();
        let mut records = Vec::with_capacity(pictures.len());
        let mut copies = Vec::new();
        let mut bytes = 0;
        // Tables of taps are laid out one after the other.
        let tap_offset = |geometries: &[Geometry]| geometries.iter().map(Geometry::tap_count).sum::<usize>();
        for (picture, (view, samples)) in pictures.iter().zip(&views) {
            let geometry = Geometry::new(picture, samples);
            let known = geometries.iter().position(|g| *g == geometry).unwrap_or_else(|| {
                geometries.push(geometry);
                geometries.len() - 1
            });
            let taps = geometry.tables(tap_offset(&geometries[..known]));
            let mut record = PictureRecord::new(picture, taps, samples);
            let placed = place_planes(picture, view, samples, &mut bytes, &mut copies);
            for (i, [base, stride]) in placed.into_iter().enumerate() {
                record.base[i] = base;
                record.stride[i] = stride as i32;
            }
            records.push(record);
        }
        let limit = context.description().max_binding_bytes.min(u64::from(u32::MAX));
        if bytes as u64 > limit {
            let reason = format!("{} pictures have {bytes} bytes, and the GPU takes {limit} at once", pictures.len());
            return Err(GpuError::Input { reason });
        }
        let header = self.header(size);
        let table = [bytemuck::bytes_of(&header), bytemuck::cast_slice(&records)].concat();
        let taps: Vec<[u32; 4]> = if geometries == self.tapped {
            Vec::new()
        } else {
            geometries.iter().flat_map(Geometry::taps).map(words).collect()
        };
        // Should it fail, what the buffers hold is not known.
        self.tapped.clear();
        let (batch_upload, taps_upload, frames_upload) = (&mut self.batch, &mut self.taps, &mut self.frames);
        let sent = context.scoped("sending frames to the GPU", || {
            batch_upload.write(context, table.len(), |mut to| to.slice(..).copy_from_slice(&table));
            if !taps.is_empty() {
                let taps = bytemuck::cast_slice::<_, u8>(&taps);
                taps_upload.write(context, taps.len(), |mut to| to.slice(..).copy_from_slice(taps));
            }
            frames_upload.write(context, bytes, |mut to| {
                for Copy { from, to: at } in &copies {
                    to.slice(*at..at + from.len()).copy_from_slice(from);
                }
            });
        });
        if let Err(error) = sent {
            (self.batch, self.taps, self.frames) = Default::default();
            return Err(error);
        }
        self.tapped = geometries;
        let parts = [self.batch.part(table.len()), self.taps.all(), self.frames.part(bytes), Some(input)];
        let buffers: Vec<_> = parts.into_iter().flatten().collect();
        let resources = context.bind(&self.kernel, &buffers)?;
        let groups = [size.width.div_ceil(8), size.height.div_ceil(8), pictures.len() as u32];
        Ok(Prepared { kernel: Arc::clone(&self.kernel), resources, groups })
    }

    fn header(&self, size: Size) -> BatchRecord {
        let each = |f: &dyn Fn(usize) -> f32| [f(0), f(1), f(2), 0.0];
        let channels = &self.input.channels;
        let pad = f32::from(self.input.pad);
        BatchRecord {
            size: [size.width, size.height, 0, 0],
            mul: each(&|i| channels[i].mul),
            add: each(&|i| channels[i].add),
            // The text is trusted to stay within the input.
            plane: [0, 1, 2, 3].map(|i| channels.get(i).map_or(0, |channel| channel.plane.min(2) as u32)),
            pad: each(&|i| channels[i].apply(pad)),
        }
    }
}

/// Bytes of a plane, and where they go.
struct Copy<'a> {
    from: &'a [u8],
    to: usize,
}

/// Adds copies of what the picture needs of its planes, `bytes` being where there is room, and says for each channel which
/// byte column 0 of line 0 has or would have there, and how far apart lines are.
fn place_planes<'a>(
    picture: &PicturePart<'a>,
    view: &HostView<'a>,
    samples: &[Samples],
    bytes: &mut usize,
    copies: &mut Vec<Copy<'a>>,
) -> Vec<[u32; 2]> {
    let mut placed: Vec<[u32; 2]> = Vec::with_capacity(samples.len());
    // Of each plane: byte 0 of line 0, and the stride.
    let mut planes: Vec<(usize, [u32; 2])> = Vec::with_capacity(3);
    for channel in samples {
        let plane = planes.iter().find(|(plane, _)| *plane == channel.plane).map(|(_, at)| *at).unwrap_or_else(|| {
            let at = place_plane(picture, view, channel, bytes, copies);
            planes.push((channel.plane, at));
            at
        });
        placed.push([plane[0].wrapping_add(channel.offset as u32), plane[1]]);
    }
    placed
}

fn place_plane<'a>(
    picture: &PicturePart<'a>,
    view: &HostView<'a>,
    channel: &Samples,
    bytes: &mut usize,
    copies: &mut Vec<Copy<'a>>,
) -> [u32; 2] {
    let plane = view.plane(channel.plane);
    let [[first, end], [top, bottom]] = Axis::of(picture.source, [1, 1], channel.subsampling).map(|axis| axis.stored());
    let (left, row) = (first * channel.step, (end - first) * channel.step);
    let stride = if row * 2 > plane.stride {
        // Nearly all of it: in one go, with what lies between the lines.
        let from = &plane.data[top * plane.stride + left..(bottom - 1) * plane.stride + left + row];
        copies.push(Copy { from, to: *bytes });
        plane.stride
    } else {
        for line in top..bottom {
            let from = &plane.data[line * plane.stride + left..][..row];
            copies.push(Copy { from, to: *bytes + (line - top) * row });
        }
        row
    };
    // Byte 0 of line 0 may lie before the buffer: what is read is added to it, and wraps back.
    let base = bytes.wrapping_sub(top * stride + left);
    *bytes = (*bytes + (bottom - top - 1) * stride + row).next_multiple_of(4);
    [base as u32, stride as u32]
}

impl Geometry {
    fn new(picture: &PicturePart<'_>, samples: &[Samples]) -> Self {
        let step = |subsampling| samples.iter().find(|s| s.subsampling == subsampling).map_or(0, |s| s.step);
        let PicturePart { source, target, .. } = picture;
        Self { source: *source, target: [target.width, target.height], steps: [step(1), step(2)] }
    }

    /// Where its four tables begin, the first of them at `start`.
    fn tables(&self, start: usize) -> [u32; 4] {
        let [width, height] = self.target.map(|side| side as usize);
        let half = start + width + height;
        [start, start + width, half, half + width].map(|at| at as u32)
    }

    fn tap_count(&self) -> usize {
        let [width, height] = self.target.map(|side| side as usize);
        (width + height) * if self.steps[1] > 0 { 2 } else { 1 }
    }

    fn taps(&self) -> impl Iterator<Item = Tap> + use<> {
        let (source, target) = (self.source, self.target);
        [1, 2].into_iter().zip(self.steps).filter(|(_, step)| *step > 0).flat_map(move |(subsampling, step)| {
            let [columns, lines] = Axis::of(source, target, subsampling);
            columns.taps(step).chain(lines.taps(1))
        })
    }
}

fn words(tap: Tap) -> [u32; 4] {
    let [a, b] = tap.weight.map(|weight| weight as u32);
    [tap.at[0], tap.at[1], a, b]
}

impl PictureRecord {
    fn new(picture: &PicturePart<'_>, taps: [u32; 4], samples: &[Samples]) -> Self {
        let PixelRect { x, y, width, height } = picture.target;
        let channels = samples.len() as i32;
        let is_yuv = samples.iter().any(|samples| samples.subsampling > 1);
        let YuvToRgb { luma_offset, luma, red, green, blue } = YuvToRgb::new(picture.frame.color());
        Self {
            place: [x, y, width, height],
            taps,
            base: [0; 4],
            stride: [0, 0, 0, if is_yuv { -channels } else { channels }],
            luma: [luma_offset, luma, 0.0, 0.0],
            chroma: [red, green[0], green[1], blue],
        }
    }
}

/// A storage buffer that the CPU writes anew for every batch. It grows to the largest.
#[derive(Debug, Default)]
struct Upload {
    buffer: Option<wgpu::Buffer>,
}

impl Upload {
    /// Has `fill` write `len` bytes, which go up with the next submission.
    fn write(&mut self, context: &Context, len: usize, fill: impl FnOnce(wgpu::QueueWriteBufferView)) {
        let size = (len as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        let buffer = self.buffer.take().filter(|buffer| buffer.size() >= size).unwrap_or_else(|| {
            context.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let size = wgpu::BufferSize::new(size);
        if let Some(view) = size.and_then(|size| context.queue().write_buffer_with(&buffer, 0, size)) {
            fill(view);
        }
        self.buffer = Some(buffer);
    }

    fn all(&self) -> Option<wgpu::BufferBinding<'_>> {
        self.buffer.as_ref().map(wgpu::Buffer::as_entire_buffer_binding)
    }

    /// Its first `len` bytes.
    fn part(&self, len: usize) -> Option<wgpu::BufferBinding<'_>> {
        let size = wgpu::BufferSize::new((len as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT));
        self.buffer.as_ref().map(|buffer| wgpu::BufferBinding { buffer, offset: 0, size })
    }
}

#[cfg(test)]
mod tests;
