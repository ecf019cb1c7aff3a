//! Runs plans on a GPU.

use std::sync::Arc;
use std::time::Duration;

use crate::cpu::{self, SimdLevel, Tail};
use crate::gpu::arena::{ALIGNMENT, Arena};
use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::faults::Faults;
use crate::gpu::in_flight::{InFlight, Shared};
use crate::gpu::pipeline::{Checks, Kernel, Shader};
use crate::gpu::preprocess::{Prepared, Preprocessor};
use crate::gpu::readback::{Readbacks, Slot};
use crate::gpu::select::{self, Selector};
use crate::gpu::shader::{self, Operand, Program};
use crate::gpu::tuning::Tuning;
use crate::gpu::weights::Weights;
use crate::picture::Pictures;
use crate::plan::{Action, ArrayId, Kind, Picture, Plan, Port, Target, access};
use crate::rows::RowSelection;

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
    /// For outputs. Made for the first run of which they are wanted: where rows are, all of them need not come back.
    readbacks: Option<Readbacks>,
    /// Made with the first pictures; for other inputs than the last ones', anew.
    preprocessor: Option<Preprocessor>,
    /// Made with the first selection of rows; for another than the last one, anew.
    selector: Option<Known>,
    /// Of each entry's rows that there is room for.
    capacity: usize,
    tuning: Tuning,
    shared: Arc<Shared>,
}

/// A selection, and who selects; `None` where that is the CPU.
#[derive(Debug)]
struct Known {
    selection: RowSelection,
    selector: Option<Arc<Selector>>,
}

/// Where what comes of a run is to go.
#[derive(Debug)]
struct Destination {
    slot: Slot,
    /// Whose slot it is; `None`: for outputs.
    selector: Option<Arc<Selector>>,
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
    /// Of the CPU, for steps that a device can't do.
    pub(crate) threads: usize,
}

/// Where a step is done.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Device,
    Cpu,
}

/// A kernel with what it works on, and its workgroups for one entry: a step on the device.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) kernel: Arc<Kernel>,
    pub(super) resources: wgpu::BindGroup,
    pub(super) groups: [u32; 2],
}

impl Dispatch {
    /// Adds the work for so many entries to `pass`.
    pub(super) fn add(&self, pass: &mut wgpu::ComputePass<'_>, entries: usize) {
        let [x, y] = self.groups;
        self.kernel.dispatch(pass, &self.resources, [x, y, entries as u32]);
    }
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self { max_batch: 1, in_flight: 2, limit: Duration::from_secs(10), checks: Checks::Trusted, threads: 1 }
    }
}

impl Executor {
    /// What plans must be lowered for.
    pub(crate) fn target(context: &Context, max_batch: usize, memory_limit: usize) -> Target {
        let limits = context.device().limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 4;
        let buffer_limit = usize::try_from(most).unwrap_or(usize::MAX) / max_batch.max(1);
        Target { block: BLOCK, planes: true, buffer_limit, memory_limit }
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
        let tuning = Tuning::of(context.description(), context.device());
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
        let faults = Faults::new(&context, &programs, options.max_batch)?;
        let dispatches = dispatches(&context, &plan, &arena, faults.as_ref(), weights, options.checks, &programs)?;
        let split = programs.len();
        let alive = plan.memory.buffers.iter().flat_map(|buffer| &buffer.slots);
        let alive = alive.filter(|slot| slot.first <= split && slot.last > split);
        let mut carried: Vec<ArrayId> = alive.map(|slot| slot.array).collect();
        carried.sort_unstable();
        let tail = || Tail::new(Arc::clone(&plan), split, options.threads, SimdLevel::detect());
        let tail = (split < plan.steps.len()).then(tail);
        let shared = Arc::new(Shared { context, plan, options, tail, carried, faults });
        let (readbacks, preprocessor, selector) = Default::default();
        let (capacity, tuning) = (select::CAPACITY, tuning.clone());
        Ok(Self { arena, dispatches, readbacks, preprocessor, selector, capacity, tuning, shared })
    }

    /// Where each step of the plan is done.
    #[cfg(test)]
    pub(crate) fn placement(&self) -> impl Iterator<Item = Placement> {
        let split = self.dispatches.len();
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
        self.submit(entries, inputs, None)?.finish(outputs)
    }

