//! Runs plans on a GPU.

use std::sync::Arc;
use std::time::Duration;

use crate::cpu::{self, Memory};
use crate::gpu::arena::{ALIGNMENT, Arena};
use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::pipeline::{Checks, Kernel, Shader};
use crate::gpu::preprocess::{Prepared, Preprocessor};
use crate::gpu::readback::{Pending, Readbacks, Slot};
use crate::gpu::shader::{self, Operand, Program};
use crate::gpu::tuning::Tuning;
use crate::gpu::weights::Weights;
use crate::picture::Pictures;
use crate::plan::{Action, ArrayId, Kind, Picture, Plan, Port, Span, Target, access};

/// Channels that lie side by side in a picture: what a `vec4` holds.
const BLOCK: usize = 4;

/// A plan made ready to run on a device.
///
/// It computes any number of entries up to the greatest at once, nothing of which depends on how many there are. The steps up
/// to the first that a device can't do run there, all others on the CPU.
///
/// After a loss of the device it is of no use; another one can be made of the same plan.
#[derive(Debug)]
pub(crate) struct Executor {
    arena: Arena,
    dispatches: Vec<Dispatch>,
    readbacks: Readbacks,
    /// Made with the first pictures; for other inputs than the last ones', anew.
    preprocessor: Option<Preprocessor>,
    shared: Arc<Shared>,
}

/// How an [`Executor`] works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExecutorOptions {
    /// The most entries in a run.
    pub(crate) max_batch: usize,
    /// The most runs that are submitted and not finished.
    pub(crate) in_flight: usize,
    /// How long it is waited for a run until the device is taken for lost.
    pub(crate) limit: Duration,
    pub(crate) checks: Checks,
}

/// Where a step is done.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Device,
    Cpu,
}

/// A step on the device.
#[derive(Debug)]
struct Dispatch {
    kernel: Arc<Kernel>,
    resources: wgpu::BindGroup,
    groups: [u32; 2],
}

/// What a run needs to be finished.
#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    plan: Arc<Plan>,
    options: ExecutorOptions,
    /// How many steps are done on the device.
    split: usize,
    /// What is read back: whatever later steps or the caller want of what is there after those steps.
    carried: Vec<ArrayId>,
}

/// A run that was submitted. Dropped, it is forgotten.
#[derive(Debug)]
#[must_use]
pub(crate) struct InFlight {
    pending: Pending,
    entries: usize,
    shared: Arc<Shared>,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self { max_batch: 1, in_flight: 2, limit: Duration::from_secs(10), checks: Checks::Trusted }
    }
}

impl Executor {
    /// What plans must be lowered for.
    pub(crate) fn target(context: &Context, max_batch: usize, memory_limit: usize) -> Target {
        let limits = context.device().limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 4;
        let buffer_limit = usize::try_from(most).unwrap_or(usize::MAX) / max_batch.max(1);
        Target { block: BLOCK, buffer_limit, memory_limit }
    }

    /// Makes a plan ready. `weights` are those of the plan's model, on this device.
    ///
    /// # Errors
    /// `Plan` for one that contradicts itself or was lowered for another executor; `Shader`, `OutOfMemory`, `Lost`.
    pub(crate) fn new(
        context: Arc<Context>,
        plan: Arc<Plan>,
        weights: &Weights,
        options: ExecutorOptions,
    ) -> Result<Self, GpuError> {
        let tuning = Tuning::of(context.description(), &context.device().limits());
        Self::tuned(context, plan, weights, options, &tuning)
    }

    pub(super) fn tuned(
        context: Arc<Context>,
        plan: Arc<Plan>,
        weights: &Weights,
        options: ExecutorOptions,
        tuning: &Tuning,
    ) -> Result<Self, GpuError> {
        access::check(&plan).map_err(|(node, reason)| GpuError::Plan { node, reason })?;
        check_pictures(&plan)?;
        let written = plan.steps.iter().map_while(|step| shader::program(&step.action, &plan.arrays, tuning));
        let programs: Vec<Program> = written.collect();
        let arena = Arena::new(&context, &plan, options.max_batch)?;
        let dispatches = dispatches(&context, &plan, &arena, weights, options.checks, &programs)?;
        let split = programs.len();
        let alive = plan.memory.buffers.iter().flat_map(|buffer| &buffer.slots);
        let alive = alive.filter(|slot| slot.first <= split && slot.last > split);
        let mut carried: Vec<ArrayId> = alive.map(|slot| slot.array).collect();
        carried.sort_unstable();
        let size: usize = carried.iter().map(|id| plan.array(*id).len * options.max_batch * 4).sum();
        let readbacks = Readbacks::new(&context, size.max(4) as u64, options.in_flight)?;
        let shared = Arc::new(Shared { context, plan, options, split, carried });
        Ok(Self { arena, dispatches, readbacks, preprocessor: None, shared })
    }

