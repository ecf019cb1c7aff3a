//! Checks that bytes are a whole ONNX message before a parser that trusts lengths sees them.
//!
//! Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>) have no magic number, no checksum and no total
//! length: a file that was cut short still parses up to the cut. What does hold in a whole file is that every
//! length-delimited field lies inside its parent. This walk checks that, in one pass, without allocating, to a bounded
//! depth; and it counts what the parser will make of it all. Afterwards nothing in the file can make a parser allocate more
//! than a few times the file's size or recurse without end.

use rten_onnx::onnx;

/// How deep messages may nest. Exported models with control flow reach about 20.
const MAX_DEPTH: usize = 64;

/// What the walk found out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    /// Byte of the file at which the field begins.
    pub(crate) offset: usize,
    /// The message that holds the field.
    pub(crate) message: &'static str,
    /// What is wrong with it.
    pub(crate) what: String,
    /// Whether enough of an ONNX model came before it that the file can be called one.
    pub(crate) onnx_so_far: bool,
}

/// Whether `bytes` are a `ModelProto` whose nested messages all lie inside their parents, with a version, a graph and an
/// operator set.
pub(crate) fn check(bytes: &[u8]) -> Result<(), WireError> {
    let mut seen = Seen::default();
    let allowance = bytes.len().saturating_mul(PARSED_PER_BYTE).saturating_add(PARSED_ANYWAY);
    let mut walk = Walk { note: &mut |field, wire_type| seen.note(field, wire_type), allowance };
    let result = walk.message(bytes, 0, &MODEL, 0);
    // Every exporter writes ir_version first; a text has other bytes there.
    let onnx_so_far = seen.version_first;
    result.map_err(|e| WireError { onnx_so_far, ..e })?;
    for (present, what) in [
        (seen.version_first || seen.version, "it has no ir_version"),
        (seen.graph, "it has no graph"),
        (seen.opset, "it imports no operator set"),
    ] {
        if !present {
            return Err(WireError { offset: bytes.len(), message: MODEL.name, what: what.into(), onnx_so_far });
        }
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    any: bool,
    version_first: bool,
    version: bool,
    graph: bool,
    opset: bool,
}

impl Seen {
    fn note(&mut self, field: u64, wire_type: u8) {
        match (field, wire_type) {
            (1, VARINT) => {
                self.version_first |= !self.any;
                self.version = true;
            }
            (7, LEN) => self.graph = true,
            (8, LEN) => self.opset = true,
            _ => {}
        }
        self.any = true;
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

/// A message type of `onnx.proto3`.
struct Message {
    name: &'static str,
    /// What the parser makes of one, in bytes, without what its lists and texts hold.
    size: usize,
    /// Those of its fields that hold messages.
    children: &'static [(u64, &'static Message)],
    /// Those of its fields that hold whole numbers, packed or one by one.
    numbers: &'static [u64],
    /// Those that hold numbers of a fixed size in bytes, packed or one by one.
    fixed: &'static [(u64, usize)],
}

static MODEL: Message = message::<onnx::ModelProto>("model", &[(7, &GRAPH), (8, &OPSET), (14, &ENTRY)], &[]);
static GRAPH: Message =
    message::<onnx::GraphProto>("graph", &[(1, &NODE), (5, &TENSOR), (11, &VALUE), (12, &VALUE), (13, &VALUE)], &[]);
static NODE: Message = message::<onnx::NodeProto>("node", &[(5, &ATTRIBUTE)], &[]);
static ATTRIBUTE: Message = message::<onnx::AttributeProto>("attribute", &[(5, &TENSOR), (6, &GRAPH)], &[8]);
static TENSOR: Message =
    Message { fixed: &[(4, 4), (10, 8)], ..message::<onnx::TensorProto>("tensor", &[(13, &ENTRY)], &[1, 5, 7]) };
static VALUE: Message = message::<onnx::ValueInfoProto>("value", &[(2, &TYPE)], &[]);
static TYPE: Message = message::<onnx::TypeProto>("type", &[(1, &TENSOR_TYPE), (4, &SEQUENCE)], &[]);
static SEQUENCE: Message = message::<onnx::TypeProtoSequence>("sequence type", &[(1, &TYPE)], &[]);
static TENSOR_TYPE: Message = message::<onnx::TypeProtoTensor>("tensor type", &[(2, &SHAPE)], &[]);
static SHAPE: Message = message::<onnx::TensorShapeProto>("shape", &[(1, &DIMENSION)], &[]);
static DIMENSION: Message = message::<onnx::Dimension>("dimension", &[], &[]);
static OPSET: Message = message::<onnx::OperatorSetIdProto>("operator set", &[], &[]);
static ENTRY: Message = message::<onnx::StringStringEntryProto>("entry", &[], &[]);

const fn message<T>(
    name: &'static str,
    children: &'static [(u64, &'static Message)],
    numbers: &'static [u64],
) -> Message {
    Message { name, size: size_of::<T>(), children, numbers, fixed: &[] }
}

