//! Selection of rows on the GPU: scores are computed where the outputs are, and only rows whose score is high enough are read
//! back.
//!
//! What is selected is what [`rows::Selector`](crate::rows::Selector) selects. A device's exponential functions may differ in
//! their last bits, so that scores do, and a row that lies on the threshold may be seen either way.

use crate::gpu::arena::{ALIGNMENT, Arena};
use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::executor::{Dispatch, ExecutorOptions};
use crate::gpu::faults::Faults;
use crate::gpu::in_flight::Shared;
use crate::gpu::pipeline::Shader;
use crate::gpu::readback::{Readbacks, Slot};
use crate::gpu::shader::{Code, MAX_GROUPS, each, line, number};
use crate::gpu::tuning::Tuning;
use crate::plan::{ArrayId, Kind, Plan};
use crate::rows::{
    RowColumns, RowGroup, RowLayout, RowSelection, ScoreActivation, ScoreFactor, ScoredRow, ScoredRows, least_logit,
};

/// Rows for which there is room at first, for each entry.
pub(super) const CAPACITY: usize = 1024;

/// Words of a record before the numbers that come with the row: group, row, class, score.
const HEADER: usize = 4;

/// The most rows that are looked at in one run: their number is counted in a word.
const MAX_ROWS: usize = 1 << 31;

/// Selects rows of a plan's outputs, by one dispatch for each group of them.
///
/// Rows go to records of a fixed length in the order in which they happen to be found. There is room for a fixed number of
/// each entry's, and beyond that they are only counted. One set of records does for all runs in flight: a queue has copied
/// those of one run before it clears the counts for the next.
#[derive(Debug)]
pub(super) struct Selector {
    selection: RowSelection,
    dispatches: Vec<Dispatch>,
    /// A count for each entry, up to `counts` bytes, and then the records, entry by entry.
    found: wgpu::Buffer,
    counts: u64,
    readbacks: Readbacks,
    records: Records,
}

/// How records lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Records {
    /// For each entry.
    capacity: usize,
    /// Words of each.
    width: usize,
}

/// What a selection gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Selected {
    /// For each entry, the rows of each group.
    Rows(Vec<Vec<ScoredRows>>),
    /// An entry has more rows than there is room for.
    Overflow {
        /// As many as the entry with the most has.
        rows: usize,
    },
}