    /// Where each step of the plan is done.
    #[cfg(test)]
    pub(crate) fn placement(&self) -> impl Iterator<Item = Placement> {
        let split = self.shared.split;
        (0..self.shared.plan.steps.len()).map(move |i| if i < split { Placement::Device } else { Placement::Cpu })
    }

    /// Computes `entries` entries. `inputs` are in the order of the plan's, the entries of each one after another, and are
    /// converted where the plan takes whole numbers, as the CPU's executor does. The values of each output are appended to its
    /// vector; of one whose rows are known only after a run, those that are there.
    ///
    /// # Errors
    /// As [`submit`](Self::submit) and [`InFlight::finish`].
    #[cfg(test)]
    pub(crate) fn run(&mut self, entries: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
        self.submit(entries, inputs)?.finish(outputs)
    }

    /// Begins a run. It is done after those that were submitted before.
    ///
    /// # Errors
    /// `Busy` where too many are in flight, `Invalid` for inputs that are not the plan's, `Lost`.
    pub(crate) fn submit(&mut self, entries: usize, inputs: &[&[f32]]) -> Result<InFlight, GpuError> {
        let Shared { context, plan, options, .. } = &*self.shared;
        let fits = |(port, input): (&Port, &&[f32])| plan.array(port.array).len * entries == input.len();
        let same = inputs.len() == plan.inputs.len() && plan.inputs.iter().zip(inputs).all(fits);
        if !same || entries == 0 || entries > options.max_batch {
            let reason = format!("the inputs are not {entries} entries of the plan's");
            return Err(GpuError::Invalid { what: "a run".into(), reason });
        }
        let slot = self.readbacks.take().ok_or(GpuError::Busy { most: options.in_flight })?;
        context.scoped("inputs", || {
            plan.inputs.iter().zip(inputs).for_each(|(port, input)| self.write(port, input));
        })?;
        self.start(entries, slot, None)
    }

    /// Begins a run on pictures, which go up as they are. It is done after those that were submitted before.
    ///
    /// # Errors
    /// `Busy` where too many are in flight; `Input` where this must be done on the CPU or can't be done; `Lost`.
    pub(crate) fn submit_pictures(&mut self, pictures: &Pictures<'_>) -> Result<InFlight, GpuError> {
        let Shared { context, plan, options, .. } = &*self.shared;
        let entries = pictures.parts.len();
        let unfit = |reason: &str| Err(GpuError::Input { reason: reason.into() });
        let [port] = &plan.inputs[..] else { return unfit("the plan has not one input") };
        let array = plan.array(port.array);
        if array.kind != Kind::Float || array.len != pictures.values() || entries == 0 || entries > options.max_batch {
            return unfit("the plan takes no floats, or no such pictures");
        }
        let slot = self.readbacks.take().ok_or(GpuError::Busy { most: options.in_flight })?;
        let known = self.preprocessor.take().filter(|known| known.input() == pictures.input);
        let mut preprocessor = match known {
            Some(known) => known,
            None => Preprocessor::new(context, pictures.input.clone(), options.checks)?,
        };
        let prepared = preprocessor.prepare(context, pictures.parts, pictures.size, self.arena.binding(port.array));
        self.preprocessor = Some(preprocessor);
        self.start(entries, slot, Some(&prepared?))
    }

    /// Has the device do the steps, once the inputs are on their way.
    fn start(&self, entries: usize, mut slot: Slot, prepared: Option<&Prepared>) -> Result<InFlight, GpuError> {
        let Shared { context, plan, .. } = &*self.shared;
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        if let Some(prepared) = prepared {
            prepared.dispatch(&mut pass);
        }
        for Dispatch { kernel, resources, groups: [x, y] } in &self.dispatches {
            kernel.dispatch(&mut pass, resources, [*x, *y, entries as u32]);
        }
        drop(pass);
        for &id in &self.shared.carried {
            let (buffer, offset) = self.arena.place(id);
            let size = (plan.array(id).len * entries * 4) as u64;
            if size > 0 {
                slot.copy(&mut encoder, buffer, offset..offset + size);
            }
        }
        let pending = slot.submit(context, encoder)?;
        Ok(InFlight { pending, entries, shared: Arc::clone(&self.shared) })
    }

    /// Compiles what the driver has put off until it is needed, by a run of nothing, and keeps what was compiled for the next
    /// start.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn warm_up(&mut self) -> Result<(), GpuError> {
        let plan = Arc::clone(&self.shared.plan);
        let inputs: Vec<Vec<f32>> = plan.inputs.iter().map(|port| vec![0.0; plan.array(port.array).len]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let in_flight = self.submit(1, &inputs)?;
        in_flight.wait()?;
        if let Some(cache) = self.shared.context.cache() {
            // Nothing depends on it but the time that the next start takes.
            let _ = cache.save();
        }
        Ok(())
    }

