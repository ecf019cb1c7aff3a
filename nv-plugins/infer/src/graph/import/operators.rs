//! ONNX's operators, one by one, for the operator sets 7 to 22 and whatever later ones left alone.

use super::attributes::Attributes;
use crate::ElementType;
use crate::graph::constant::Constant;
use crate::graph::infer::MAX_RANK;
use crate::graph::op::{
    AspectRatio, AutoPad, Binary, Coordinates, Epilogue, Op, PadMode, Reduction, Resize, ResizeMode, Rounding, Unary,
    Window,
};

/// An operator, and the inputs that its attributes stand for.
pub(super) struct Parsed {
    pub(super) op: Op,
    /// Constants by the place of the input that they are.
    pub(super) inputs: Vec<(usize, Constant)>,
}

/// An operator, or why it is not understood.
pub(super) type Understood = Result<Parsed, &'static str>;

/// Reads the operator called `name` of the operator set `opset`, in a node of `outputs` outputs. The outer error is a
/// contradiction.
pub(super) fn operator(name: &str, opset: i64, mut a: Attributes<'_>, outputs: usize) -> Result<Understood, String> {
    let mut inputs = Vec::new();
    let mut list = |index: usize, values: Option<Vec<i64>>| {
        inputs.extend(values.map(|v| (index, Constant::ints(vec![v.len()], v))));
    };
    let op = match name {
        "Conv" => Op::Conv { window: window(&mut a)?, group: group(&mut a)?, epilogue: Epilogue::default() },
        "ConvTranspose" => Op::ConvTranspose {
            window: window(&mut a)?,
            group: group(&mut a)?,
            output_padding: few("output_padding", a.ints("output_padding")?)?,
            output_shape: few("output_shape", a.ints("output_shape")?)?,
        },
        "MaxPool" => {
            if a.flag("storage_order", false)? && outputs > 1 {
                return Ok(Err("it gives places in column-major order"));
            }
            Op::MaxPool(window(&mut a)?)
        }
        "AveragePool" => {
            Op::AveragePool { window: window(&mut a)?, count_include_pad: a.flag("count_include_pad", false)? }
        }
        "GlobalAveragePool" => Op::GlobalAveragePool,
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "BatchNormalization" => {
            if a.flag("training_mode", false)? || outputs > 1 {
                return Ok(Err("it is in training"));
            }
            if opset < 9 && !a.flag("spatial", true)? {
                return Ok(Err("it normalises every place by itself"));
            }
            Op::BatchNormalization { epsilon: epsilon(&mut a)? }
        }
        "InstanceNormalization" => Op::InstanceNormalization { epsilon: epsilon(&mut a)? },
        "Gemm" => Op::Gemm {
            alpha: a.float("alpha", 1.0)?,
            beta: a.float("beta", 1.0)?,
            trans_a: a.flag("transA", false)?,
            trans_b: a.flag("transB", false)?,
        },
        "MatMul" => Op::MatMul,
        "Softmax" => Op::Softmax { axis: a.int("axis", if opset < 13 { 1 } else { -1 })?, flat: opset < 13 },
        "PRelu" => Op::PRelu,
        "Clip" => {
            if opset < 11 {
                for (index, bound) in [(1, a.any_float("min")?), (2, a.any_float("max")?)] {
                    inputs.extend(bound.map(|v| (index, Constant::floats(Vec::new(), vec![v]))));
                }
            }
            Op::Clip
        }
        "Where" => Op::Where,
        "ReduceMean" | "ReduceSum" | "ReduceMax" => {
            list(1, a.ints("axes")?);
            let kind = match name {
                "ReduceMean" => Reduction::Mean,
                "ReduceSum" => Reduction::Sum,
                _ => Reduction::Max,
            };
            let empty_is_noop = a.flag("noop_with_empty_axes", false)?;
            Op::Reduce { kind, keep_dims: a.flag("keepdims", true)?, empty_is_noop }
        }
        "ArgMax" => Op::ArgMax {
            axis: a.int("axis", 0)?,
            keep_dims: a.flag("keepdims", true)?,
            last: a.flag("select_last_index", false)?,
        },
        "TopK" => {
            list(1, a.optional_int("k")?.map(|k| vec![k]));
            Op::TopK { axis: a.int("axis", -1)?, largest: a.flag("largest", true)?, sorted: a.flag("sorted", true)? }
        }
        "NonMaxSuppression" => Op::NonMaxSuppression { center_point: a.flag("center_point_box", false)? },
        "Concat" => Op::Concat { axis: a.optional_int("axis")?.ok_or("it has no axis")? },
        "Split" => {
            list(1, a.ints("split")?);
            if let Some(parts) = a.optional_int("num_outputs")?.filter(|&n| usize::try_from(n) != Ok(outputs)) {
                return Err(format!("num_outputs is {parts}, it has {outputs} outputs"));
            }
            Op::Split { axis: a.int("axis", 0)? }
        }
        "Slice" => {
            list(1, a.ints("starts")?);
            list(2, a.ints("ends")?);
            list(3, a.ints("axes")?);
            Op::Slice
        }
        "Gather" => Op::Gather { axis: a.int("axis", 0)? },
        "Pad" => {
            list(1, a.ints("pads")?);
            inputs.extend(a.any_float("value")?.map(|v| (2, Constant::floats(Vec::new(), vec![v]))));
            Op::Pad(a.choice(
                "mode",
                &[
                    ("constant", PadMode::Constant),
                    ("reflect", PadMode::Reflect),
                    ("edge", PadMode::Edge),
                    ("wrap", PadMode::Wrap),
                ],
            )?)
        }
        "Resize" | "Upsample" => {
            if let Some(scales) = a.floats("scales")? {
                inputs.push((2, Constant::floats(vec![scales.len()], scales)));
            }
            Op::Resize(resize(&mut a, name == "Upsample" || opset < 11)?)
        }
        "Reshape" => {
            list(1, a.ints("shape")?);
            Op::Reshape { allow_zero: a.flag("allowzero", false)? }
        }
        "Flatten" => Op::Flatten { axis: a.int("axis", 1)? },
        "Transpose" => Op::Transpose { perm: a.ints("perm")?.map(|perm| few("perm", Some(perm))).transpose()? },
        "Squeeze" | "Unsqueeze" => {
            list(1, a.ints("axes")?);
            if name == "Squeeze" { Op::Squeeze } else { Op::Unsqueeze }
        }
        "Shape" => Op::Shape { start: a.int("start", 0)?, end: a.optional_int("end")? },
        "ConstantOfShape" => {
            let value = a.tensor("value")?.unwrap_or_else(|| Constant::floats(vec![1], vec![0.0]));
            if value.len() != 1 {
                return Err(format!("its value has {} elements, one is needed", value.len()));
            }
            Op::ConstantOfShape(value)
        }
        "Cast" => {
            let to = a.optional_int("to")?.ok_or("it has no type to cast to")?;
            match ElementType::of_number(to) {
                ElementType::Other if !(1..=LAST_TYPE).contains(&to) => {
                    return Err(format!("it casts to the type {to}, which ONNX does not have"));
                }
                ElementType::Other => return Ok(Err("it casts to a type that is not known")),
                to => Op::Cast(to),
            }
        }
        "Range" => Op::Range,
        "Expand" => Op::Expand,
        "Tile" => Op::Tile,
        "Identity" => Op::Identity,
        "Dropout" => Op::Dropout,
        "DepthToSpace" => Op::DepthToSpace {
            block: a.positive("blocksize")?,
            column_first: a.choice("mode", &[("DCR", false), ("CRD", true)])?,
        },
        "SpaceToDepth" => Op::SpaceToDepth { block: a.positive("blocksize")? },
        _ => match (unary(name, &mut a)?, binary(name)) {
            (Some(unary), _) => Op::Unary(unary),
            (None, Some(binary)) => Op::Binary(binary),
            (None, None) => return Ok(Err("an operator that is not known")),
        },
    };
    Ok(Ok(Parsed { op, inputs }))
}