    /// Begins a run. It is done after those that were submitted before. Of the outputs only what `selection` selects is read
    /// back, where that can be done on the device ([`InFlight::selects`]).
    ///
    /// # Errors
    /// `Busy` where too many are in flight, `Invalid` for inputs that are not the plan's, and for a selection that is not for
    /// its outputs; `Shader` and `OutOfMemory` at the first with a selection; `Lost`.
    pub(crate) fn submit(
        &mut self,
        entries: usize,
        inputs: &[&[f32]],
        selection: Option<&RowSelection>,
    ) -> Result<InFlight, GpuError> {
        let Shared { context, plan, options, .. } = &*self.shared;
        let fits = |(port, input): (&Port, &&[f32])| plan.array(port.array).len * entries == input.len();
        let same = inputs.len() == plan.inputs.len() && plan.inputs.iter().zip(inputs).all(fits);
        if !same || entries == 0 || entries > options.max_batch {
            let reason = format!("the inputs are not {entries} entries of the plan's");
            return Err(GpuError::Invalid { what: "a run".into(), reason });
        }
        let context = Arc::clone(context);
        let destination = self.destination(selection)?;
        self.write(&context, inputs)?;
        self.start(entries, destination, None)
    }

    /// Begins a run on pictures, which go up as they are. It is done after those that were submitted before.
    ///
    /// # Errors
    /// `Input` where this must be done on the CPU or can't be done; all others as [`submit`](Self::submit).
    pub(crate) fn submit_pictures(
        &mut self,
        pictures: &Pictures<'_>,
        selection: Option<&RowSelection>,
    ) -> Result<InFlight, GpuError> {
        let Shared { context, plan, options, .. } = &*self.shared;
        let (entries, checks) = (pictures.parts.len(), options.checks);
        let unfit = |reason: &str| Err(GpuError::Input { reason: reason.into() });
        let [port] = &plan.inputs[..] else { return unfit("the plan has not one input") };
        let (id, array) = (port.array, plan.array(port.array));
        if array.kind != Kind::Float || array.len != pictures.values() || entries == 0 || entries > options.max_batch {
            return unfit("the plan takes no floats, or no such pictures");
        }
        let context = Arc::clone(context);
        let destination = self.destination(selection)?;
        let known = self.preprocessor.take().filter(|known| known.input() == pictures.input);
        let mut preprocessor = match known {
            Some(known) => known,
            None => Preprocessor::new(&context, pictures.input.clone(), checks)?,
        };
        let prepared = preprocessor.prepare(&context, pictures.parts, pictures.size, self.arena.binding(id));
        self.preprocessor = Some(preprocessor);
        self.start(entries, destination, Some(&prepared?))
    }