/// What the parser may make of a file, in bytes: this, and as much again as the file has for each of `PARSED_PER_BYTE`. An empty
/// message takes two bytes of a file and hundreds once it is parsed; in models that are meant to run weights outweigh them.
const PARSED_ANYWAY: usize = 32 << 20;
const PARSED_PER_BYTE: usize = 4;

/// The walk through one file.
struct Walk<'a> {
    /// Told of each field of the outermost message.
    note: &'a mut dyn FnMut(u64, u8),
    /// What the parser may still make of what comes.
    allowance: usize,
}

impl Walk<'_> {
    fn message(&mut self, bytes: &[u8], base: usize, message: &Message, depth: usize) -> Result<(), WireError> {
        let mut at = 0;
        let mut found = [0; MAX_CHILDREN];
        while at < bytes.len() {
            let start = at;
            let error =
                |what: String| WireError { offset: base + start, message: message.name, what, onnx_so_far: false };
            let tag = varint(bytes, &mut at).ok_or_else(|| error("a field's tag is broken".into()))?;
            let (field, wire_type) = (tag >> 3, (tag & 7) as u8);
            if field == 0 {
                return Err(error("a field has the number 0".into()));
            }
            let size = match wire_type {
                VARINT => varint(bytes, &mut at).map(|_| 0),
                FIXED64 => Some(8),
                FIXED32 => Some(4),
                LEN => varint(bytes, &mut at).and_then(|n| usize::try_from(n).ok()),
                _ => return Err(error(format!("field {field} has the wire type {wire_type}"))),
            };
            let size = size.ok_or_else(|| error(format!("field {field} is broken")))?;
            let left = bytes.len() - at;
            if size > left {
                return Err(error(format!("field {field} needs {size} bytes, {left} are left")));
            }
            if depth == 0 {
                (self.note)(field, wire_type);
            }
            let content = &bytes[at..at + size];
            if let (LEN, Some((_, each))) = (wire_type, message.fixed.iter().find(|(number, _)| *number == field))
                && size % each != 0
            {
                return Err(error(format!("field {field} has {size} bytes, and {each} for each number")));
            }
            let child = message.children.iter().position(|(number, _)| *number == field);
            let takes = match child {
                Some(place) => {
                    found[place] += 1;
                    grown(message.children[place].1.size, found[place])
                }
                None if message.numbers.contains(&field) => {
                    let count = if wire_type == LEN { packed(content) } else { Some(1) };
                    size_of::<i64>() * count.ok_or_else(|| error(format!("field {field} has a broken number")))?
                }
                None => size_of::<String>() + size,
            };
            self.allowance = self
                .allowance
                .checked_sub(takes)
                .ok_or_else(|| error("the file has more parts than a model of its size".into()))?;
            if let (LEN, Some(place)) = (wire_type, child) {
                if depth == MAX_DEPTH {
                    return Err(error(format!("messages nest deeper than {MAX_DEPTH}")));
                }
                self.message(content, base + at, message.children[place].1, depth + 1)?;
            }
            at += size;
        }
        Ok(())
    }
}

/// How many fields of a message hold messages, at most.
const MAX_CHILDREN: usize = 5;