/// The last of the types that ONNX numbers: `int2`, of IR version 13.
const LAST_TYPE: i64 = 26;

fn epsilon(a: &mut Attributes<'_>) -> Result<f32, String> {
    let epsilon = a.float("epsilon", 1e-5)?;
    if epsilon >= 0.0 { Ok(epsilon) } else { Err(format!("epsilon is {epsilon}, at least 0 is needed")) }
}

fn unary(name: &str, a: &mut Attributes<'_>) -> Result<Option<Unary>, String> {
    Ok(Some(match name {
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu { alpha: a.float("alpha", 0.01)? },
        "Sigmoid" => Unary::Sigmoid,
        "HardSigmoid" => Unary::HardSigmoid { alpha: a.float("alpha", 0.2)?, beta: a.float("beta", 0.5)? },
        "HardSwish" => Unary::HardSwish,
        "Tanh" => Unary::Tanh,
        "Elu" => Unary::Elu { alpha: a.float("alpha", 1.0)? },
        "Gelu" => Unary::Gelu { tanh: a.choice("approximate", &[("none", false), ("tanh", true)])? },
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Not" => Unary::Not,
        _ => return Ok(None),
    }))
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        _ => return None,
    })
}

fn group(a: &mut Attributes<'_>) -> Result<i64, String> {
    let group = a.int("group", 1)?;
    if group > 0 { Ok(group) } else { Err(format!("group is {group}, at least 1 is needed")) }
}

