//! Runs on their way, and what is made of what they bring back.

use std::sync::Arc;

use crate::cpu::{Memory, RunError, Tail};
use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::executor::ExecutorOptions;
use crate::gpu::faults::Faults;
use crate::gpu::readback::Pending;
use crate::gpu::select::{Selected, Selector};
use crate::plan::{ArrayId, Kind, Plan, Port, Span};

/// What a run needs to be finished.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) context: Arc<Context>,
    pub(super) plan: Arc<Plan>,
    pub(super) options: ExecutorOptions,
    /// The steps that are not done on the device, if there are any.
    pub(super) tail: Option<Tail>,
    /// What is read back: whatever later steps or the caller want of what is there after those steps.
    pub(super) carried: Vec<ArrayId>,
    /// What is read back before anything else, where a step notes something.
    pub(super) faults: Option<Faults>,
}

impl Shared {
    /// The words that a run has read back, without what its steps have noted.
    ///
    /// # Errors
    /// `Step` where they have noted something.
    fn checked<'a>(&self, entries: usize, bytes: &'a [u8]) -> Result<&'a [u32], GpuError> {
        // Of nothing not even the address is one of words.
        let words = if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) };
        self.faults.as_ref().map_or(Ok(words), |faults| faults.check(&self.plan, entries, words))
    }
}

/// A run that was submitted. Dropped, it is forgotten.
#[derive(Debug)]
#[must_use]
pub(crate) struct InFlight {
    pub(super) pending: Pending,
    pub(super) entries: usize,
    pub(super) shared: Arc<Shared>,
    /// Whose rows are read back, where it is not the outputs.
    pub(super) selector: Option<Arc<Selector>>,
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

    /// Whether rows of the outputs are read back: [`finish_rows`](Self::finish_rows). Else it is the outputs, of a run of which
    /// rows are wanted as well, where they can't be selected on the device: [`finish`](Self::finish).
    pub(crate) fn selects(&self) -> bool {
        self.selector.is_some()
    }

    /// Waits for the run and gives the rows that were selected.
    ///
    /// # Errors
    /// `Step` for what the data does not allow, `Lost`, `Hung`; `Invalid` for a run that does not select.
    pub(crate) fn finish_rows(self) -> Result<Selected, GpuError> {
        let Self { pending, entries, shared, selector } = self;
        let selector = selector.ok_or_else(|| wrong_end("its outputs were read back"))?;
        pending.read(&shared.context, shared.options.limit, |bytes| {
            selector.read(shared.checked(entries, bytes)?, entries)
        })?
    }

    /// Waits for the run and appends what each output has to its vector, entry by entry; then does the steps that are not for
    /// the device.
    ///
    /// # Errors
    /// `Step` for what the data does not allow, `Lost`, `Hung`; `Invalid` for a run that selects rows.
    pub(crate) fn finish(self, outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
        let Self { pending, entries, shared, selector } = self;
        if selector.is_some() {
            return Err(wrong_end("rows of its outputs were read back"));
        }
        let shared = &*shared;
        pending.read(&shared.context, shared.options.limit, |bytes| {
            let read = Read { shared, entries, words: shared.checked(entries, bytes)? };
            match &shared.tail {
                None => read.outputs(outputs),
                Some(tail) => read.rest(tail, outputs),
            }
        })?
    }
}

fn wrong_end(reason: &str) -> GpuError {
    GpuError::Invalid { what: "the end of a run".into(), reason: reason.into() }
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
    fn rest(&self, tail: &Tail, outputs: &mut [Vec<f32>]) -> Result<(), GpuError> {
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
            tail.run(&mut memory).map_err(|RunError { node, reason }| GpuError::Step { node, reason })?;
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
