use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::plan::{ArrayId, Plan, Values};

/// The memory of a plan on a device, for a number of entries: the memory plan's buffers, all lengths times that number, so
/// that an array has its entries one after another; and the constants.
#[derive(Debug)]
pub(super) struct Arena {
    buffers: Vec<wgpu::Buffer>,
    constants: wgpu::Buffer,
    /// What is bound for an array that has no elements.
    nothing: wgpu::Buffer,
    /// By the array's place in the plan.
    places: Vec<Place>,
}

/// Where an array is, in bytes.
#[derive(Clone, Copy, Debug)]
enum Place {
    Buffer { index: usize, offset: u64, size: u64 },
    Constant { offset: u64, size: u64 },
    Nowhere,
}

/// Parts of a buffer that are bound begin at multiples of so many bytes, which every adapter takes.
pub(super) const ALIGNMENT: usize = 256;

impl Arena {
    /// Memory for `entries` entries.
    ///
    /// # Errors
    /// `OutOfMemory`, `Invalid` beyond the adapter's limits, `Lost`.
    pub(super) fn new(context: &Context, plan: &Plan, entries: usize) -> Result<Self, GpuError> {
        let bytes = |numbers: usize| numbers as u64 * 4 * entries as u64;
        let mut places = vec![Place::Nowhere; plan.arrays.len()];
        for (index, buffer) in plan.memory.buffers.iter().enumerate() {
            for slot in &buffer.slots {
                places[slot.array.index()] = Place::Buffer { index, offset: bytes(slot.offset), size: bytes(slot.len) };
            }
        }
        let mut constants = Vec::new();
        for (array, place) in plan.arrays.iter().zip(&mut places) {
            let values: &[u8] = match &array.constant {
                Some(Values::Floats(values)) => bytemuck::cast_slice(values),
                Some(Values::Ints(values)) => bytemuck::cast_slice(values),
                None => continue,
            };
            if !values.is_empty() {
                let offset = constants.len() as u64;
                constants.extend_from_slice(values);
                constants.resize(constants.len().next_multiple_of(ALIGNMENT), 0);
                *place = Place::Constant { offset, size: constants.len() as u64 - offset };
            }
        }
        constants.resize(constants.len().max(ALIGNMENT), 0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let create = |size: u64| {
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            context.scoped("memory for a model", || context.device().create_buffer(&descriptor))
        };
        Ok(Self {
            buffers: plan.memory.buffers.iter().map(|b| create(bytes(b.len.max(64)))).collect::<Result<_, _>>()?,
            constants: context.upload("a model's constants", &constants, wgpu::BufferUsages::STORAGE)?,
            nothing: create(ALIGNMENT as u64)?,
            places,
        })
    }

    /// All of an array, with all its entries.
    pub(super) fn binding(&self, id: ArrayId) -> wgpu::BufferBinding<'_> {
        let (buffer, offset, size) = match self.places[id.index()] {
            Place::Buffer { index, offset, size } => (&self.buffers[index], offset, size),
            Place::Constant { offset, size } => (&self.constants, offset, size),
            Place::Nowhere => (&self.nothing, 0, ALIGNMENT as u64),
        };
        wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) }
    }

    /// The buffer of an array that is no constant, and where it begins there, in bytes.
    pub(super) fn place(&self, id: ArrayId) -> (&wgpu::Buffer, u64) {
        let binding = self.binding(id);
        (binding.buffer, binding.offset)
    }
}