    fn write(&self, port: &Port, input: &[f32]) {
        let plan = &self.shared.plan;
        if input.is_empty() {
            return;
        }
        let (buffer, offset) = self.arena.place(port.array);
        let queue = self.shared.context.queue();
        match plan.array(port.array).kind {
            Kind::Float => queue.write_buffer(buffer, offset, bytemuck::cast_slice(input)),
            Kind::Int => {
                let whole: Vec<i32> = input.iter().map(|&value| cpu::rounded(port.element, value)).collect();
                queue.write_buffer(buffer, offset, bytemuck::cast_slice(&whole));
            }
        }
    }
}

impl InFlight {
    /// How many entries it has.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// How many outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.shared.plan.outputs.len()
    }

    /// Waits for the run and appends what each output has to its vector, entry by entry; then does the steps that are not for
    /// the device.
    ///
    /// # Errors
    /// `Step` for what the data does not allow, `Lost`, `Hung`.
    pub(crate) fn finish(self, outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
        let Self { pending, entries, shared } = self;
        let shared = &*shared;
        pending.read(&shared.context, shared.options.limit, |bytes| {
            // Of nothing not even the address is one of words.
            let words = if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) };
            let read = Read { shared, entries, words };
            if shared.split == shared.plan.steps.len() { read.outputs(outputs) } else { read.rest(outputs) }
        })?
    }

    /// Waits for the run alone.
    fn wait(self) -> Result<(), GpuError> {
        self.pending.read(&self.shared.context, self.shared.options.limit, |_| ())
    }
}

/// What was read back.
struct Read<'a> {
    shared: &'a Shared,
    entries: usize,
    /// The arrays that are carried, one after another, the entries of each one after another.
    words: &'a [u32],
}

impl Read<'_> {
    /// All entries of an array that is carried.
    fn array(&self, id: ArrayId) -> &[u32] {
        let plan = &self.shared.plan;
        let before = self.shared.carried.iter().take_while(|other| **other != id);
        let start = before.map(|other| plan.array(*other).len * self.entries).sum();
        &self.words[start..][..plan.array(id).len * self.entries]
    }

    fn outputs(&self, outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
        let plan = &self.shared.plan;
        for (port, output) in plan.outputs.iter().zip(outputs) {
            let (words, len) = (self.array(port.array), plan.array(port.array).len);
            let kind = plan.array(port.array).kind;
            match port.rows {
                None => append(kind, words, output),
                Some(rows) => {
                    for (entry, rows) in self.array(rows).iter().enumerate() {
                        append(kind, &words[entry * len..][..there(port, *rows as i32, len)], output);
                    }
                }
            }
        }
        Ok(())
    }

    /// Does the steps that are left.
    fn rest(&self, outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
        let plan = &self.shared.plan;
        let mut memory = Memory::of(plan);
        for entry in 0..self.entries {
            for &id in &self.shared.carried {
                let len = plan.array(id).len;
                let words = &self.array(id)[entry * len..][..len];
                let Some(span) = whole(plan, id) else { continue };
                let ([to], _) = memory.writing([span]);
                match plan.array(id).kind {
                    Kind::Float => to.floats().copy_from_slice(bytemuck::cast_slice(words)),
                    Kind::Int => to.ints().copy_from_slice(bytemuck::cast_slice(words)),
                }
            }
            for step in &plan.steps[self.shared.split..] {
                cpu::run_scalar(&step.action, &mut memory)
                    .map_err(|reason| GpuError::Step { node: step.node.clone(), reason })?;
            }
            for (port, output) in plan.outputs.iter().zip(&mut *outputs) {
                let Some(span) = whole(plan, port.array) else { continue };
                let rows = port.rows.map(|array| memory.ints(Span { array, begin: 0, end: 1 })[0]);
                let span = Span { end: rows.map_or(span.end, |rows| there(port, rows, span.end)), ..span };
                match plan.array(port.array).kind {
                    Kind::Float => output.extend_from_slice(memory.floats(span)),
                    Kind::Int => output.extend(memory.ints(span).iter().map(|&value| value as f32)),
                }
            }
        }
        Ok(())
    }
}

/// How many elements `rows` of an output's rows have.
fn there(port: &Port, rows: i32, len: usize) -> usize {
    (rows.max(0) as usize).saturating_mul(port.dims[1..].iter().product()).min(len)
}

fn append(kind: Kind, words: &[u32], output: &mut Vec<f32>) {
    match kind {
        Kind::Float => output.extend_from_slice(bytemuck::cast_slice(words)),
        Kind::Int => output.extend(words.iter().map(|&word| word as i32 as f32)),
    }
}

