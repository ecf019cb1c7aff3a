//! The values of tensors that a file fixes.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rten_onnx::onnx::{DataLocation, TensorProto};

use super::infer::MAX_RANK;

use crate::ElementType;
use crate::text::short_name;

/// A tensor whose values are known. Cheap to clone: clones share the values, which are never copied out of the file's parsed
/// form.
#[derive(Clone)]
pub(crate) struct Constant {
    element: ElementType,
    shape: Vec<usize>,
    values: Values,
}

#[derive(Clone)]
enum Values {
    Floats(Arc<Vec<f32>>),
    Ints(Arc<Vec<i64>>),
    /// As the file has them: little-endian, packed.
    Bytes(Arc<Vec<u8>>),
}

impl Constant {
    /// A tensor of a file. Takes its values over; allocates nothing for what the file only declares.
    pub(crate) fn read(proto: &mut TensorProto) -> Result<Self, String> {
        let shape = proto.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        if proto.dims.len() > MAX_RANK {
            return Err(format!("it has {} dimensions; {MAX_RANK} are the most", proto.dims.len()));
        }
        let shape = shape.map_err(|_| format!("it has the shape {:?}", proto.dims))?;
        let len = volume(&shape).ok_or_else(|| format!("its shape {shape:?} has more elements than can be counted"))?;
        let element = ElementType::read(proto.data_type);
        if proto.data_location == Some(DataLocation::EXTERNAL) {
            let place = proto.external_data.iter().find(|entry| entry.key.as_deref() == Some("location"));
            let file = short_name(place.and_then(|entry| entry.value.as_deref()).unwrap_or_default());
            return Err(format!("its values are in another file, {file:?}; only those in the model's own are read"));
        }
        let values = if let Some(raw) = proto.raw_data.take() {
            let bytes = raw.into_inner();
            if let Some(size) = element_size(element).filter(|size| bytes.len() % size != 0) {
                return Err(format!("it has {} bytes, and {size} for each value", bytes.len()));
            }
            Values::Bytes(Arc::new(bytes))
        } else if !proto.float_data.is_empty() {
            written(element, "float_data", &[ElementType::Float])?;
            Values::Floats(Arc::new(std::mem::take(&mut proto.float_data)))
        } else if !proto.int32_data.is_empty() {
            use ElementType as E;
            written(element, "int32_data", &[E::Int32, E::Int8, E::Uint8, E::Bool, E::Float16])?;
            Values::Ints(Arc::new(std::mem::take(&mut proto.int32_data).into_iter().map(i64::from).collect()))
        } else if !proto.int64_data.is_empty() {
            written(element, "int64_data", &[ElementType::Int64])?;
            Values::Ints(Arc::new(std::mem::take(&mut proto.int64_data)))
        } else if !proto.double_data.is_empty() {
            written(element, "double_data", &[ElementType::Double])?;
            let bytes = proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect();
            Values::Bytes(Arc::new(bytes))
        } else {
            Values::Bytes(Arc::default())
        };
        // Of a type whose size isn't known here the values are not used either.
        let held = element_size(element).map(|size| match &values {
            Values::Floats(v) => v.len(),
            Values::Ints(v) => v.len(),
            Values::Bytes(v) => v.len() / size,
        });
        if let Some(held) = held.filter(|&held| held != len) {
            return Err(format!("its shape {shape:?} calls for {len} values, {held} are there"));
        }
        let range = range(element);
        if let Values::Ints(values) = &values
            && let Some(value) = values.iter().find(|value| !range.contains(value))
        {
            return Err(format!("it has {value} among its values, of the type {element}"));
        }
        Ok(Self { element, shape, values })
    }

    /// Whole numbers of the type `int64`. `shape` has as many elements.
    pub(crate) fn ints(shape: Vec<usize>, values: Vec<i64>) -> Self {
        debug_assert_eq!(volume(&shape), Some(values.len()));
        Self { element: ElementType::Int64, shape, values: Values::Ints(Arc::new(values)) }
    }

    /// Numbers of the type `float`. `shape` has as many elements.
    pub(crate) fn floats(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(volume(&shape), Some(values.len()));
        Self { element: ElementType::Float, shape, values: Values::Floats(Arc::new(values)) }
    }

