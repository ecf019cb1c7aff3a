//! What a node does, with its attributes parsed.

use std::fmt;

use super::constant::Constant;
use super::infer::MAX_RANK;
use super::size::{Size, shape_text};

use crate::ElementType;
use crate::text::{short_name, shortened};

/// An operation. Unless said otherwise the inputs are those of ONNX's newest form of the operator: what older operator sets
/// have as attributes import turns into constants.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Inputs: the picture, weights, bias; then what [`Epilogue`] adds.
    Conv {
        window: Window,
        group: i64,
        epilogue: Epilogue,
    },
    ConvTranspose {
        window: Window,
        group: i64,
        output_padding: Vec<i64>,
        output_shape: Vec<i64>,
    },
    MaxPool(Window),
    AveragePool {
        window: Window,
        count_include_pad: bool,
    },
    GlobalAveragePool,
    GlobalMaxPool,
    BatchNormalization {
        epsilon: f32,
    },
    InstanceNormalization {
        epsilon: f32,
    },
    Gemm {
        alpha: f32,
        beta: f32,
        trans_a: bool,
        trans_b: bool,
    },
    MatMul,
    /// `flat`: over the axis and all that follow it together, as before operator set 13.
    Softmax {
        axis: i64,
        flat: bool,
    },
    Unary(Unary),
    PRelu,
    /// Inputs: the tensor, the least and the greatest value, both optional.
    Clip,
    Binary(Binary),
    Where,
    Reduce {
        kind: Reduction,
        keep_dims: bool,
        empty_is_noop: bool,
    },
    ArgMax {
        axis: i64,
        keep_dims: bool,
        last: bool,
    },
    TopK {
        axis: i64,
        largest: bool,
        sorted: bool,
    },
    NonMaxSuppression {
        center_point: bool,
    },
    Concat {
        axis: i64,
    },
    Split {
        axis: i64,
    },
    Slice,
    Gather {
        axis: i64,
    },
    Pad(PadMode),
    /// With one input: stretched to the shape of its output. Else as in ONNX: region, scales, sizes.
    Resize(Resize),
    /// With one input: to the shape of its output. Else the second input holds the shape.
    Reshape {
        allow_zero: bool,
    },
    Flatten {
        axis: i64,
    },
    /// Without a permutation the order is reversed.
    Transpose {
        perm: Option<Vec<i64>>,
    },
    Squeeze,
    Unsqueeze,
    Shape {
        start: i64,
        end: Option<i64>,
    },
    ConstantOfShape(Constant),
    Cast(ElementType),
    Range,
    /// With one input: to the shape of its output.
    Expand,
    Tile,
    Identity,
    Dropout,
    /// `column_first`: blocks are the inner part of the channels ("CRD").
    DepthToSpace {
        block: i64,
        column_first: bool,
    },
    SpaceToDepth {
        block: i64,
    },
    /// Not in ONNX: made by passes.
    IndexMap(IndexMap),
    /// One that is not understood. Its inputs include what its subgraphs take from around them.
    Other {
        name: String,
        why: &'static str,
    },
}

