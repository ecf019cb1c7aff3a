//! Functions of single elements, and normalisations, which are made of them.

use std::sync::Arc;

use super::alias::broadcast;
use super::{Function, Kind, Lowering, Pictures, Result, Values, View, volume};
use crate::ElementType;
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::{Binary, Reduction, Unary};
use crate::plan::Reduce;

/// What a function is applied to.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// A value that broadcasts to the output.
    Value(ValueId),
    /// A number for each channel, the output's second dimension.
    Channels(Vec<f32>),
    /// The same everywhere.
    Number(f32),
    /// The same everywhere.
    Whole(i32),
}

impl Lowering<'_> {
    pub(super) fn unary(&mut self, node: &Node, unary: Unary) -> Result<()> {
        let whole = self.kind(node.outputs[0])? == Kind::Int;
        if whole && !matches!(unary, Unary::Abs | Unary::Neg | Unary::Relu | Unary::Not) {
            return Err(format!("it is not known for {}", self.element(node.outputs[0])).into());
        }
        self.elementwise(node, Function::Unary(unary))
    }

    /// A function of all the node's inputs.
    pub(super) fn elementwise(&mut self, node: &Node, function: Function) -> Result<()> {
        let operands: Vec<Operand> = node.used().map(Operand::Value).collect();
        self.apply(function, node.outputs[0], &operands)
    }

    pub(super) fn binary(&mut self, node: &Node, binary: Binary) -> Result<()> {
        let output = node.outputs[0];
        let mut inputs: Vec<ValueId> = node.used().collect();
        let element = self.element(*inputs.first().ok_or("it has no input")?);
        let function = Self::of_two(binary, element);
        if let [a, b] = inputs[..] {
            if self.kind(a)? != self.kind(b)? {
                // Only powers may mix their types: the exponent becomes what the base is.
                let dims = self.dims(b)?;
                let (from, aside) = (self.plain(b)?, self.allocate_temporary(self.kind(a)?, &dims)?);
                self.map(Function::Cast(element), &dims, vec![from], aside.clone())?;
                let out = self.dims(output)?;
                let left = self.spread(a, &out)?;
                let right = broadcast(&aside, &dims, &out)?;
                let place = self.plain_output(output)?;
                self.map(function, &out, vec![left, right], place.clone())?;
                self.plains.insert(output, place);
                return Ok(());
            }
            return self.apply(function, output, &[Operand::Value(a), Operand::Value(b)]);
        }
        // Min and Max of any number.
        let last = inputs.pop().ok_or("it has no input")?;
        let dims = self.dims(output)?;
        let Some((&first, rest)) = inputs.split_first() else {
            return self.apply(Function::Copy, output, &[Operand::Value(last)]);
        };
        let mut so_far = self.spread(first, &dims)?;
        for &next in rest {
            let (next, aside) = (self.spread(next, &dims)?, self.allocate_temporary(self.kind(output)?, &dims)?);
            self.map(function, &dims, vec![so_far, next], aside.clone())?;
            so_far = aside;
        }
        let (last, place) = (self.spread(last, &dims)?, self.plain_output(output)?);
        self.map(function, &dims, vec![so_far, last], place.clone())?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn clip(&mut self, node: &Node) -> Result<()> {
        let float = self.kind(node.outputs[0])? == Kind::Float;
        let open = |least: bool| match (float, least) {
            (true, true) => Operand::Number(f32::NEG_INFINITY),
            (true, false) => Operand::Number(f32::INFINITY),
            (false, true) => Operand::Whole(i32::MIN),
            (false, false) => Operand::Whole(i32::MAX),
        };
        let bound = |index: usize, least: bool| node.input(index).map_or(open(least), Operand::Value);
        let operands = [Operand::Value(self.input(node, 0)?), bound(1, true), bound(2, false)];
        self.apply(Function::Clip, node.outputs[0], &operands)
    }

    /// `y = scale·(x − mean) / √(variance + ε) + shift`, channel by channel, as one product and one sum.
    pub(super) fn batch_normalization(&mut self, node: &Node, epsilon: f32) -> Result<()> {
        if node.outputs.iter().skip(1).any(|id| !self.links.users(*id).is_empty()) {
            return Err("it is one for training".into());
        }
        let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|place| self.constant_floats(node, place));
        let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
        let factor: Vec<f64> = scale
            .iter()
            .zip(&variance)
            .map(|(s, v)| f64::from(*s) / (f64::from(*v) + f64::from(epsilon)).sqrt())
            .collect();
        let term = shift.iter().zip(&mean).zip(&factor);
        let term = term.map(|((b, m), f)| (f64::from(*b) - f64::from(*m) * f) as f32).collect();
        let factor = factor.iter().map(|f| *f as f32).collect();
        let input = Operand::Value(self.input(node, 0)?);
        self.apply(Function::MulAdd, node.outputs[0], &[input, Operand::Channels(factor), Operand::Channels(term)])
    }

    /// As a batch normalisation with each picture's own mean and variance over rows and columns.
    pub(super) fn instance_normalization(&mut self, node: &Node, epsilon: f32) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let dims = self.dims(input)?;
        let (kept, reduced) = dims.split_at(2.min(dims.len()));
        if kept.len() < 2 || volume(reduced)? == 0 {
            return Err("it has nothing to normalise over".into());
        }
        let (scale, shift) = (self.constant_floats(node, 1)?, self.constant_floats(node, 2)?);
        let x = self.plain(input)?;
        let float = |lowering: &mut Self, dims: &[usize]| lowering.allocate_temporary(Kind::Float, dims);
        let mean = |lowering: &mut Self, from: View| -> Result<View> {
            let to = float(lowering, kept)?;
            let (kept, reduced, output) = (kept.to_vec(), reduced.to_vec(), to.clone());
            lowering.push(super::Action::Reduce(Reduce {
                kind: Reduction::Mean,
                kept,
                reduced,
                input: from,
                output,
            }))?;
            Ok(to)
        };
        // A number of each picture and channel, for every row and column.
        let spread = |mut view: View| {
            view.strides.resize(dims.len(), 0);
            view
        };
        let of_two = |binary| Self::of_two(binary, ElementType::Float);
        let center = mean(self, x.clone())?;
        let centered = float(self, &dims)?;
        self.map(of_two(Binary::Sub), &dims, vec![x, spread(center)], centered.clone())?;
        let squared = float(self, &dims)?;
        self.map(of_two(Binary::Mul), &dims, vec![centered.clone(), centered.clone()], squared.clone())?;
        let variance = mean(self, squared)?;
        let epsilon = self.number(epsilon, kept.len())?;
        let shifted = float(self, kept)?;
        self.map(of_two(Binary::Add), kept, vec![variance, epsilon], shifted.clone())?;
        let deviation = float(self, kept)?;
        self.map(Function::Unary(Unary::Sqrt), kept, vec![shifted], deviation.clone())?;
        let scale = self.channels(&scale, kept)?;
        let factor = float(self, kept)?;
        self.map(of_two(Binary::Div), kept, vec![scale, deviation], factor.clone())?;
        let shift = self.channels(&shift, kept)?;
        let place = self.plain_output(output)?;
        self.map(Function::MulAdd, &dims, vec![centered, spread(factor), spread(shift)], place.clone())?;
        self.plains.insert(output, place);
        Ok(())
    }

    /// Applies a function to operands, each spread to the output's shape.
    pub(super) fn apply(&mut self, function: Function, output: ValueId, operands: &[Operand]) -> Result<()> {
        if self.prefers.contains(&output) {
            let dims = self.dims4(output)?;
            let inputs = operands.iter().map(|o| self.lanes_of(o, dims)).collect::<Result<Vec<_>>>()?;
            let place = self.blocked_output(output, dims)?;
            self.map(function, &place.dims(), inputs, place.view())?;
            self.is_at(output, place);
            return Ok(());
        }
        let dims = self.dims(output)?;
        let inputs = operands.iter().map(|o| self.view_of(o, &dims)).collect::<Result<Vec<_>>>()?;
        let place = self.plain_output(output)?;
        self.map(function, &dims, inputs, place.clone())?;
        self.plains.insert(output, place);
        Ok(())
    }

    /// A value as a view of the shape that it broadcasts to.
    pub(super) fn spread(&mut self, id: ValueId, to: &[usize]) -> Result<View> {
        let (view, dims) = (self.plain(id)?, self.dims(id)?);
        broadcast(&view, &dims, to)
    }

    fn view_of(&mut self, operand: &Operand, dims: &[usize]) -> Result<View> {
        match operand {
            Operand::Value(id) => self.spread(*id, dims),
            Operand::Channels(values) => self.channels(values, dims),
            Operand::Number(value) => self.number(*value, dims.len()),
            Operand::Whole(value) => {
                let array = self.allocate_constant(Values::Ints(Arc::new([*value])))?;
                Ok(View { array, offset: 0, strides: vec![0; dims.len()] })
            }
        }
    }

    fn number(&mut self, value: f32, rank: usize) -> Result<View> {
        let array = self.allocate_constant(Values::Floats(Arc::new([value])))?;
        Ok(View { array, offset: 0, strides: vec![0; rank] })
    }

    fn channels(&mut self, values: &[f32], dims: &[usize]) -> Result<View> {
        if dims.get(1) != Some(&values.len()) {
            return Err(format!("{} numbers for the channels of {dims:?}", values.len()).into());
        }
        let array = self.allocate_constant(Values::Floats(values.into()))?;
        let strides = (0..dims.len()).map(|axis| isize::from(axis == 1)).collect();
        Ok(View { array, offset: 0, strides })
    }

    /// An operand as a view of images, blocks, rows, columns, lanes.
    fn lanes_of(&mut self, operand: &Operand, [images, channels, height, width]: [usize; 4]) -> Result<View> {
        let id = match operand {
            Operand::Value(id) => *id,
            Operand::Channels(values) => return self.channel_lanes(values, channels),
            Operand::Number(value) => return self.number(*value, 5),
            Operand::Whole(_) => return Err("a whole number among floats".into()),
        };
        let dims = self.dims(id)?;
        if dims == [images, channels, height, width] {
            return Ok(self.blocked(id)?.view());
        }
        let missing = 4usize.checked_sub(dims.len()).ok_or("it has more dimensions than a picture")?;
        let own: Vec<usize> = std::iter::repeat_n(1, missing).chain(dims.iter().copied()).collect();
        if own[1] == 1 {
            let view = self.spread(id, &[images, 1, height, width])?;
            let [n, _, y, x] = self.strides4(&view);
            return Ok(View { strides: vec![n, 0, y, x, 0], ..view });
        }
        if own[0] == 1
            && own[2..] == [1, 1]
            && let Some(values) = self.graph.constant(id).and_then(|c| c.to_floats())
        {
            return self.channel_lanes(&values, channels);
        }
        // Blocks of its own, which repeat where it has one image, row or column.
        let pictures: Pictures = if dims.len() == 4 {
            self.blocked(id)?
        } else {
            let view = self.plain(id)?;
            let seen = broadcast(&view, &dims, &own)?;
            let pictures = self.new_pictures(id, [own[0], own[1], own[2], own[3]])?;
            self.block_up(&seen, [own[0], own[1], own[2], own[3]], &pictures)?;
            pictures
        };
        let mut view = pictures.view();
        for (place, (own, wanted)) in [(0, (own[0], images)), (2, (own[2], height)), (3, (own[3], width))] {
            if own == 1 && wanted != 1 {
                view.strides[place] = 0;
            }
        }
        Ok(view)
    }

    fn channel_lanes(&mut self, values: &[f32], channels: usize) -> Result<View> {
        if values.len() != channels {
            return Err(format!("{} numbers for {channels} channels", values.len()).into());
        }
        let mut padded = values.to_vec();
        padded.resize(channels.next_multiple_of(self.block), 0.0);
        let array = self.allocate_constant(Values::Floats(padded.into()))?;
        Ok(View { array, offset: 0, strides: vec![0, self.block as isize, 0, 0, 1] })
    }
}
