//! The forms of a value, made when somebody wants them.

use std::sync::Arc;

use super::alias::{Rearranged, rearrange, reshape};
use super::{Action, Kind, Lowering, Picture, Pictures, Result, Values, View, volume};
use crate::graph::fold::fixed_shape;
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::Op;
use crate::graph::shapes::axis_of;
use crate::plan::Shuffle;
use crate::text::short_name;

impl<'a> Lowering<'a> {
    /// The value as a view of its own dimensions.
    pub(super) fn plain(&mut self, id: ValueId) -> Result<View> {
        if let Some(view) = self.plains.get(&id) {
            return Ok(view.clone());
        }
        let view = self.make_plain(id)?;
        self.plains.insert(id, view.clone());
        Ok(view)
    }

    fn make_plain(&mut self, id: ValueId) -> Result<View> {
        if self.graph.constant(id).is_some() {
            return self.constant(id);
        }
        if let Some(pictures) = self.pictures.get(&id).cloned() {
            let place = match self.places.get(&id).cloned() {
                None => self.plain_destination(id)?,
                place => place,
            };
            if place.is_none() && pictures.first.blocks() == 1 {
                return self.lanes_as_channels(id, &pictures);
            }
            self.places.extend(place.map(|place| (id, place)));
            let output = self.plain_output(id)?;
            self.unblock(id, &pictures, &output)?;
            return Ok(output);
        }
        let node = self.producer(id)?;
        if let Op::Concat { axis } = node.op {
            return self.concat_plain(node, axis);
        }
        if !self.is_alias_node(node) {
            return Err(format!("{} is not computed", self.graph.value(id).text()).into());
        }
        let input = self.input(node, 0)?;
        let (mut from, dims_in, dims) = (self.plain(input)?, self.dims(input)?, self.dims(id)?);
        if let Op::IndexMap(map) = &node.op
            && fixed_shape(&map.split).is_some_and(|split| reshape(&from, &dims_in, &split).is_none())
        {
            from = self.contiguous(input)?;
        }
        match rearrange(self, node, id, &from, &dims_in)? {
            Rearranged::View(view) => Ok(view),
            Rearranged::Copy { dims: between, from } => {
                // Row-major in either shape is the same memory.
                let output = self.plain_output(id)?;
                if output.is_contiguous(&dims) {
                    let whole = View { offset: output.offset, ..View::whole(output.array, &between) };
                    self.copy(&between, from, whole)?;
                } else {
                    let aside = self.allocate_temporary(self.kind(id)?, &dims)?;
                    self.copy(&between, from, View::whole(aside.array, &between))?;
                    self.copy(&dims, aside, output.clone())?;
                }
                Ok(output)
            }
        }
    }

    /// The value, of floats and of three or four dimensions, as blocked pictures.
    pub(super) fn blocked(&mut self, id: ValueId) -> Result<Pictures> {
        if let Some(pictures) = self.pictures.get(&id) {
            return Ok(pictures.clone());
        }
        let pictures = self.make_blocked(id)?;
        self.pictures.insert(id, pictures.clone());
        Ok(pictures)
    }

    fn make_blocked(&mut self, id: ValueId) -> Result<Pictures> {
        if !self.plains.contains_key(&id) && self.graph.constant(id).is_none() && self.prefers.contains(&id) {
            let node = self.producer(id)?;
            if matches!(node.op, Op::Concat { .. }) {
                return self.concat_blocked(node);
            }
            if let Some(pick) = self.channel_pick(id) {
                let [images, channels, height, width] = self.dims4(id)?;
                let from = self.blocked(pick.base)?;
                // Whole blocks, and whatever of rows and columns: the same memory seen otherwise.
                if pick.step == 1 && pick.first.is_multiple_of(self.block) {
                    return Ok(pick.seen(&from, [channels, height, width]));
                }
                let output = self.blocked_output(id, [images, channels, height, width])?;
                let seen = pick.seen(&from.part(0, from.first.channels), [from.first.channels, height, width]);
                for (from, to) in seen.iter().zip(output.iter()) {
                    self.make_up(2 * channels)?;
                    let channels = (0..channels).map(|c| (0, (pick.first + c * pick.step) as u32)).collect();
                    self.push(Action::Shuffle(Shuffle { inputs: vec![from], channels, output: to }))?;
                }
                return Ok(output);
            }
        }
        let (from, dims) = (self.plain(id)?, self.dims4(id)?);
        let output = match self.blocked_destination(id)? {
            Some(place) => place,
            None => match self.channels_as_lanes(&from, dims) {
                Some(seen) => return Ok(seen),
                None => self.new_pictures(id, dims)?,
            },
        };
        self.block_up(&from, dims, &output)?;
        Ok(output)
    }

