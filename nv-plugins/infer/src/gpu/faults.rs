use crate::gpu::arena::ALIGNMENT;
use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::readback::Slot;
use crate::gpu::shader::{Operand, Program};
use crate::plan::{Action, Plan};

/// What the steps of a run note of indices that are out of range: for each step that picks by indices which are known only then,
/// a word for each entry. It is 0, or the first such index.
///
/// One buffer does for all runs in flight. A run's commands clear it, note, and copy it to where the run's results go, and a
/// queue is through with those of one run before it begins with the next.
#[derive(Debug)]
pub(super) struct Faults {
    buffer: wgpu::Buffer,
    /// Those that note, by their places in the plan.
    steps: Vec<usize>,
    /// Words of each.
    words: usize,
}

impl Faults {
    /// Room for what `programs` note, which are those of a plan's first steps, of so many entries; `None` where none does.
    ///
    /// # Errors
    /// `OutOfMemory`, `Lost`.
    pub(super) fn new(context: &Context, programs: &[Program], entries: usize) -> Result<Option<Self>, GpuError> {
        let notes = |(_, program): &(usize, &Program)| program.operands.contains(&Operand::Faults);
        let steps: Vec<usize> = programs.iter().enumerate().filter(notes).map(|(step, _)| step).collect();
        if steps.is_empty() {
            return Ok(None);
        }
        let words = entries.next_multiple_of(ALIGNMENT / 4);
        let size = (steps.len() * words * 4) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = context.scoped("room for faults", || context.device().create_buffer(&descriptor))?;
        Ok(Some(Self { buffer, steps, words }))
    }

    /// What a step notes in, if it does.
    pub(super) fn binding(&self, step: usize) -> Option<wgpu::BufferBinding<'_>> {
        let place = self.steps.iter().position(|noting| *noting == step)?;
        let (buffer, size) = (&self.buffer, self.words as u64 * 4);
        Some(wgpu::BufferBinding { buffer, offset: place as u64 * size, size: wgpu::BufferSize::new(size) })
    }

    /// Forgets what the run before noted. It comes before the steps.
    pub(super) fn clear(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(&self.buffer, 0, None);
    }

    /// Bytes that are read back.
    pub(super) fn size(&self) -> u64 {
        self.buffer.size()
    }

    /// Has what was noted copied to `slot`.
    pub(super) fn copy(&self, encoder: &mut wgpu::CommandEncoder, slot: &mut Slot) {
        slot.copy(encoder, &self.buffer, 0..self.size());
    }

    /// Looks at what was read back from [`copy`](Self::copy) on, and gives what comes after it.
    ///
    /// # Errors
    /// `Step` for an index that was out of range: of the first entry that has one the first step's, as on the CPU.
    pub(super) fn check<'a>(&self, plan: &Plan, entries: usize, words: &'a [u32]) -> Result<&'a [u32], GpuError> {
        let (noted, rest) = words.split_at(self.steps.len() * self.words);
        for entry in 0..entries {
            for (&step, noted) in self.steps.iter().zip(noted.chunks_exact(self.words)) {
                let step = &plan.steps[step];
                let index = noted[entry] as i32;
                if index != 0
                    && let Action::Gather(gather) = &step.action
                {
                    return Err(GpuError::Step { node: step.node.clone(), reason: gather.out_of_range(index) });
                }
            }
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::shader::program;
    use crate::gpu::testing::{context, single, tuning};
    use crate::plan::{ArrayId, Gather, Values, View};

    #[test]
    fn only_steps_whose_indices_a_run_computes_need_room() {
        let Some(context) = context("only_steps_whose_indices_a_run_computes_need_room") else { return };
        let whole = |id, len| View::whole(ArrayId(id), &[len]);
        let gather = Gather {
            outer: vec![],
            picked: vec![2],
            inner: vec![],
            len: 4,
            data: whole(0, 4),
            indices: whole(1, 2),
            output: whole(2, 2),
        };
        let indices = Values::Ints([3, -1].into());
        let arrays = [Values::Floats([0.0; 4].into()), indices.clone(), Values::Floats([0.0; 2].into())];
        let mut plan = single(Action::Gather(gather), &arrays);
        let room = |plan: &Plan| {
            let program = program(&plan.steps[0].action, &plan.arrays, &tuning(&context, None));
            let faults = Faults::new(&context, &[program.expect("for a device")], 3).unwrap();
            faults.map(|faults| faults.size())
        };
        assert_eq!(room(&plan), Some(ALIGNMENT as u64));
        plan.arrays[1].constant = Some(indices);
        assert_eq!(room(&plan), None);
    }
}
