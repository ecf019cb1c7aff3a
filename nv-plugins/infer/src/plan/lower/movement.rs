//! Operators that pick elements by index.

use std::sync::Arc;

use super::{Action, Kind, Lowering, Result, Values, View, volume};
use crate::graph::constant::Constant;
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::PadMode;
use crate::graph::shapes::axis_of;
use crate::plan::{Function, Gather, Resample, Taps};

impl Lowering<'_> {
    pub(super) fn pad(&mut self, node: &Node, mode: PadMode) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (dims, out) = (self.dims(input)?, self.dims(output)?);
        let pads = self.constant_ints(node, 1)?;
        let axes: Vec<usize> = match node.input(3) {
            Some(_) => {
                let axes = self.constant_ints(node, 3)?;
                axes.iter().map(|&a| axis_of(a, dims.len())).collect::<std::result::Result<_, _>>()?
            }
            None => (0..dims.len()).collect(),
        };
        let fill = match node.input(2).and_then(|id| self.graph.constant(id)) {
            Some(value) if value.len() == 1 => match (value.to_floats(), value.as_ints()) {
                (Some(v), _) => v[0],
                (_, Some(v)) => v[0] as f32,
                _ => return Err("what it fills with is not known".into()),
            },
            None if node.input(2).is_none() => 0.0,
            _ => return Err("what it fills with is no constant of one number".into()),
        };
        let mut taps = vec![Taps::Same; dims.len()];
        for (i, &axis) in axes.iter().enumerate() {
            let begin = *pads.get(i).ok_or("it has too few pads")?;
            if begin != 0 || dims[axis] != out[axis] {
                self.make_up(out[axis])?;
                taps[axis] = Taps::Pick(padded(mode, dims[axis], begin, out[axis])?);
            }
        }
        self.resample(input, output, taps, fill)
    }

    pub(super) fn tile(&mut self, node: &Node) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (dims, out) = (self.dims(input)?, self.dims(output)?);
        self.make_up(out.iter().sum())?;
        let each = |(&from, &to): (&usize, &usize)| match from == to {
            true => Taps::Same,
            false => Taps::Pick((0..to).map(|i| (i % from.max(1)) as i32).collect()),
        };
        let taps = dims.iter().zip(&out).map(each).collect();
        self.resample(input, output, taps, 0.0)
    }

    pub(super) fn gather(&mut self, node: &Node, axis: i64) -> Result<()> {
        if self.is_alias_node(node) {
            return Ok(());
        }
        let (data, indices, output) = (self.input(node, 0)?, self.input(node, 1)?, node.outputs[0]);
        let (dims, picked) = (self.dims(data)?, self.dims(indices)?);
        let axis = axis_of(axis, dims.len())?;
        if let (Some(constant), 1) = (self.graph.constant(indices), picked.len()) {
            let ints = constant.as_ints().ok_or("its indices are not in the file")?.into_owned();
            let from_end = |i: &i64| (if *i < 0 { i + dims[axis] as i64 } else { *i }) as i32;
            let mut taps = vec![Taps::Same; dims.len()];
            taps[axis] = Taps::Pick(ints.iter().map(from_end).collect());
            return self.resample(data, output, taps, 0.0);
        }
        let (from, which) = (self.plain(data)?, self.plain(indices)?);
        let place = self.plain_output(output)?;
        self.push(Action::Gather(Gather {
            outer: dims[..axis].to_vec(),
            picked,
            inner: dims[axis + 1..].to_vec(),
            len: dims[axis],
            data: from,
            indices: which,
            output: place.clone(),
        }))?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn constant_of_shape(&mut self, node: &Node, value: &Constant) -> Result<()> {
        let output = node.outputs[0];
        let dims = self.dims(output)?;
        let one = match (self.kind(output)?, value.to_floats(), value.as_ints()) {
            (Kind::Float, Some(v), _) => Values::Floats(v.into()),
            (Kind::Int, _, Some(v)) => Values::Ints(v.iter().map(|&v| v as i32).collect()),
            _ => return Err("its value is not in the file".into()),
        };
        let array = self.allocate_constant(one)?;
        let place = self.plain_output(output)?;
        let from = View { array, offset: 0, strides: vec![0; dims.len()] };
        self.map(Function::Copy, &dims, vec![from], place.clone())?;
        self.plains.insert(output, place);
        Ok(())
    }

    /// A resampling with taps for each dimension of the value; as pictures where only rows and columns change.
    pub(super) fn resample(&mut self, input: ValueId, output: ValueId, taps: Vec<Taps>, fill: f32) -> Result<()> {
        if self.prefers.contains(&output)
            && let [Taps::Same, Taps::Same, rows, columns] = &taps[..]
        {
            let dims = self.dims4(output)?;
            let (from, place) = (self.blocked(input)?, self.blocked_output(output, dims)?);
            let taps = vec![Taps::Same, Taps::Same, rows.clone(), columns.clone(), Taps::Same];
            let (input, dims) = (from.view(), place.dims().to_vec());
            self.push(Action::Resample(Resample { dims, taps, fill, input, output: place.view() }))?;
            self.is_at(output, place);
            return Ok(());
        }
        let (from, dims) = (self.plain(input)?, self.dims(output)?);
        let place = self.plain_output(output)?;
        let blends = taps.iter().any(|t| matches!(t, Taps::Blend { .. }));
        if blends && self.kind(output)? == Kind::Int {
            return Err("it blends whole numbers".into());
        }
        if volume(&dims)? > 0 {
            self.push(Action::Resample(Resample { dims, taps, fill, input: from, output: place.clone() }))?;
        }
        self.plains.insert(output, place);
        Ok(())
    }
}

/// Which index each padded place takes; −1 for what is filled.
fn padded(mode: PadMode, len: usize, begin: i64, out: usize) -> Result<Arc<[i32]>> {
    let len = len as i64;
    if mode != PadMode::Constant && len == 0 {
        return Err("it repeats what has no elements".into());
    }
    let pick = |i: usize| {
        let at = i as i64 - begin;
        let index = match mode {
            _ if (0..len).contains(&at) => at,
            PadMode::Constant => -1,
            PadMode::Edge => at.clamp(0, len - 1),
            PadMode::Wrap => at.rem_euclid(len),
            // To and fro, the ends not repeated.
            PadMode::Reflect if len == 1 => 0,
            PadMode::Reflect => {
                let place = at.rem_euclid(2 * (len - 1));
                place.min(2 * (len - 1) - place)
            }
        };
        index as i32
    };
    Ok((0..out).map(pick).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_takes_from_where_its_mode_says() {
        let check = |mode: PadMode, len: usize, begin: i64, out: usize, expected: &[i32]| {
            assert_eq!(&*padded(mode, len, begin, out).unwrap(), expected, "{mode:?} {len} {begin} {out}");
        };
        check(PadMode::Constant, 3, 2, 6, &[-1, -1, 0, 1, 2, -1]);
        check(PadMode::Constant, 4, -1, 2, &[1, 2]);
        check(PadMode::Edge, 3, 2, 7, &[0, 0, 0, 1, 2, 2, 2]);
        check(PadMode::Reflect, 3, 2, 7, &[2, 1, 0, 1, 2, 1, 0]);
        check(PadMode::Wrap, 3, 2, 7, &[1, 2, 0, 1, 2, 0, 1]);
        assert!(padded(PadMode::Edge, 0, 1, 2).is_err());
    }
}