    /// The type of its elements.
    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    /// The same whole numbers under another type.
    pub(crate) fn of_element(self, element: ElementType) -> Self {
        Self { element, ..self }
    }

    /// Its shape.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same values in another shape of as many elements.
    pub(crate) fn reshaped(&self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(volume(&shape), Some(self.len()));
        Self { shape, ..self.clone() }
    }

    /// How many elements it has.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its values, where they are whole numbers or truth values.
    pub(crate) fn as_ints(&self) -> Option<Cow<'_, [i64]>> {
        use ElementType as E;
        match (&self.values, self.element) {
            (Values::Ints(values), E::Int64 | E::Int32 | E::Int8 | E::Uint8 | E::Bool) => Some(Cow::Borrowed(values)),
            (Values::Bytes(bytes), E::Int64) => Some(packed(bytes, i64::from_le_bytes)),
            (Values::Bytes(bytes), E::Int32) => Some(packed(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            (Values::Bytes(bytes), E::Int8) => Some(packed(bytes, |b| i64::from(i8::from_le_bytes(b)))),
            (Values::Bytes(bytes), E::Uint8) => Some(packed(bytes, |[b]| i64::from(b))),
            (Values::Bytes(bytes), E::Bool) => Some(packed(bytes, |[b]| i64::from(b != 0))),
            _ => None,
        }
    }

    /// Its values, where they are of the type `float`.
    pub(crate) fn as_floats(&self) -> Option<Cow<'_, [f32]>> {
        match (&self.values, self.element) {
            (Values::Floats(values), ElementType::Float) => Some(Cow::Borrowed(values)),
            (Values::Bytes(bytes), ElementType::Float) => Some(packed(bytes, f32::from_le_bytes)),
            _ => None,
        }
    }

    /// Its values as `float`, where they are floating-point numbers of any width and in the file.
    pub(crate) fn to_floats(&self) -> Option<Vec<f32>> {
        match (&self.values, self.element) {
            (Values::Bytes(bytes), ElementType::Double) => {
                Some(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect())
            }
            (Values::Bytes(bytes), ElementType::Float16) => {
                Some(bytes.as_chunks().0.iter().map(|&b| from_half(u16::from_le_bytes(b))).collect())
            }
            // As the file may write them: the bits of each in a number of its own.
            (Values::Ints(values), ElementType::Float16) => Some(values.iter().map(|&v| from_half(v as u16)).collect()),
            _ => self.as_floats().map(Cow::into_owned),
        }
    }