/// All elements of an array for one entry; `None` where there are none.
fn whole(plan: &Plan, array: ArrayId) -> Option<Span> {
    let end = plan.array(array).len;
    (end > 0).then_some(Span { array, begin: 0, end })
}

/// Compiles and binds the kernels.
fn dispatches(
    context: &Context,
    plan: &Plan,
    arena: &Arena,
    weights: &Weights,
    checks: Checks,
    programs: &[Program],
) -> Result<Vec<Dispatch>, GpuError> {
    // Of each kernel the places of its arrays with its sizes, and its tables.
    let (mut places, mut tables) = (Vec::new(), Vec::new());
    let (mut place_ranges, mut table_ranges) = (Vec::new(), Vec::new());
    for program in programs {
        let mut words = Vec::new();
        for operand in &program.operands {
            match operand {
                Operand::Array { id, offset, lanes } => {
                    words.extend(shader::place(&plan.arrays, *id, *offset, *lanes));
                }
                Operand::Table(numbers) => table_ranges.push(put(&mut tables, numbers)),
                Operand::Weights { .. } => {}
            }
        }
        words.extend(&program.sizes);
        words.resize(words.len().next_multiple_of(4), 0);
        place_ranges.push(put(&mut places, &words));
    }
    let upload = |what, words: &mut Vec<u32>, usage| {
        pad(words);
        words.resize(words.len().max(ALIGNMENT / 4), 0);
        context.upload(what, bytemuck::cast_slice(words), usage)
    };
    let places = upload("places of arrays", &mut places, wgpu::BufferUsages::UNIFORM)?;
    let tables = upload("tables of steps", &mut tables, wgpu::BufferUsages::STORAGE)?;

    let mut table_ranges = table_ranges.into_iter();
    let mut dispatches = Vec::with_capacity(programs.len());
    for ((program, step), place_range) in programs.iter().zip(&plan.steps).zip(&place_ranges) {
        let kernel = context.kernel(Shader { label: program.label, source: &program.source }, checks)?;
        // Weights have buffers of their own, which must live until they are bound.
        let mut packed = Vec::new();
        for operand in &program.operands {
            if let (Operand::Weights { packing, space }, Action::Conv(conv)) = (operand, &step.action) {
                packed.push(weights.buffer(context, conv, *packing, *space)?);
            }
        }
        let mut packed = packed.iter();
        let mut buffers = vec![part(&places, place_range)];
        for operand in &program.operands {
            let binding = match operand {
                Operand::Array { id, .. } => Some(arena.binding(*id)),
                Operand::Table(_) => table_ranges.next().map(|range| part(&tables, &range)),
                Operand::Weights { .. } => packed.next().map(wgpu::Buffer::as_entire_buffer_binding),
            };
            buffers.extend(binding);
        }
        dispatches.push(Dispatch { resources: context.bind(&kernel, &buffers)?, kernel, groups: program.groups });
    }
    Ok(dispatches)
}

/// Adds words, from a place on where they can be bound; gives where they are.
fn put(all: &mut Vec<u32>, words: &[u32]) -> std::ops::Range<usize> {
    pad(all);
    let start = all.len();
    all.extend_from_slice(words);
    start..all.len()
}

fn pad(words: &mut Vec<u32>) {
    words.resize(words.len().next_multiple_of(ALIGNMENT / 4), 0);
}

fn part<'a>(buffer: &'a wgpu::Buffer, words: &std::ops::Range<usize>) -> wgpu::BufferBinding<'a> {
    let size = wgpu::BufferSize::new(words.len() as u64 * 4);
    wgpu::BufferBinding { buffer, offset: words.start as u64 * 4, size }
}

/// Whether all blocked pictures lie so that they can be taken by fours.
fn check_pictures(plan: &Plan) -> Result<(), GpuError> {
    let fits = |picture: &Picture| {
        let len = plan.array(picture.array).len;
        let mut numbers = [len, picture.offset].into_iter().chain(picture.strides);
        picture.block == 1 || (picture.block == BLOCK && numbers.all(|n| n.is_multiple_of(BLOCK)))
    };
    for step in &plan.steps {
        let pictures: Vec<&Picture> = match &step.action {
            Action::Conv(conv) => {
                let residual = conv.residual.as_ref().map(|(picture, _)| picture);
                [&conv.input, &conv.output].into_iter().chain(residual).collect()
            }
            Action::Pool(pool) => vec![&pool.input, &pool.output],
            Action::Shuffle(shuffle) => shuffle.inputs.iter().chain([&shuffle.output]).collect(),
            _ => Vec::new(),
        };
        if !pictures.into_iter().all(fits) || plan.block != BLOCK {
            let reason = format!("its pictures are not in blocks of {BLOCK}");
            return Err(GpuError::Plan { node: step.node.clone(), reason });
        }
    }
    Ok(())
}
