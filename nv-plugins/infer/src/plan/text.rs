//! Steps for people.

use std::fmt;

use super::{Action, Activation, Conv, Function, Picture, PoolKind, Residual, Step};

impl Action {
    /// What kind of step it is.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Conv(conv) if conv.depthwise => "depthwise",
            Self::Conv(_) => "convolution",
            Self::Pool(_) => "pool",
            Self::Map(map) if map.function == Function::Copy => "copy",
            Self::Map(_) => "map",
            Self::Reduce(_) => "reduce",
            Self::MatMul(_) => "product",
            Self::Softmax(_) => "softmax",
            Self::Resample(_) => "resample",
            Self::Gather(_) => "gather",
            Self::ArgMax(_) => "arg max",
            Self::TopK(_) => "top k",
            Self::NonMaxSuppression(_) => "suppression",
            Self::Shuffle(_) => "shuffle",
        }
    }

    /// Whether it runs on the CPU whatever the device: what it computes follows from data step by step.
    pub(crate) fn is_host_only(&self) -> bool {
        matches!(self, Self::TopK(_) | Self::NonMaxSuppression(_))
    }
}

/// `convolution 3×3 stride 2 + Silu, 16×208×208 to 32×104×104  (Conv node "c1")`
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action.kind())?;
        match &self.action {
            Action::Conv(conv) => write_conv(f, conv)?,
            Action::Pool(pool) => {
                let how = if pool.kind == PoolKind::Max { "greatest" } else { "mean" };
                write!(f, " {how}, {} to {}", size(&pool.input), size(&pool.output))?;
            }
            Action::Map(map) if map.function == Function::Copy => write!(f, " {}", list(&map.dims))?,
            Action::Map(map) => write!(f, " {} of {}", name(&map.function), list(&map.dims))?,
            Action::Reduce(a) => write!(f, " {:?} of {} by {}", a.kind, list(&a.kept), list(&a.reduced))?,
            Action::MatMul(a) => write!(f, " {} times {}×{}×{}", list(&a.batch), a.rows, a.depth, a.columns)?,
            Action::Softmax(a) => write!(f, " {}", list(&a.dims))?,
            Action::Resample(a) => write!(f, " to {}", list(&a.dims))?,
            Action::Gather(a) => write!(f, " {} of {}", list(&a.picked), a.len)?,
            Action::ArgMax(a) => write!(f, " {} of {}", list(&a.kept), a.len)?,
            Action::TopK(a) => write!(f, " {} of {}", a.k, a.len)?,
            Action::NonMaxSuppression(a) => write!(f, " of {} boxes", a.boxes)?,
            Action::Shuffle(a) => write!(f, " {}", size(&a.output))?,
        }
        write!(f, "  ({})", self.node)
    }
}

fn write_conv(f: &mut fmt::Formatter<'_>, conv: &Conv) -> fmt::Result {
    write!(f, " {}×{}", conv.kernel[0], conv.kernel[1])?;
    for (what, [a, b]) in [("stride", conv.stride), ("dilation", conv.dilation)] {
        if a != b {
            write!(f, " {what} {a}×{b}")?;
        } else if a != 1 {
            write!(f, " {what} {a}")?;
        }
    }
    let before = matches!(conv.residual, Some((_, Residual::BeforeActivation)));
    let after = matches!(conv.residual, Some((_, Residual::AfterActivation)));
    f.write_str(if before { " + sum" } else { "" })?;
    match &conv.activation {
        Some(Activation::Unary(unary)) => write!(f, " + {unary:?}")?,
        Some(Activation::PRelu(_)) => f.write_str(" + PRelu")?,
        None => {}
    }
    f.write_str(if after { " + sum" } else { "" })?;
    write!(f, ", {} to {}", size(&conv.input), size(&conv.output))
}

fn name(function: &Function) -> String {
    match function {
        Function::Unary(unary) => format!("{unary:?}"),
        Function::Binary(binary, _) => format!("{binary:?}"),
        other => format!("{other:?}"),
    }
}

fn size(picture: &Picture) -> String {
    list(&[picture.channels, picture.height, picture.width])
}

fn list(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "1".into();
    }
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}