    /// The one value of a tensor of one `float`.
    pub(crate) fn scalar(&self) -> Option<f32> {
        // Looking at the values may copy them.
        if self.len() != 1 {
            return None;
        }
        self.as_floats()?.first().copied()
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constant").field("element", &self.element).field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// That values of a type are where the format has them.
fn written(element: ElementType, field: &str, types: &[ElementType]) -> Result<(), String> {
    match element {
        ElementType::Other => Ok(()),
        element if types.contains(&element) => Ok(()),
        element => Err(format!("it is of the type {element}, but its values are in {field}")),
    }
}

/// How many bytes an element takes; `None` for a type that is not ours to read.
pub(crate) fn element_size(element: ElementType) -> Option<usize> {
    match element {
        ElementType::Uint8 | ElementType::Int8 | ElementType::Bool => Some(1),
        ElementType::Float16 => Some(2),
        ElementType::Float | ElementType::Int32 => Some(4),
        ElementType::Double | ElementType::Int64 => Some(8),
        ElementType::Other => None,
    }
}

/// What whole numbers of a type can be; bit patterns for `float16`, which a file may write as such.
pub(crate) fn range(element: ElementType) -> RangeInclusive<i64> {
    match element {
        ElementType::Int8 => -128..=127,
        ElementType::Uint8 => 0..=255,
        ElementType::Bool => 0..=1,
        ElementType::Float16 => 0..=0xffff,
        ElementType::Int32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        _ => i64::MIN..=i64::MAX,
    }
}

/// How many elements a tensor of this shape has, where that can be counted in 63 bits.
pub(crate) fn volume(shape: &[usize]) -> Option<usize> {
    let volume = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    i64::try_from(volume).is_ok().then_some(volume)
}

/// The number that 16 bits are: IEEE 754, one bit of sign, five of exponent, ten of fraction.
fn from_half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction / 1024.0 * f32::powi(2.0, -14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * f32::powi(2.0, i32::from(exponent) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

fn packed<T: Clone, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Cow<'_, [T]> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rten_onnx::onnx::DataType;

    use super::*;

    fn proto(dims: &[i64], data_type: DataType) -> TensorProto {
        TensorProto { dims: dims.into(), data_type: Some(data_type), ..Default::default() }
    }

    #[test]
    fn every_way_to_write_values_is_read() {
        let raw = |bytes: &[u8]| Some(RefCell::new(bytes.to_vec()));
        let check = |mut proto: TensorProto, ints: Option<&[i64]>, floats: Option<&[f32]>| {
            let constant = Constant::read(&mut proto).unwrap();
            assert_eq!(constant.as_ints().as_deref(), ints);
            assert_eq!(constant.as_floats().as_deref(), floats);
        };
        let two = &[2];
        check(TensorProto { int64_data: vec![7, -1], ..proto(two, DataType::INT64) }, Some(&[7, -1]), None);
        check(TensorProto { int32_data: vec![7, -1], ..proto(two, DataType::INT32) }, Some(&[7, -1]), None);
        check(TensorProto { float_data: vec![0.5, 2.0], ..proto(two, DataType::FLOAT) }, None, Some(&[0.5, 2.0]));
        let bytes = [[0, 0, 0, 0x3f], [0, 0, 0, 0x40]].concat();
        check(TensorProto { raw_data: raw(&bytes), ..proto(two, DataType::FLOAT) }, None, Some(&[0.5, 2.0]));
        check(TensorProto { raw_data: raw(&[255, 1]), ..proto(two, DataType::INT8) }, Some(&[-1, 1]), None);
        check(TensorProto { raw_data: raw(&[255, 1]), ..proto(two, DataType::UINT8) }, Some(&[255, 1]), None);
        check(TensorProto { raw_data: raw(&[1, 2]), ..proto(&[1], DataType::UINT16) }, None, None);
        // Two to a byte.
        check(TensorProto { int32_data: vec![0x21, 3], ..proto(&[3], DataType::INT4) }, None, None);
        check(TensorProto { raw_data: raw(&[2, 0]), ..proto(two, DataType::BOOL) }, Some(&[1, 0]), None);
        check(proto(&[0, 5], DataType::FLOAT), None, Some(&[]));
    }

    #[test]
    fn halves_are_read() {
        for (bits, expected) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_95), (0x0001, 5.960_464_5e-8), (0x7c00, f32::INFINITY)]
        {
            assert_eq!(from_half(bits), expected, "{bits:x}");
        }
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    fn what_is_declared_but_not_there_is_refused() {
        fn check(dims: &[i64], expected: &str) {
            let error = Constant::read(&mut proto(dims, DataType::FLOAT)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        check(&[50_000, 50_000], "calls for 2500000000 values, 0 are there");
        check(&[-1], "[-1]");
        check(&[i64::MAX, i64::MAX], "can be counted");
        check(&[1; 40], "it has 40 dimensions");
    }

    #[test]
    fn values_must_be_of_their_type() {
        fn check(mut proto: TensorProto, expected: &str) {
            let error = Constant::read(&mut proto).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let one = |data_type| proto(&[1], data_type);
        check(TensorProto { int64_data: vec![1], ..one(DataType::FLOAT) }, "float, but its values are in int64_data");
        check(TensorProto { float_data: vec![1.0], ..one(DataType::INT64) }, "int64, but its values are in float_data");
        check(TensorProto { int32_data: vec![300], ..one(DataType::UINT8) }, "300 among its values, of the type uint8");
        let external = Some(DataLocation::EXTERNAL);
        check(TensorProto { data_location: external, ..one(DataType::FLOAT) }, "its values are in another file");
        check(TensorProto { int32_data: vec![2], ..one(DataType::BOOL) }, "2 among its values");
        check(
            TensorProto { raw_data: Some(RefCell::new(vec![0; 5])), ..one(DataType::FLOAT) },
            "5 bytes, and 4 for each",
        );
    }
}