fn window(a: &mut Attributes<'_>) -> Result<Window, String> {
    let positive = |name: &str, values: Option<Vec<i64>>| {
        let values = values.unwrap_or_default();
        if values.len() > MAX_RANK {
            return Err(format!("{name} has {} numbers", values.len()));
        }
        match values.iter().find(|v| **v < 1) {
            Some(_) => Err(format!("{name} is {values:?}, every one must be at least 1")),
            None => Ok(values),
        }
    };
    Ok(Window {
        kernel: positive("kernel_shape", a.ints("kernel_shape")?)?,
        strides: positive("strides", a.ints("strides")?)?,
        pads: few("pads", a.ints("pads")?)?,
        dilations: positive("dilations", a.ints("dilations")?)?,
        auto_pad: a.choice(
            "auto_pad",
            &[
                ("NOTSET", AutoPad::Explicit),
                ("SAME_UPPER", AutoPad::SameUpper),
                ("SAME_LOWER", AutoPad::SameLower),
                ("VALID", AutoPad::Valid),
            ],
        )?,
        ceil: a.flag("ceil_mode", false)?,
    })
}

/// `old`: Upsample, and Resize of operator set 10, have neither coordinates nor rounding to choose.
fn resize(a: &mut Attributes<'_>, old: bool) -> Result<Resize, String> {
    let mode = a.choice(
        "mode",
        &[
            ("nearest", ResizeMode::Nearest),
            ("linear", ResizeMode::Linear),
            ("cubic", ResizeMode::Cubic),
            ("bilinear", ResizeMode::Linear),
        ],
    )?;
    if old {
        let (coordinates, rounding) = (Coordinates::Asymmetric, Rounding::Floor);
        return Ok(Resize {
            mode,
            coordinates,
            rounding,
            antialias: false,
            axes: Vec::new(),
            aspect: AspectRatio::Stretch,
            extrapolation: 0.0,
            cubic: DEFAULT_CUBIC,
            exclude_outside: false,
        });
    }
    Ok(Resize {
        mode,
        coordinates: a.choice(
            "coordinate_transformation_mode",
            &[
                ("half_pixel", Coordinates::HalfPixel),
                ("half_pixel_symmetric", Coordinates::HalfPixelSymmetric),
                ("pytorch_half_pixel", Coordinates::PytorchHalfPixel),
                ("align_corners", Coordinates::AlignCorners),
                ("asymmetric", Coordinates::Asymmetric),
                ("tf_crop_and_resize", Coordinates::TfCropAndResize),
            ],
        )?,
        rounding: a.choice(
            "nearest_mode",
            &[
                ("round_prefer_floor", Rounding::PreferFloor),
                ("round_prefer_ceil", Rounding::PreferCeil),
                ("floor", Rounding::Floor),
                ("ceil", Rounding::Ceil),
            ],
        )?,
        antialias: a.flag("antialias", false)?,
        axes: few("axes", a.ints("axes")?)?,
        aspect: a.choice(
            "keep_aspect_ratio_policy",
            &[
                ("stretch", AspectRatio::Stretch),
                ("not_larger", AspectRatio::NotLarger),
                ("not_smaller", AspectRatio::NotSmaller),
            ],
        )?,
        extrapolation: a.float("extrapolation_value", 0.0)?,
        cubic: a.float("cubic_coeff_a", DEFAULT_CUBIC)?,
        exclude_outside: a.flag("exclude_outside", false)?,
    })
}

/// ONNX's default for the coefficient of cubic interpolation.
const DEFAULT_CUBIC: f32 = -0.75;

/// A list of at most a number for each end of each dimension; empty where it is left out.
fn few(name: &str, values: Option<Vec<i64>>) -> Result<Vec<i64>, String> {
    let values = values.unwrap_or_default();
    if values.len() > 2 * MAX_RANK { Err(format!("{name} has {} numbers", values.len())) } else { Ok(values) }
}
