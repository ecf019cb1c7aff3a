//! Runs plans.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::SimdLevel;
use super::memory::Memory;
use super::pool::Pool;
use super::simd::Instructions;
use super::vector::{Cut, Packed, Prepared};
use crate::ElementType;
use crate::plan::access;
use crate::plan::{Kind, Plan, Port, Span};

/// A plan made ready to run, with the memory that it runs in.
///
/// A run takes it exclusively. What it computes depends on the inputs alone, not on the number of threads or on what ran
/// before.
#[derive(Debug)]
pub(crate) struct Executor {
    plan: Arc<Plan>,
    memory: Memory,
    /// As the plan's steps.
    prepared: Vec<Prepared>,
    pool: Arc<Pool>,
    poison: bool,
}

/// Why a run failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunError {
    /// The step's node: `Gather node "g"`. Empty where it is none's fault.
    pub(crate) node: String,
    pub(crate) reason: String,
}

impl Executor {
    /// Makes a plan ready.
    ///
    /// # Errors
    /// A plan that contradicts itself, which is a defect of whatever made it.
    pub(crate) fn new(plan: Arc<Plan>, packed: &Packed, pool: Arc<Pool>, level: SimdLevel) -> Result<Self, RunError> {
        access::check(&plan).map_err(|(node, reason)| RunError { node, reason })?;
        let instructions = Instructions::of(level);
        let cut = Cut::new(pool.threads());
        let prepare = |step| Prepared::new(step, &plan, packed, instructions, cut);
        let prepared = plan.steps.iter().map(prepare).collect();
        let memory = Memory::of(&plan);
        Ok(Self { plan, memory, prepared, pool, poison: false })
    }

    /// Before each step, fills memory that holds nothing at that time with values that spoil whatever depends on them: for
    /// tests.
    #[cfg(test)]
    pub(crate) fn poisoned(mut self) -> Self {
        self.poison = true;
        self
    }

    /// Computes one entry: [`write`](Self::write), [`compute`](Self::compute), [`read`](Self::read).
    ///
    /// # Errors
    /// Those of the three.
    #[cfg(test)]
    pub(crate) fn run(&mut self, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        self.write(inputs)?;
        self.compute()?;
        self.read(outputs);
        Ok(())
    }

    /// Writes the inputs of the next entry. They are in the order of the plan's and are converted where it takes whole numbers:
    /// rounded to the nearest, and not beyond what the type has.
    ///
    /// # Errors
    /// Inputs that are not the plan's.
    pub(crate) fn write(&mut self, inputs: &[&[f32]]) -> Result<(), RunError> {
        let plan = Arc::clone(&self.plan);
        let same = inputs.len() == plan.inputs.len();
        if !same || plan.inputs.iter().zip(inputs).any(|(port, input)| plan.array(port.array).len != input.len()) {
            return Err(RunError { node: String::new(), reason: "the inputs are not those of the plan".into() });
        }
        if self.poison {
            self.poison_before(0);
        }
        for (port, input) in plan.inputs.iter().zip(inputs) {
            self.write_port(port, input);
        }
        Ok(())
    }

    /// Where the input of the next entry is to be written, instead of [`write`](Self::write); `None` unless there is one input,
    /// of floats. It holds nothing.
    pub(crate) fn floats_of_input(&mut self) -> Option<&mut [f32]> {
        if self.poison {
            self.poison_before(0);
        }
        let [port] = &self.plan.inputs[..] else { return None };
        let span = whole(&self.plan, port).filter(|_| self.plan.array(port.array).kind == Kind::Float)?;
        let ([written], _) = self.memory.writing([span]);
        Some(written.floats())
    }

    /// Computes the outputs of the inputs that were written, which it uses up.
    ///
    /// # Errors
    /// What the data does not allow.
    pub(crate) fn compute(&mut self) -> Result<(), RunError> {
        let plan = Arc::clone(&self.plan);
        for (i, step) in plan.steps.iter().enumerate() {
            if self.poison {
                self.poison_before(i + 1);
            }
            self.prepared[i]
                .run(&step.action, &mut self.memory, &self.pool)
                .map_err(|reason| RunError { node: step.node.clone(), reason })?;
        }
        if self.poison {
            self.poison_before(plan.steps.len() + 1);
        }
        Ok(())
    }

    /// Appends the values of each output that was computed to its vector; of one whose rows are known only now, those that are
    /// there.
    pub(crate) fn read(&self, outputs: &mut [Vec<f32>]) {
        for (values, output) in self.outputs().iter().zip(outputs) {
            output.extend_from_slice(values);
        }
    }

    /// The values of each output that was computed.
    pub(crate) fn outputs(&self) -> Vec<Cow<'_, [f32]>> {
        self.plan.outputs.iter().map(|port| self.values(port)).collect()
    }

    /// Spoils all memory that holds nothing which `step`, counted from 1, or a later one may read.
    fn poison_before(&mut self, step: usize) {
        for (index, buffer) in self.plan.memory.buffers.iter().enumerate() {
            let alive = buffer.slots.iter().filter(|slot| slot.first < step && step <= slot.last);
            let mut taken: Vec<_> = alive.map(|slot| (slot.offset, slot.offset + slot.len)).collect();
            taken.sort_unstable();
            let mut free_from = 0;
            for (begin, end) in taken {
                self.memory.poison(index, free_from, begin);
                free_from = end;
            }
            self.memory.poison(index, free_from, buffer.len);
        }
    }

    fn write_port(&mut self, port: &Port, input: &[f32]) {
        let Some(span) = whole(&self.plan, port) else { return };
        let ([written], _) = self.memory.writing([span]);
        match self.plan.array(port.array).kind {
            Kind::Float => written.floats().copy_from_slice(input),
            Kind::Int => {
                let to = written.ints().iter_mut();
                to.zip(input).for_each(|(to, &from)| *to = rounded(port.element, from));
            }
        }
    }

    fn values(&self, port: &Port) -> Cow<'_, [f32]> {
        let Some(span) = whole(&self.plan, port) else { return Cow::Borrowed(&[]) };
        let rows = port.rows.map(|array| self.memory.ints(Span { array, begin: 0, end: 1 })[0]);
        let len = rows.map_or(span.end, |rows| rows.max(0) as usize * port.dims[1..].iter().product::<usize>());
        let span = Span { end: len.min(span.end), ..span };
        match self.plan.array(port.array).kind {
            Kind::Float => Cow::Borrowed(self.memory.floats(span)),
            Kind::Int => Cow::Owned(self.memory.ints(span).iter().map(|&v| v as f32).collect()),
        }
    }
}

/// All elements of a port's array; `None` where there are none.
fn whole(plan: &Plan, port: &Port) -> Option<Span> {
    let end = plan.array(port.array).len;
    (end > 0).then_some(Span { array: port.array, begin: 0, end })
}

/// A float as a whole number of a type: the nearest, of two equally near ones the even one, and none beyond what the type
/// has.
pub(crate) fn rounded(element: ElementType, value: f32) -> i32 {
    let value = value.round_ties_even();
    match element {
        ElementType::Uint8 => i32::from(value as u8),
        ElementType::Int8 => i32::from(value as i8),
        _ => value as i32,
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.as_str() {
            "" => f.write_str(&self.reason),
            node => write!(f, "{node}: {}", self.reason),
        }
    }
}
