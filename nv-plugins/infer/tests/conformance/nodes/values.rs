//! Tensors as ONNX's test data stores them, and how alike they must be.

use nv_core::Tensor;
use rten_onnx::onnx::{DataType, TensorProto};

/// numpy's `assert_allclose`: |found − expected| ≤ `ABSOLUTE` + `RELATIVE` · |expected|.
const ABSOLUTE: f64 = 1e-5;
const RELATIVE: f64 = 1e-3;

/// The types of elements that a session's tensors can stand for.
pub(super) const TYPES: [DataType; 6] =
    [DataType::FLOAT, DataType::INT32, DataType::INT64, DataType::UINT8, DataType::INT8, DataType::BOOL];

/// A tensor of one of [`TYPES`].
pub(super) struct Values {
    pub(super) shape: Vec<usize>,
    numbers: Numbers,
}

enum Numbers {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Values {
    pub(super) fn read(proto: &TensorProto) -> Result<Self, String> {
        let shape = proto.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| format!("the shape {:?}", proto.dims))?;
        let raw = proto.raw_data.as_ref().map(|raw| raw.borrow());
        let raw = raw.as_deref();
        let element = proto.data_type.ok_or("a tensor without a type")?;
        let numbers = match element {
            DataType::FLOAT => {
                Numbers::Floats(raw.map_or(proto.float_data.clone(), |raw| split(raw, f32::from_le_bytes)))
            }
            DataType::INT64 => {
                Numbers::Ints(raw.map_or(proto.int64_data.clone(), |raw| split(raw, i64::from_le_bytes)))
            }
            _ => {
                let narrow = match (raw, element) {
                    (None, _) => proto.int32_data.clone(),
                    (Some(raw), DataType::INT32) => split(raw, i32::from_le_bytes),
                    (Some(raw), DataType::INT8) => split(raw, |b: [u8; 1]| i32::from(b[0] as i8)),
                    (Some(raw), DataType::UINT8 | DataType::BOOL) => split(raw, |b: [u8; 1]| i32::from(b[0])),
                    _ => return Err(format!("a tensor of the type {element}")),
                };
                Numbers::Ints(narrow.into_iter().map(i64::from).collect())
            }
        };
        Ok(Self { shape, numbers })
    }

    /// As a session takes it; `None` where a number is none of `f32`'s.
    pub(super) fn tensor(&self) -> Option<Tensor> {
        let data = match &self.numbers {
            Numbers::Floats(floats) => floats.clone(),
            Numbers::Ints(ints) => {
                ints.iter().map(|&v| (v as f32 as i128 == i128::from(v)).then_some(v as f32)).collect::<Option<_>>()?
            }
        };
        Some(Tensor::new(self.shape.clone(), data).expect("the data set holds together"))
    }

    /// What about `found` is not as it should be.
    pub(super) fn difference(&self, found: &Tensor) -> Option<String> {
        if found.shape() != self.shape {
            return Some(format!("the shape {:?} instead of {:?}", found.shape(), self.shape));
        }
        let pairs: Vec<(f64, f64, bool)> = match &self.numbers {
            Numbers::Floats(floats) => {
                let pairs = found.data().iter().zip(floats).map(|(&a, &b)| (f64::from(a), f64::from(b)));
                pairs.map(|(a, b)| (a, b, is_close(a, b))).collect()
            }
            Numbers::Ints(ints) => {
                let pairs = found.data().iter().zip(ints).map(|(&a, &b)| (f64::from(a), b as f64));
                pairs.map(|(a, b)| (a, b, a == b)).collect()
            }
        };
        let wrong = pairs.iter().filter(|pair| !pair.2).count();
        let (at, (a, b, _)) = pairs.iter().enumerate().find(|(_, pair)| !pair.2)?;
        Some(format!("{wrong} of {} values are wrong, the first at {at}: {a} instead of {b}", pairs.len()))
    }
}

fn is_close(found: f64, expected: f64) -> bool {
    found == expected
        || found.is_nan() && expected.is_nan()
        || expected.is_finite() && (found - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs()
}

fn split<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}

#[test]
fn what_is_close_enough() {
    fn check(found: f64, expected: f64, close: bool) {
        assert_eq!(is_close(found, expected), close, "{found} for {expected}");
    }
    check(1.0009, 1.0, true);
    check(1.0012, 1.0, false);
    check(-0.000_009, 0.0, true);
    check(0.000_011, 0.0, false);
    check(f64::NAN, f64::NAN, true);
    check(f64::NAN, 1.0, false);
    check(1.0, f64::NAN, false);
    check(f64::INFINITY, f64::INFINITY, true);
    check(f64::INFINITY, f64::NEG_INFINITY, false);
    check(f64::INFINITY, 1.0, false);
    check(3e38, f64::INFINITY, false);
}