    /// Pictures of one block, the same memory seen as a view of the value's dimensions.
    fn lanes_as_channels(&self, id: ValueId, pictures: &Pictures) -> Result<View> {
        let [image, _, row, column, lane] = pictures.view().strides[..] else {
            return Err("pictures have five".into());
        };
        let strides = match self.dims(id)?.len() {
            4 => vec![image, lane, row, column],
            _ => vec![image, lane, column],
        };
        Ok(View { strides, ..pictures.view() })
    }

    /// A view of whole blocks of channels that lie side by side, the same memory seen as pictures.
    fn channels_as_lanes(&self, from: &View, [images, channels, height, width]: [usize; 4]) -> Option<Pictures> {
        let [image, channel, row, column] = self.strides4(from).map(|s| usize::try_from(s).ok());
        let strides = [self.block, row?, column?];
        // Executors load blocks from where blocks begin.
        let blocks = [channels, from.offset, image?, row?, column?].iter().all(|n| n.is_multiple_of(self.block));
        let first =
            Picture { array: from.array, offset: from.offset, channels, height, width, block: self.block, strides };
        (channel? == 1 && blocks).then_some(Pictures { first, images, stride: image? })
    }

    /// Where a value is to be computed as pictures: in a Concat that it is a part of, or memory of its own.
    pub(super) fn blocked_output(&mut self, id: ValueId, dims: [usize; 4]) -> Result<Pictures> {
        match self.blocked_destination(id)? {
            Some(place) => Ok(place),
            None => self.new_pictures(id, dims),
        }
    }

    pub(super) fn new_pictures(&mut self, id: ValueId, dims: [usize; 4]) -> Result<Pictures> {
        let [images, channels, height, width] = dims;
        let blocks = channels.div_ceil(self.block);
        let stride = volume(&[blocks, height, width, self.block])?;
        let array = self.allocate(id, Kind::Float, volume(&[images, stride])?)?;
        Ok(Pictures { first: Picture::blocked(array, 0, [channels, height, width], self.block), images, stride })
    }

    /// Notes that a value is computed there.
    pub(super) fn is_at(&mut self, id: ValueId, pictures: Pictures) {
        self.pictures.insert(id, pictures);
    }

    /// The shape of a value of three or four dimensions: images, channels, rows, columns.
    pub(super) fn dims4(&self, id: ValueId) -> Result<[usize; 4]> {
        match self.dims(id)?[..] {
            [n, c, h, w] => Ok([n, c, h, w]),
            [n, c, w] => Ok([n, c, 1, w]),
            ref dims => {
                Err(format!("{} spatial dimensions; one and two are known", dims.len().saturating_sub(2)).into())
            }
        }
    }

    /// The view of a value of three or four dimensions, over four.
    pub(super) fn strides4(&self, view: &View) -> [isize; 4] {
        match view.strides[..] {
            [n, c, h, w] => [n, c, h, w],
            [n, c, w] => [n, c, 0, w],
            _ => [0; 4],
        }
    }