impl Selector {
    /// Compiles and binds what `selection` needs on the outputs of the plan, which are in `arena`, with room for `capacity` rows
    /// of each entry. `None` where the outputs are not all there as floats after the last step, or are more than the adapter
    /// takes: then it is for the CPU.
    ///
    /// # Errors
    /// `Invalid` for a selection that contradicts itself or is not one of the plan's outputs; `Shader`, `OutOfMemory`, `Lost`.
    pub(super) fn new(
        shared: &Shared,
        arena: &Arena,
        selection: &RowSelection,
        capacity: usize,
        tuning: &Tuning,
    ) -> Result<Option<Self>, GpuError> {
        let Shared { context, plan, options, faults, .. } = shared;
        // The shaders are trusted to stay within the outputs.
        let invalid = |reason: String| GpuError::Invalid { what: "a selection of rows".into(), reason };
        selection.check().map_err(invalid)?;
        let shapes: Vec<&[usize]> = plan.outputs.iter().map(|port| &port.dims[..]).collect();
        if let Some((output, needed)) = selection.misfit(&shapes, 1) {
            return Err(invalid(format!("output {output} has not the shape {needed:?}")));
        }
        let Some(records) = Records::new(context, plan, selection, capacity, options, tuning) else { return Ok(None) };

        let counts = (options.max_batch * 4).next_multiple_of(ALIGNMENT) as u64;
        let size = (records.capacity * records.width * options.max_batch * 4).max(ALIGNMENT) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: None, size: counts + size, usage, mapped_at_creation: false };
        let found = context.scoped("room for rows", || context.device().create_buffer(&descriptor))?;
        let limits = [
            selection.threshold.to_bits(),
            least_logit(selection.threshold).to_bits(),
            f32::NEG_INFINITY.to_bits(),
            records.capacity as u32,
        ];
        let limits =
            context.upload("limits of a selection", bytemuck::cast_slice(&limits), wgpu::BufferUsages::UNIFORM)?;
        let part =
            |offset: u64, size: u64| wgpu::BufferBinding { buffer: &found, offset, size: wgpu::BufferSize::new(size) };
        let mut dispatches = Vec::with_capacity(selection.groups.len());
        for (index, group) in selection.groups.iter().enumerate().filter(|(_, group)| group.rows > 0) {
            let arrays = arrays(plan, group);
            let (source, groups) = text(index, group, plan, &arrays, records, tuning);
            let kernel = context.kernel(Shader { label: "select rows", source: &source }, options.checks)?;
            let mut buffers = vec![limits.as_entire_buffer_binding(), part(0, counts), part(counts, size)];
            buffers.extend(arrays.iter().map(|&id| arena.binding(id)));
            dispatches.push(Dispatch { resources: context.bind(&kernel, &buffers)?, kernel, groups });
        }
        let most = (records.words(options.max_batch) * 4) as u64 + faults.as_ref().map_or(0, Faults::size);
        let readbacks = Readbacks::new(context, most, options.in_flight)?;
        Ok(Some(Self { selection: selection.clone(), dispatches, found, counts, readbacks, records }))
    }

    /// A place for what a run finds, behind what its steps note, if one is free.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.readbacks.take()
    }

    /// Forgets what the run before found. It comes before the [`dispatch`](Self::dispatch).
    pub(super) fn clear(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(&self.found, 0, Some(self.counts));
    }

    /// Adds the work for `entries` entries to `pass`, behind what computes the outputs.
    pub(super) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, entries: usize) {
        self.dispatches.iter().for_each(|dispatch| dispatch.add(pass, entries));
    }

    /// Has what was found copied to `slot`, which is one of [its own](Self::slot).
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder, slot: &mut Slot, entries: usize) {
        let Records { capacity, width } = self.records;
        slot.copy(encoder, &self.found, 0..(entries * 4) as u64);
        let size = (entries * capacity * width * 4) as u64;
        if size > 0 {
            slot.copy(encoder, &self.found, self.counts..self.counts + size);
        }
    }

    /// What the words of a slot say, for a run of `entries` entries.
    ///
    /// # Errors
    /// `Invalid` where they are not what the shaders write, as after a reset of the device that nobody told of.
    pub(super) fn read(&self, words: &[u32], entries: usize) -> Result<Selected, GpuError> {
        let Records { capacity, width } = self.records;
        let invalid =
            || GpuError::Invalid { what: "selected rows".into(), reason: "they are none of the selection's".into() };
        let (counts, records) = words.split_at_checked(entries).ok_or_else(invalid)?;
        let most = counts.iter().max().map_or(0, |&most| most as usize);
        if most > capacity {
            return Ok(Selected::Overflow { rows: most });
        }
        let entry = |(entry, &count): (usize, &u32)| {
            let records = records.get(entry * capacity * width..).ok_or_else(invalid)?;
            let mut records: Vec<&[u32]> = records.chunks_exact(width).take(count as usize).collect();
            // By group and row.
            records.sort_unstable_by_key(|record| [record[0], record[1]]);
            let mut rows = vec![ScoredRows::default(); self.selection.groups.len()];
            for record in records {
                let (group, found) = self
                    .selection
                    .groups
                    .get(record[0] as usize)
                    .zip(rows.get_mut(record[0] as usize))
                    .ok_or_else(invalid)?;
                let (index, class, score) = (record[1] as usize, record[2] as usize, f32::from_bits(record[3]));
                let values = record[HEADER..][..group.width()].iter().map(|&bits| f32::from_bits(bits));
                found.push(ScoredRow { index, class, score }, values);
            }
            Ok(rows)
        };
        counts.iter().enumerate().map(entry).collect::<Result<_, _>>().map(Selected::Rows)
    }
}