/// The window of a convolution or pool. Lists are empty where the file leaves them out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<i64>,
    pub(crate) strides: Vec<i64>,
    /// All beginnings, then all ends.
    pub(crate) pads: Vec<i64>,
    pub(crate) dilations: Vec<i64>,
    pub(crate) auto_pad: AutoPad,
    /// Whether sizes round up.
    pub(crate) ceil: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AutoPad {
    #[default]
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

/// What a convolution does to its sums before it writes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Epilogue {
    /// The activation. A PRelu's slopes are the node's last input.
    pub(crate) activation: Option<Activation>,
    /// Whether and when a further input of the output's shape (the fourth) is added.
    pub(crate) residual: Option<Residual>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Unary(Unary),
    PRelu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residual {
    BeforeActivation,
    AfterActivation,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unary {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    Sigmoid,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    /// x·sigmoid(x); made by passes.
    Silu,
    /// Between two constants; made by passes.
    Clamp {
        least: f32,
        greatest: f32,
    },
    Tanh,
    Elu {
        alpha: f32,
    },
    Gelu {
        tanh: bool,
    },
    Erf,
    Exp,
    Log,
    Sqrt,
    Abs,
    Neg,
    Floor,
    Ceil,
    Not,
}

/// A function of two numbers; the file may give Min and Max any number of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

impl Binary {
    /// Whether the result is a truth value.
    pub(crate) fn is_truth(self) -> bool {
        use Binary as B;
        matches!(self, B::Equal | B::Less | B::LessOrEqual | B::Greater | B::GreaterOrEqual | B::And | B::Or | B::Xor)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Mean,
    Sum,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resize {
    pub(crate) mode: ResizeMode,
    pub(crate) coordinates: Coordinates,
    /// How `nearest` rounds.
    pub(crate) rounding: Rounding,
    pub(crate) antialias: bool,
    /// The axes that scales and sizes are of; all of them where empty.
    pub(crate) axes: Vec<i64>,
    /// How far sizes are kept to.
    pub(crate) aspect: AspectRatio,
    /// What lies outside the picture, for [`Coordinates::TfCropAndResize`].
    pub(crate) extrapolation: f32,
    /// The coefficient of cubic interpolation.
    pub(crate) cubic: f32,
    /// Whether what lies outside the picture has no weight, rather than the value of the edge.
    pub(crate) exclude_outside: bool,
}

/// What a [`Resize`] to sizes does about pictures of another aspect ratio. But for `Stretch` one scale goes for every axis:
/// the least or greatest of what the sizes call for; the output's shape has the sizes that follow, rounded to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AspectRatio {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResizeMode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// A rearrangement that neither adds nor loses an element: the input seen as `split`, its axes permuted, the result seen as
/// the output's shape. Channel shuffle, focus, depth to space and space to depth are of this form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IndexMap {
    /// A finer shape of the input.
    pub(crate) split: Vec<Size>,
    /// Axis `i` of what is permuted is axis `perm[i]` of `split`.
    pub(crate) perm: Vec<usize>,
}

impl Op {
    /// The operator's name: ONNX's, where it has one.
    pub(crate) fn name(&self) -> String {
        let name = match self {
            Self::Unary(Unary::LeakyRelu { .. }) => "LeakyRelu",
            Self::Unary(Unary::HardSigmoid { .. }) => "HardSigmoid",
            Self::Unary(Unary::Clamp { .. }) => "Clip",
            Self::Unary(Unary::Elu { .. }) => "Elu",
            Self::Unary(Unary::Gelu { .. }) => "Gelu",
            Self::Unary(unary) => return format!("{unary:?}"),
            Self::Binary(binary) => return format!("{binary:?}"),
            Self::Reduce { kind, .. } => return format!("Reduce{kind:?}"),
            Self::Other { name, .. } => return short_name(name),
            other => {
                // The variants are named after the operators.
                let debug = shortened(format_args!("{other:?}"), 40);
                return debug.split(['(', ' ']).next().unwrap_or_default().into();
            }
        };
        name.into()
    }
}

/// The operator with what distinguishes it: `Conv 3×3 stride 2 + Silu`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match self {
            Self::Conv { window, group, epilogue } => write!(f, "{window}{}{epilogue}", groups(*group)),
            Self::ConvTranspose { window, group, output_padding, output_shape } => {
                write!(f, "{window}{}", groups(*group))?;
                list(f, " output padding", output_padding)?;
                list(f, " to", output_shape)
            }
            Self::MaxPool(window) => write!(f, "{window}"),
            Self::AveragePool { window, count_include_pad } => {
                write!(f, "{window}{}", flag(*count_include_pad, " padding counts"))
            }
            Self::BatchNormalization { epsilon } | Self::InstanceNormalization { epsilon } => {
                write!(f, " epsilon {epsilon}")
            }
            Self::Gemm { alpha, beta, trans_a, trans_b } => {
                let transposed = [flag(*trans_a, " A transposed"), flag(*trans_b, " B transposed")].concat();
                write!(f, " alpha {alpha} beta {beta}{transposed}")
            }
            Self::Softmax { axis, flat } => write!(f, " axis {axis}{}", flag(*flat, " and all after")),
            Self::Unary(unary) => unary.write_parameters(f),
            Self::Reduce { keep_dims, empty_is_noop, .. } => {
                f.write_str(flag(*keep_dims, " keeps dimensions"))?;
                f.write_str(flag(*empty_is_noop, " none without axes"))
            }
            Self::ArgMax { axis, keep_dims, last } => {
                write!(f, " axis {axis}{}{}", flag(*keep_dims, " keeps dimensions"), flag(*last, " last"))
            }
            Self::TopK { axis, largest, sorted } => {
                let order = if *largest { "largest" } else { "smallest" };
                write!(f, " axis {axis} {order}{}", flag(*sorted, " sorted"))
            }
            Self::NonMaxSuppression { center_point } => f.write_str(flag(*center_point, " boxes by centre")),
            Self::Concat { axis } | Self::Split { axis } | Self::Gather { axis } | Self::Flatten { axis } => {
                write!(f, " axis {axis}")
            }
            Self::Pad(mode) => write!(f, " {mode:?}"),
            Self::Resize(resize) => {
                write!(f, " {:?} {:?}", resize.mode, resize.coordinates)?;
                if resize.mode == ResizeMode::Nearest {
                    write!(f, " {:?}", resize.rounding)?;
                }
                f.write_str(flag(resize.antialias, " antialias"))?;
                if resize.aspect != AspectRatio::Stretch {
                    write!(f, " {:?}", resize.aspect)?;
                }
                list(f, " axes", &resize.axes)
            }
            Self::Reshape { allow_zero } => f.write_str(flag(*allow_zero, " 0 is a size")),
            Self::Transpose { perm } => list(f, "", perm.as_deref().unwrap_or_default()),
            Self::Shape { start, end } => match (start, end) {
                (0, None) => Ok(()),
                (start, Some(end)) => write!(f, " {start}..{end}"),
                (start, None) => write!(f, " {start}.."),
            },
            Self::ConstantOfShape(value) => match (value.as_floats(), value.as_ints()) {
                // One value: import has seen to it.
                (Some(v), _) => write!(f, " of {v:?}"),
                (_, Some(v)) => write!(f, " of {v:?}"),
                _ => Ok(()),
            },
            Self::Cast(to) => write!(f, " to {to}"),
            Self::DepthToSpace { block, column_first } => {
                write!(f, " {block}{}", flag(*column_first, " column first"))
            }
            Self::SpaceToDepth { block } => write!(f, " {block}"),
            Self::IndexMap(map) => write!(f, " {} by {:?}", shape_text(&map.split), map.perm),
            Self::Other { why, .. } => write!(f, " ({why})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel: Vec<_> = self.kernel.iter().take(MAX_RANK).map(i64::to_string).collect();
        if !kernel.is_empty() {
            write!(f, " {}", kernel.join("×"))?;
        }
        for (what, values, usual) in
            [("stride", &self.strides, 1), ("pad", &self.pads, 0), ("dilation", &self.dilations, 1)]
        {
            match values.first() {
                Some(first) if values.iter().all(|v| v == first) && *first != usual => write!(f, " {what} {first}")?,
                Some(first) if values.iter().any(|v| v != first) => list(f, &format!(" {what}"), values)?,
                _ => {}
            }
        }
        if self.auto_pad != AutoPad::Explicit {
            write!(f, " pad {:?}", self.auto_pad)?;
        }
        f.write_str(flag(self.ceil, " rounded up"))
    }
}

impl fmt::Display for Epilogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.residual == Some(Residual::BeforeActivation) {
            f.write_str(" + Add")?;
        }
        match self.activation {
            Some(Activation::Unary(unary)) => {
                write!(f, " + {}", Op::Unary(unary).name())?;
                unary.write_parameters(f)?;
            }
            Some(Activation::PRelu) => f.write_str(" + PRelu")?,
            None => {}
        }
        f.write_str(if self.residual == Some(Residual::AfterActivation) { " + Add" } else { "" })
    }
}

impl Unary {
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeakyRelu { alpha } | Self::Elu { alpha } => write!(f, " {alpha}"),
            Self::HardSigmoid { alpha, beta } => write!(f, " {alpha} {beta}"),
            Self::Clamp { least, greatest } => write!(f, " {least}..{greatest}"),
            Self::Gelu { tanh } => f.write_str(flag(*tanh, " by tanh")),
            _ => Ok(()),
        }
    }
}

fn groups(group: i64) -> String {
    if group == 1 { String::new() } else { format!(" groups {group}") }
}

/// `text`, which begins with a space, where `on`.
fn flag(on: bool, text: &'static str) -> &'static str {
    if on { text } else { "" }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, values: &[i64]) -> fmt::Result {
    if values.is_empty() { Ok(()) } else { write!(f, "{what} {}", shortened(format_args!("{values:?}"), 100)) }
}