    pub(super) fn producer(&self, id: ValueId) -> Result<&'a Node> {
        let graph = self.graph;
        let node = self.links.producer(id).map(|index| &graph.nodes[index]);
        node.ok_or_else(|| format!("nothing computes {}", short_name(&self.graph.value(id).name)).into())
    }

    /// The values that a node's parts of a Concat lie in, along an axis.
    pub(super) fn concat_axis(&self, node: &Node, axis: i64) -> Result<usize> {
        Ok(axis_of(axis, self.dims(node.outputs[0])?.len())?)
    }

    fn concat_plain(&mut self, node: &Node, axis: i64) -> Result<View> {
        let id = node.outputs[0];
        let axis = self.concat_axis(node, axis)?;
        let whole = self.plain_output(id)?;
        let mut at = 0;
        for part in node.used() {
            let dims = self.dims(part)?;
            let offset = whole.offset as isize + at as isize * whole.strides[axis];
            let place = View { offset: offset as usize, ..whole.clone() };
            self.copy_value(part, &place)?;
            at += dims[axis];
        }
        Ok(whole)
    }

    fn concat_blocked(&mut self, node: &Node) -> Result<Pictures> {
        let id = node.outputs[0];
        let dims = self.dims4(id)?;
        let parts: Vec<ValueId> = node.used().collect();
        let channels = parts.iter().map(|&p| Ok(self.dims4(p)?[1])).collect::<Result<Vec<_>>>()?;
        if channels.iter().all(|c| c.is_multiple_of(self.block)) {
            let whole = self.blocked_whole(id)?;
            let mut first = 0;
            for (&part, &channels) in parts.iter().zip(&channels) {
                let (from, to) = (self.blocked(part)?, whole.part(first, channels));
                if from != to {
                    self.map(super::Function::Copy, &from.dims(), vec![from.view()], to.view())?;
                }
                first += channels;
            }
            return Ok(whole);
        }
        let output = self.blocked_output(id, dims)?;
        let parts = parts.iter().map(|&p| self.blocked(p)).collect::<Result<Vec<_>>>()?;
        self.make_up(2 * dims[1])?;
        let picks: Arc<[(u32, u32)]> =
            channels.iter().enumerate().flat_map(|(part, &n)| (0..n as u32).map(move |c| (part as u32, c))).collect();
        for (image, to) in output.iter().enumerate() {
            // Each picture is as large as some twenty numbers.
            self.make_up(20 * parts.len())?;
            let inputs = parts.iter().map(|p| p.image(image)).collect();
            self.push(Action::Shuffle(Shuffle { inputs, channels: picks.clone(), output: to }))?;
        }
        Ok(output)
    }

    /// Copies a value in whatever form it has to a view of its dimensions.
    pub(super) fn copy_value(&mut self, id: ValueId, to: &View) -> Result<()> {
        if self.plains.get(&id) == Some(to) {
            return Ok(());
        }
        match self.pictures.get(&id).cloned() {
            Some(pictures) if !self.plains.contains_key(&id) => {
                self.unblock(id, &pictures, to)?;
                self.plains.insert(id, to.clone());
                Ok(())
            }
            _ => {
                let (from, dims) = (self.plain(id)?, self.dims(id)?);
                self.copy(&dims, from, to.clone())
            }
        }
    }

    /// Copies pictures to a view.
    pub(super) fn unblock(&mut self, id: ValueId, from: &Pictures, to: &View) -> Result<()> {
        let (dims, strides) = (self.dims4(id)?, self.strides4(to));
        for (dims, blocked, plain) in self.lanes(from, dims, to, strides) {
            self.copy(&dims, blocked, plain)?;
        }
        Ok(())
    }

    /// Copies a view of four dimensions to pictures.
    pub(super) fn block_up(&mut self, from: &View, dims: [usize; 4], to: &Pictures) -> Result<()> {
        for (dims, blocked, plain) in self.lanes(to, dims, from, self.strides4(from)) {
            self.copy(&dims, plain, blocked)?;
        }
        Ok(())
    }

    /// Both sides of a copy between pictures and a view: all full blocks, then the channels of the last.
    fn lanes(
        &self,
        blocked: &Pictures,
        dims: [usize; 4],
        plain: &View,
        s: [isize; 4],
    ) -> Vec<(Vec<usize>, View, View)> {
        let [images, channels, height, width] = dims;
        let [image, block, row, column] = [
            blocked.view().strides[0],
            blocked.view().strides[1],
            blocked.view().strides[2],
            blocked.view().strides[3],
        ];
        let (full, rest) = (channels / self.block, channels % self.block);
        let mut copies = Vec::new();
        let at = |offset: usize, first: isize| (offset as isize + first) as usize;
        if full > 0 {
            let lanes = self.block as isize;
            let inner = View { strides: vec![image, block, row, column, 1], ..blocked.view() };
            let outer = View { strides: vec![s[0], s[1] * lanes, s[2], s[3], s[1]], ..plain.clone() };
            copies.push((vec![images, full, height, width, self.block], inner, outer));
        }
        if rest > 0 {
            let inner = View {
                offset: at(blocked.first.offset, full as isize * block),
                array: blocked.first.array,
                strides: vec![image, row, column, 1],
            };
            let outer = View {
                offset: at(plain.offset, (full * self.block) as isize * s[1]),
                array: plain.array,
                strides: vec![s[0], s[2], s[3], s[1]],
            };
            copies.push((vec![images, height, width, rest], inner, outer));
        }
        copies
    }

    fn constant(&mut self, id: ValueId) -> Result<View> {
        let constant = self.graph.constant(id).ok_or("it is no constant")?;
        let dims = constant.shape().to_vec();
        let (kind, name) = (self.kind(id)?, &self.graph.value(id).name);
        let missing = || format!("the values of the constant {} are not in the file", short_name(name));
        let values = match kind {
            Kind::Float => Values::Floats(constant.to_floats().ok_or_else(missing)?.into()),
            Kind::Int => {
                let ints = constant.as_ints().ok_or_else(missing)?;
                // Exporters write the largest number there is for "to the end".
                Values::Ints(ints.iter().map(|&v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32).collect())
            }
        };
        // As large as it is in the file.
        let array = self.allocate_named(short_name(name), kind, constant.len(), Some(values))?;
        Ok(View::whole(array, &dims))
    }
}
