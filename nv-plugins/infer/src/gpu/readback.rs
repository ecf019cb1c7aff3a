use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::gpu::context::Context;
use crate::gpu::error::GpuError;

/// Buffers in which results come back from the GPU, a fixed number of equal ones. Each is one batch in flight: who finds
/// none free has to end one of his batches first.
#[derive(Debug)]
pub(crate) struct Readbacks {
    free: Arc<Mutex<Vec<wgpu::Buffer>>>,
}

/// A buffer of [`Readbacks`], for one batch. It goes back when it is dropped, or after the read that it is for.
#[derive(Debug)]
pub(crate) struct Slot {
    /// There until it is given back.
    buffer: Option<wgpu::Buffer>,
    free: Arc<Mutex<Vec<wgpu::Buffer>>>,
    /// Bytes that copies fill, from the start.
    filled: u64,
    /// Whether it was asked to be mapped.
    mapped: bool,
}

/// A batch on its way: submitted, its results not yet read.
#[derive(Debug)]
pub(crate) struct Pending {
    slot: Slot,
    submission: wgpu::SubmissionIndex,
    mapped: Arc<OnceLock<Result<(), wgpu::BufferAsyncError>>>,
}

impl Readbacks {
    /// `count` buffers of `size` bytes each.
    ///
    /// # Errors
    /// `OutOfMemory`, `Invalid` beyond the adapter's limits, `Lost`.
    pub(crate) fn new(context: &Context, size: u64, count: usize) -> Result<Self, GpuError> {
        let buffer = || {
            context.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size.next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let buffers: Vec<_> = context.scoped("buffers for results", || (0..count).map(|_| buffer()).collect())?;
        Ok(Self { free: Arc::new(Mutex::new(buffers)) })
    }

    /// One that is free, if any is.
    pub(crate) fn take(&self) -> Option<Slot> {
        let buffer = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Slot { buffer: Some(buffer), free: Arc::clone(&self.free), filled: 0, mapped: false })
    }
}

impl Slot {
    /// Adds a copy of a part of `source` to `encoder`, to the start of the slot or behind what was copied before. Start and
    /// length must be multiples of four.
    pub(crate) fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, source: &wgpu::Buffer, part: Range<u64>) {
        if let Some(buffer) = &self.buffer {
            let length = part.end - part.start;
            encoder.copy_buffer_to_buffer(source, part.start, buffer, self.filled, length);
            self.filled += length;
        }
    }

    /// Submits what was recorded and asks for the copies as soon as they are there.
    ///
    /// # Errors
    /// `Invalid` for what wgpu refuses, as a copy beyond a buffer's end; `Lost`.
    pub(crate) fn submit(mut self, context: &Context, encoder: wgpu::CommandEncoder) -> Result<Pending, GpuError> {
        let mapped = Arc::new(OnceLock::new());
        let tell = Arc::clone(&mapped);
        self.mapped = true;
        let submission = context.scoped("a batch", || {
            let submission = context.queue().submit([encoder.finish()]);
            if let Some(buffer) = &self.buffer {
                buffer.map_async(wgpu::MapMode::Read, ..self.filled, move |result| {
                    // It is called once.
                    let _ = tell.set(result);
                });
            }
            submission
        })?;
        Ok(Pending { slot: self, submission, mapped })
    }
}

impl Pending {
    /// Waits for the batch, for at most `limit`, and gives the bytes that were copied to `read`. The slot is free after
    /// that.
    ///
    /// # Errors
    /// `Lost`, `Hung`.
    pub(crate) fn read<T>(
        self,
        context: &Context,
        limit: Duration,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, GpuError> {
        context.wait(&self.submission, limit)?;
        let failed = |reason: String| GpuError::Invalid { what: "reading results".into(), reason };
        let buffer = self.slot.buffer.as_ref().ok_or_else(|| failed("the slot has no buffer".into()))?;
        match self.mapped.get() {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(failed(error.to_string())),
            None => return Err(failed("the device is done, but the results are not there".into())),
        }
        let bytes = buffer.get_mapped_range(..self.slot.filled).map_err(|error| failed(error.to_string()))?;
        Ok(read(&bytes))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            if self.mapped {
                // Or about to be: both end here.
                buffer.unmap();
            }
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::context;

    const LONG: Duration = Duration::from_secs(120);

    fn source(context: &Context, bytes: &[u8]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
        let buffer = context.device().create_buffer(&descriptor);
        context.queue().write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn start(context: &Context, mut slot: Slot, source: &wgpu::Buffer, parts: &[[u64; 2]]) -> Pending {
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for [start, end] in parts {
            slot.copy(&mut encoder, source, *start..*end);
        }
        slot.submit(context, encoder).unwrap()
    }

    #[test]
    fn batches_in_flight_are_bounded_and_come_back_in_any_order() {
        let Some(context) = context("batches_in_flight_are_bounded_and_come_back_in_any_order") else { return };
        let readbacks = Readbacks::new(&context, 64, 2).unwrap();
        let source = source(&context, &(0..64).collect::<Vec<u8>>());
        let first = start(&context, readbacks.take().unwrap(), &source, &[[0, 8]]);
        let second = start(&context, readbacks.take().unwrap(), &source, &[[32, 36], [8, 12]]);
        assert!(readbacks.take().is_none());
        assert_eq!(second.read(&context, LONG, <[u8]>::to_vec).unwrap(), [32, 33, 34, 35, 8, 9, 10, 11]);
        assert_eq!(first.read(&context, LONG, <[u8]>::to_vec).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(readbacks.take().is_some());
    }

    #[test]
    fn a_batch_that_nobody_reads_gives_its_slot_back() {
        let Some(context) = context("a_batch_that_nobody_reads_gives_its_slot_back") else { return };
        let readbacks = Readbacks::new(&context, 64, 1).unwrap();
        let source = source(&context, &[7; 64]);
        for _ in 0..3 {
            drop(start(&context, readbacks.take().unwrap(), &source, &[[0, 64]]));
        }
        let pending = start(&context, readbacks.take().unwrap(), &source, &[[0, 4]]);
        assert_eq!(pending.read(&context, LONG, <[u8]>::to_vec).unwrap(), [7; 4]);
    }
}