    /// Has room for `rows` selected rows of each entry from now on, after a run that had as many.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        let capacity = rows.checked_next_power_of_two().unwrap_or(rows);
        if capacity > self.capacity {
            self.capacity = capacity;
            self.selector = None;
        }
    }

    /// A free place for what is wanted of a run.
    fn destination(&mut self, selection: Option<&RowSelection>) -> Result<Destination, GpuError> {
        let busy = GpuError::Busy { most: self.shared.options.in_flight };
        if let Some(selection) = selection
            && let Some(selector) = self.selector(selection)?
        {
            let slot = selector.slot().ok_or(busy)?;
            return Ok(Destination { slot, selector: Some(selector) });
        }
        let Shared { context, plan, options, carried, faults, .. } = &*self.shared;
        let readbacks = match &mut self.readbacks {
            Some(readbacks) => readbacks,
            none => {
                let size: usize = carried.iter().map(|id| plan.array(*id).len * options.max_batch * 4).sum();
                let size = size.max(4) as u64 + faults.as_ref().map_or(0, Faults::size);
                none.insert(Readbacks::new(context, size, options.in_flight)?)
            }
        };
        Ok(Destination { slot: readbacks.take().ok_or(busy)?, selector: None })
    }

    /// Who selects these rows on the device, if it can be done there.
    fn selector(&mut self, selection: &RowSelection) -> Result<Option<Arc<Selector>>, GpuError> {
        if let Some(known) = self.selector.as_ref().filter(|known| known.selection == *selection) {
            return Ok(known.selector.clone());
        }
        let selector = if self.shared.tail.is_none() {
            Selector::new(&self.shared, &self.arena, selection, self.capacity, &self.tuning)?.map(Arc::new)
        } else {
            None
        };
        self.selector = Some(Known { selection: selection.clone(), selector: selector.clone() });
        Ok(selector)
    }

    /// Has the device do the steps, once the inputs are on their way.
    fn start(
        &self,
        entries: usize,
        Destination { mut slot, selector }: Destination,
        prepared: Option<&Prepared>,
    ) -> Result<InFlight, GpuError> {
        let Shared { context, plan, faults, carried, .. } = &*self.shared;
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if let Some(faults) = faults {
            faults.clear(&mut encoder);
        }
        if let Some(selector) = &selector {
            selector.clear(&mut encoder);
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        if let Some(prepared) = prepared {
            prepared.dispatch(&mut pass);
        }
        self.dispatches.iter().for_each(|dispatch| dispatch.add(&mut pass, entries));
        if let Some(selector) = &selector {
            selector.dispatch(&mut pass, entries);
        }
        drop(pass);
        if let Some(faults) = faults {
            faults.copy(&mut encoder, &mut slot);
        }
        match &selector {
            Some(selector) => selector.copy(&mut encoder, &mut slot, entries),
            None => {
                for &id in carried {
                    let (buffer, offset) = self.arena.place(id);
                    let size = (plan.array(id).len * entries * 4) as u64;
                    if size > 0 {
                        slot.copy(&mut encoder, buffer, offset..offset + size);
                    }
                }
            }
        }
        let pending = slot.submit(context, encoder)?;
        Ok(InFlight { pending, entries, shared: Arc::clone(&self.shared), selector })
    }

    /// Compiles what the driver has put off until it is needed, by a run of nothing, and keeps what was compiled for the next
    /// start.
    ///
    /// # Errors
    /// `Lost`, `Hung`, `OutOfMemory`.
    pub(crate) fn warm_up(&mut self) -> Result<(), GpuError> {
        let Shared { context, plan, options, .. } = &*self.shared;
        let inputs: Vec<Vec<f32>> = plan.inputs.iter().map(|port| vec![0.0; plan.array(port.array).len]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        self.write(context, &inputs)?;
        let submission = context.scoped("a run of nothing", || {
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.dispatches.iter().for_each(|dispatch| dispatch.add(&mut pass, 1));
            drop(pass);
            context.queue().submit([encoder.finish()])
        })?;
        context.wait(&submission, options.limit)?;
        if let Some(cache) = context.cache() {
            // Nothing depends on it but the time that the next start takes.
            let _ = cache.save();
        }
        Ok(())
    }

    /// Has the inputs go up before the next submission.
    fn write(&self, context: &Context, inputs: &[&[f32]]) -> Result<(), GpuError> {
        let plan = &self.shared.plan;
        context.scoped("inputs", || {
            for (port, input) in plan.inputs.iter().zip(inputs).filter(|(_, input)| !input.is_empty()) {
                let (buffer, offset) = self.arena.place(port.array);
                match plan.array(port.array).kind {
                    Kind::Float => context.queue().write_buffer(buffer, offset, bytemuck::cast_slice(input)),
                    Kind::Int => {
                        let whole: Vec<i32> = input.iter().map(|&value| cpu::rounded(port.element, value)).collect();
                        context.queue().write_buffer(buffer, offset, bytemuck::cast_slice(&whole));
                    }
                }
            }
        })
    }
}

/// Compiles and binds the kernels.
fn dispatches(
    context: &Context,
    plan: &Plan,
    arena: &Arena,
    faults: Option<&Faults>,
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
                Operand::Weights { .. } | Operand::Faults => {}
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
    for (i, ((program, step), place_range)) in programs.iter().zip(&plan.steps).zip(&place_ranges).enumerate() {
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
                Operand::Faults => faults.and_then(|faults| faults.binding(i)),
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
            Action::Conv(conv) if conv.output.block == 1 && conv.fits_planes(BLOCK) => Vec::new(),
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