impl Records {
    /// For a selection; `None` where it is not for the device.
    fn new(
        context: &Context,
        plan: &Plan,
        selection: &RowSelection,
        capacity: usize,
        options: &ExecutorOptions,
        tuning: &Tuning,
    ) -> Option<Self> {
        let rows = selection.groups.iter().try_fold(0_usize, |sum, group| sum.checked_add(group.rows))?;
        let width = HEADER + selection.groups.iter().map(RowGroup::width).max().unwrap_or(0);
        let records = Self { capacity: capacity.min(rows), width };
        let fits = |group: &RowGroup| {
            let arrays = arrays(plan, group);
            arrays.len() + 2 <= tuning.max_storage_buffers
                && group.rows.div_ceil(tuning.workgroup * MAX_GROUPS) <= MAX_GROUPS
                && group.score.iter().all(|factor| factor.power.is_finite())
        };
        let outputs =
            selection.groups.iter().flat_map(|group| &group.outputs).map(|output| &plan.outputs[output.output]);
        let mut arrays = outputs.map(|port| (port.rows, plan.array(port.array)));
        let all_there =
            arrays.all(|(rows, array)| rows.is_none() && array.kind == Kind::Float && array.constant.is_none());
        let limits = context.device().limits();
        let size = records.capacity.checked_mul(width)?.checked_mul(options.max_batch * 4)? as u64;
        let takes = size.saturating_add(ALIGNMENT as u64) <= limits.max_buffer_size.min(u64::from(u32::MAX))
            && size <= limits.max_storage_buffer_binding_size;
        // Where most rows are wanted, all outputs are less to read.
        let dense: usize = plan.outputs.iter().map(|port| plan.array(port.array).len).sum();
        let spares = capacity <= CAPACITY || records.capacity * width < dense;
        let takes = takes && spares && rows <= MAX_ROWS && !selection.threshold.is_nan();
        (all_there && takes && selection.groups.iter().all(fits)).then_some(records)
    }

    /// Words that are read back for so many entries.
    fn words(&self, entries: usize) -> usize {
        entries * (1 + self.capacity * self.width)
    }
}

/// The arrays that are looked at for a group, each once. Of what a kernel does not look at, nothing may be bound to it.
fn arrays(plan: &Plan, group: &RowGroup) -> Vec<ArrayId> {
    let factors = group.score.iter().map(|factor| &factor.of);
    let used = factors.chain(&group.values).filter(|columns| !columns.columns.is_empty());
    let mut arrays: Vec<ArrayId> = used.map(|columns| array(plan, group, columns.output)).collect();
    arrays.sort_unstable();
    arrays.dedup();
    arrays
}

/// The array of a group's output.
fn array(plan: &Plan, group: &RowGroup, output: usize) -> ArrayId {
    plan.outputs[group.outputs[output].output].array
}

/// The kernel for a group, and its workgroups for one entry. `arrays` are bound from 3 on, as words: a number that is NaN stays
/// what it is.
///
/// Nothing lies outside of its buffers: a row is below the group's rows, of an output it is taken by that output's rows, and its
/// columns are below the output's, all of which [`RowSelection::check`] has seen to; a record is below the capacity that there
/// is memory for.
fn text(
    index: usize,
    group: &RowGroup,
    plan: &Plan,
    arrays: &[ArrayId],
    records: Records,
    tuning: &Tuning,
) -> (String, [u32; 2]) {
    let mut head = Code::default();
    for (n, binding) in (3..).take(arrays.len()).enumerate() {
        line!(head, "@group(0) @binding({binding}) var<storage, read> array{n}: array<u32>;");
    }
    // An output's first number for the row is at `first`, and the next column's follows after `step`.
    let mut body = Code::default();
    for (n, output) in group.outputs.iter().enumerate() {
        let (rows, len) = (output.rows(), output.values());
        let row = if rows == group.rows { "i".into() } else { format!("i % {rows}u") };
        let columns = if output.layout == RowLayout::Rows { output.columns } else { 1 };
        line!(body, "        let first{n} = group.z * {len}u + ({row}) * {columns}u;");
    }
    // The bits of a column, which is an expression.
    let at = |output: usize, column: &str| {
        let step = if group.outputs[output].layout == RowLayout::Rows { 1 } else { group.outputs[output].rows() };
        let array = array(plan, group, output);
        let n = arrays.iter().position(|id| *id == array).unwrap_or(0);
        format!("array{n}[first{output} + ({column}) * {step}u]")
    };
    line!(body, "        var score = 1.0;");
    for (n, factor) in group.score.iter().enumerate() {
        multiply(&mut body, n, factor, group, &at);
    }
    let Records { width, .. } = records;
    let last = group.score.len() - 1;
    line!(body, "        if (best{last} == NONE) {{ return; }}");
    line!(body, "        let place = atomicAdd(&counts[group.z], 1u);");
    line!(body, "        if (place >= limits.capacity) {{ return; }}");
    line!(body, "        let record = (group.z * limits.capacity + place) * {width}u;");
    for (n, value) in
        [format!("{index}u"), "i".into(), format!("best{last}"), "bitcast<u32>(score)".into()].into_iter().enumerate()
    {
        line!(body, "        records[record + {n}u] = {value};");
    }
    let mut n = HEADER;
    for RowColumns { output, columns } in group.values.iter().filter(|values| !values.columns.is_empty()) {
        let (start, count) = (columns.start, columns.len());
        let value = at(*output, &format!("{start}u + c"));
        line!(body, "        for (var c = 0u; c < {count}u; c++) {{ records[record + {n}u + c] = {value}; }}");
        n += count;
    }
    let (main, groups, workgroup) = each(tuning.workgroup_for(group.rows), group.rows, &body);
    let source = format!(
        "{limits}{head}@compute @workgroup_size({workgroup})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
{main}}}
",
        limits = include_str!("select.wgsl"),
        head = head.0,
        main = main.0,
    );
    (source, groups.map(|n| n as u32))
}