/// By how many bytes a list grows for its `n`th element of this size: from four on it doubles.
fn grown(size: usize, n: usize) -> usize {
    match n {
        1 => 4 * size,
        n if n >= 4 && n.is_power_of_two() => n * size,
        _ => 0,
    }
}

/// How many varints these bytes are; `None` where the last one is cut off, or one has more than 64 bits: on those the parser
/// runs on into what follows, or for ever.
fn packed(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        varint(bytes, &mut at)?;
        count += 1;
    }
    Some(count)
}

/// The varint at `at`, which moves past it; `None` where it does not end or has more than 64 bits.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for i in 0..10 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_out_of_order() {
        fn check(bytes: &[u8], expected: Option<(usize, &str)>) {
            let error = super::check(bytes).err();
            let found = error.as_ref().map(|e| (e.offset, e.what.as_str()));
            assert_eq!(found, expected, "{bytes:x?}");
        }
        // ir_version 8, an empty graph, an empty operator set.
        check(&[0x08, 8, 0x3a, 0, 0x42, 0], None);
        check(&[0x08, 8, 0x3a, 0], Some((4, "it imports no operator set")));
        check(&[0x08, 8, 0x42, 0], Some((4, "it has no graph")));
        check(&[0x3a, 0, 0x42, 0], Some((4, "it has no ir_version")));
        check(&[0x08, 8, 0x3a, 5, 0x0a], Some((2, "field 7 needs 5 bytes, 1 are left")));
        // A node inside the graph that reaches past the graph's end.
        check(&[0x08, 8, 0x3a, 2, 0x0a, 9, 0x42, 0], Some((4, "field 1 needs 9 bytes, 0 are left")));
        // A tensor inside the graph with numbers packed into its fields.
        let tensor = |field: u8, numbers: &[u8]| {
            let inner = [&[field << 3 | 2, numbers.len() as u8], numbers].concat();
            let graph = [&[0x2a, inner.len() as u8], &inner[..]].concat();
            [&[0x08, 8, 0x42, 0, 0x3a, graph.len() as u8], &graph[..]].concat()
        };
        check(&tensor(7, &[1, 0xff, 1]), None);
        check(&tensor(7, &[1, 0xff]), Some((8, "field 7 has a broken number")));
        check(&tensor(5, &[0x80; 10]), Some((8, "field 5 has a broken number")));
        check(&tensor(4, &[0; 6]), Some((8, "field 4 has 6 bytes, and 4 for each number")));
        check(&tensor(10, &[0; 12]), Some((8, "field 10 has 12 bytes, and 8 for each number")));
        check(&[0x08, 0xff], Some((0, "field 1 is broken")));
        check(&[0x0b], Some((0, "field 1 has the wire type 3")));
        check(&[0x00], Some((0, "a field has the number 0")));
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut graph = Vec::new();
        for _ in 0..100 {
            for tag in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![tag];
                let mut n = graph.len();
                while n >= 0x80 {
                    outer.push(n as u8 | 0x80);
                    n >>= 7;
                }
                outer.push(n as u8);
                outer.append(&mut graph);
                graph = outer;
            }
        }
        let mut walk = Walk { note: &mut |_, _| {}, allowance: usize::MAX };
        let error = walk.message(&graph, 0, &GRAPH, 0).unwrap_err();
        assert!(error.what.contains("deeper"), "{error:?}");
    }

    /// Two bytes each, hundreds once they are parsed.
    #[test]
    fn a_flood_of_empty_parts_ends_soon() {
        for (name, tag) in [("node", 0x0a), ("tensor", 0x2a), ("value", 0x5a)] {
            let part = [tag, 0].repeat(1 << 20);
            let mut bytes = vec![0x08, 8, 0x42, 0, 0x3a, 0x80, 0x80, 0x80, 0x01];
            bytes.extend(&part);
            let error = super::check(&bytes).unwrap_err();
            assert!(error.what.contains("more parts than a model") && error.message == "graph", "{name}: {error:?}");
            assert!(error.offset < part.len() * 3 / 4, "{name}: {error:?}");
        }
    }
}