/// Writes the lines that multiply the score by factor `n`, and leave where it ends below the threshold.
fn multiply(
    body: &mut Code,
    n: usize,
    ScoreFactor { of: RowColumns { output, columns }, activation, power }: &ScoreFactor,
    group: &RowGroup,
    at: &impl Fn(usize, &str) -> String,
) {
    let (start, count) = (columns.start, columns.len());
    line!(body, "        var number{n} = limits.lowest;");
    line!(body, "        var best{n} = NONE;");
    line!(body, "        for (var c = 0u; c < {count}u; c++) {{");
    line!(body, "            let bits = {};", at(*output, &format!("{start}u + c")));
    line!(body, "            let value = bitcast<f32>(bits);");
    line!(body, "            if (!is_nan(bits) && (best{n} == NONE || value > number{n})) {{");
    line!(body, "                number{n} = value;");
    line!(body, "                best{n} = c;");
    line!(body, "            }}");
    line!(body, "        }}");
    // As on the CPU: functions are spared those that can't be high enough.
    let is_bounded = *activation != ScoreActivation::None && *power == 1.0;
    if is_bounded {
        line!(body, "        if (number{n} < limits.logit) {{ return; }}");
    }
    let activated = match activation {
        ScoreActivation::None => format!("number{n}"),
        ScoreActivation::Sigmoid => format!("1.0 / (1.0 + exp(-number{n}))"),
        ScoreActivation::Softmax => {
            if is_bounded {
                line!(body, "        let against{n} = {};", at(*output, "0u"));
                line!(
                    body,
                    "        if (is_finite(against{n}) && number{n} - bitcast<f32>(against{n}) < limits.logit) {{"
                );
                line!(body, "            return;");
                line!(body, "        }}");
            }
            // Infinite numbers have no share, nor has anything beside NaN.
            line!(body, "        if (!is_finite(bitcast<u32>(number{n}))) {{ return; }}");
            line!(body, "        var sum{n} = 0.0;");
            line!(body, "        for (var c = 0u; c < {}u; c++) {{", group.outputs[*output].columns);
            line!(body, "            let bits = {};", at(*output, "c"));
            line!(body, "            if (is_nan(bits)) {{ return; }}");
            line!(body, "            sum{n} += exp(bitcast<f32>(bits) - number{n});");
            line!(body, "        }}");
            format!("1.0 / sum{n}")
        }
    };
    line!(body, "        let activated{n} = clamp({activated}, 0.0, 1.0);");
    let raised = match *power {
        1.0 => format!("activated{n}"),
        0.5 => format!("sqrt(activated{n})"),
        // The power of 0 is left to implementations.
        power => format!("select(0.0, pow(activated{n}, {}), activated{n} > 0.0)", number(power)),
    };
    line!(body, "        score *= {raised};");
    line!(body, "        if (!(score >= limits.threshold)) {{ return; }}");
}

#[cfg(test)]
mod tests;
