//! What the kinds have in common when they find out what a model is and how it is to be used: the file, who says what of it,
//! its input, the pre-processing. Checked once.

use std::fmt;

use nv_infer::{
    Dim, ElementType, InferError, InferErrorKind, Model, PictureChannel, PictureInput, PictureLayout, SessionOptions,
    TensorInfo,
};
use nv_plugin_sdk::{BuildContext, Name, Size, StageError, StageErrorKind, tracing};

use crate::config::ModelConfig;
use crate::preprocess::{InputSpec, Resize};
use crate::settings::{ColorOrder, Layers, ModelSettings, Origin, PerChannel, ResizeMode};

/// A model that looks at pictures, as far as the file tells, and what is said of it.
pub(crate) struct PictureModel {
    pub(crate) model: Model,
    pub(crate) layers: Layers,
    pub(crate) input: DeclaredInput,
    options: SessionOptions,
}

/// What sizes of pictures a model can be given.
pub(crate) struct Sizes<'a> {
    /// Who takes them, for people.
    pub(crate) taker: &'a str,
    /// Sides must be multiples of this.
    pub(crate) multiple_of: u32,
    /// Whether files declare a narrower input than they can take.
    pub(crate) opens_input: bool,
}

/// A network and what it is to be given, decided.
pub(crate) struct NetworkPlan {
    pub(crate) model: Model,
    pub(crate) options: SessionOptions,
    pub(crate) input: InputSpec,
}

impl PictureModel {
    /// Reads the model and what config, the file beside it and its metadata say of it. `taker` is what has one input that is
    /// a picture, as in "a detector".
    ///
    /// # Errors
    /// `Resource` for a model that can't be read or takes no picture, or a wrong file beside it.
    pub(crate) fn read(config: &impl ModelConfig, context: &BuildContext, taker: &str) -> Result<Self, StageError> {
        let model = Model::load(context.resolve(config.model())).map_err(infer_error)?;
        let layers = Layers::collect(config.settings(), &context.base_dir, &model)?;
        let input = DeclaredInput::read(&model, taker)?;
        let options =
            SessionOptions { device: config.device(), threads: config.threads(), ..SessionOptions::default() };
        Ok(Self { model, layers, input, options })
    }

    /// The input's size where the file fixes it, else the one that somebody asks for.
    pub(crate) fn size(&self) -> Option<Size> {
        let asked = || self.layers.pick(|s| s.input_size).map(|([width, height], _)| Size::new(width, height));
        self.input.size.or_else(asked)
    }

    /// Decides what the network is given. Logs it, and who said so.
    ///
    /// # Errors
    /// `Config` for settings that contradict the model, each other or sense.
    pub(crate) fn network(mut self, sizes: &Sizes<'_>) -> Result<NetworkPlan, StageError> {
        let declared = self.input.size.filter(|_| !sizes.opens_input);
        let (size, resize) = choose_size(&self.model, sizes, declared, &self.layers)?;
        let channels = choose_channels(&self.layers)?;
        let pad = self.layers.pick(|s| s.pad_value).map_or(0, |(value, _)| value);
        if sizes.opens_input && self.input.size.is_some() {
            self.options.input_shapes.insert(self.input.name.clone(), self.input.layout.open_shape());
        }
        let layers = &self.layers;
        tracing::info!(
            model = %self.model.path().display(),
            input = %size.map_or("as large as the picture".into(), |s| format!("{}×{}", s.width, s.height)),
            layout = ?self.input.layout,
            resize = ?resize,
            resize_from = layers.origin(|s| s.resize),
            pad,
            color_order = ?layers.pick(|s| s.color_order).map(|p| p.0),
            color_order_from = layers.origin(|s| s.color_order),
            scale_from = layers.origin(|s| s.scale),
            mean_from = layers.origin(|s| s.mean),
            std_from = layers.origin(|s| s.std),
            red = ?channels[0],
            green = ?channels[1],
            blue = ?channels[2],
            "pre-processing chosen"
        );
        Ok(NetworkPlan {
            model: self.model,
            options: self.options,
            input: InputSpec { size, resize, picture: PictureInput { layout: self.input.layout, channels, pad } },
        })
    }

    /// An error of the model's.
    pub(crate) fn refused(&self, what: impl fmt::Display) -> StageError {
        refused(&self.model, what)
    }
}

/// The pre-processing that is usual for networks that tell what a whole picture is: that of ImageNet, as torchvision publishes
/// it for its models (`references/classification/presets.py`), without the crop, which would cut off an object's edges. A
/// network that takes bytes does that by itself.
pub(crate) fn usual_settings(input: &DeclaredInput) -> ModelSettings {
    if input.element == ElementType::Uint8 {
        return ModelSettings::plain();
    }
    ModelSettings {
        scale: Some(1.0 / 255.0),
        mean: Some(PerChannel::Three([0.485, 0.456, 0.406])),
        std: Some(PerChannel::Three([0.229, 0.224, 0.225])),
        ..ModelSettings::plain()
    }
}

/// The sizes that such a network takes: any.
pub(crate) const ANY_SIZE: Sizes<'static> = Sizes { taker: "the model", multiple_of: 1, opens_input: false };

/// The size in which it is tried, where it takes any and none is asked for.
pub(crate) const BLANK: Size = Size::new(224, 224);

/// The same error as a step's.
pub(crate) fn infer_error(error: InferError) -> StageError {
    let kind = match error.kind() {
        InferErrorKind::NoDevice => StageErrorKind::NoDevice,
        InferErrorKind::Run => StageErrorKind::Fatal,
        _ => StageErrorKind::Resource,
    };
    StageError::new(kind, error.to_string()).with_source(error)
}

/// That a model can't be used, and why.
pub(crate) fn refused(model: &Model, what: impl fmt::Display) -> StageError {
    StageError::new(StageErrorKind::Resource, format!("model {}: {what}", model.path().display()))
}

/// The one input of a model that looks at pictures, as the file declares it.
#[derive(Debug)]
pub(crate) struct DeclaredInput {
    name: String,
    element: ElementType,
    layout: PictureLayout,
    /// Where the file fixes it.
    pub(crate) size: Option<Size>,
}

impl DeclaredInput {
    fn read(model: &Model, taker: &str) -> Result<Self, StageError> {
        let [input] = model.inputs() else {
            let (n, list) = (model.inputs().len(), list(model.inputs()));
            return Err(refused(model, format!("{taker} has one input, a picture; this model has {n}: {list}")));
        };
        let numbers = matches!(
            input.element,
            ElementType::Float | ElementType::Float16 | ElementType::Double | ElementType::Uint8
        );
        let Some((layout, [width, height])) = picture_dims(input.shape.as_deref()).filter(|_| numbers) else {
            return Err(refused(
                model,
                format!(
                    "{taker}'s input is a picture of batch×3×height×width or batch×height×width×3 numbers; this model's is {}",
                    list(model.inputs())
                ),
            ));
        };
        let size = match (width.map(u32::try_from), height.map(u32::try_from)) {
            (Some(Ok(width)), Some(Ok(height))) if width > 0 && height > 0 => Some(Size::new(width, height)),
            _ => None,
        };
        Ok(Self { name: input.name.clone(), element: input.element, layout, size })
    }
}

/// Layout, width and height of a picture of this shape; `None` where it is no picture. An open dimension may be three
/// channels only where no other is.
fn picture_dims(shape: Option<&[Dim]>) -> Option<(PictureLayout, [Option<usize>; 2])> {
    let Some(shape) = shape else { return Some((PictureLayout::Planar, [None; 2])) };
    let [_, a, b, c] = shape else { return None };
    let [a, b, c] = [a, b, c].map(Dim::fixed);
    match (a, c) {
        (Some(3), _) | (None, None) => Some((PictureLayout::Planar, [c, b])),
        (_, Some(3)) => Some((PictureLayout::Interleaved, [b, a])),
        (None, Some(_)) => Some((PictureLayout::Planar, [c, b])),
        _ => None,
    }
}

/// The input's size where it is always the same, and how a picture gets there.
fn choose_size(
    model: &Model,
    sizes: &Sizes<'_>,
    declared: Option<Size>,
    layers: &Layers,
) -> Result<(Option<Size>, Resize), StageError> {
    let asked = layers.pick(|s| s.input_size).map(|([width, height], layer)| (Size::new(width, height), layer));
    let size = match (asked, declared) {
        (Some((asked, layer)), Some(declared)) if asked != declared => {
            return Err(StageError::config(format!(
                "input_size is {}×{} by {}, and the model takes nothing but {}×{}",
                asked.width, asked.height, layer.origin, declared.width, declared.height
            )));
        }
        (_, Some(declared)) => Some(declared),
        (Some((asked, layer)), None) => {
            let fits = |n: u32| n > 0 && n <= 16_384 && n.is_multiple_of(sizes.multiple_of);
            if !fits(asked.width) || !fits(asked.height) {
                return Err(StageError::config(format!(
                    "input_size is {}×{} by {}; {} takes multiples of {}, up to 16384",
                    asked.width, asked.height, layer.origin, sizes.taker, sizes.multiple_of
                )));
            }
            Some(asked)
        }
        (None, None) => None,
    };
    let Some((mode, layer)) = layers.pick(|s| s.resize) else {
        return Err(refused(model, "nobody says how pictures are resized for it: set the key resize"));
    };
    let multiple = sizes.multiple_of;
    let resize = match (mode, size) {
        (ResizeMode::Letterbox, Some(_)) => Resize::Letterbox,
        (ResizeMode::LetterboxCenter, Some(_)) => Resize::LetterboxCenter,
        (ResizeMode::Stretch, Some(_)) => Resize::Stretch,
        (ResizeMode::PadToMultiple, None) => Resize::PadToMultiple(multiple),
        (ResizeMode::StretchToMultiple, None) => Resize::StretchToMultiple(multiple),
        // At a size of its own each becomes what comes closest; asked for by name it is a contradiction.
        (ResizeMode::PadToMultiple, Some(_)) if layer.origin == Origin::Published => Resize::Letterbox,
        (ResizeMode::StretchToMultiple, Some(_)) if layer.origin == Origin::Published => Resize::Stretch,
        (_, Some(size)) => {
            return Err(StageError::config(format!(
                "resize to a multiple is for inputs of any size, and this one is {}×{}: use letterbox or stretch",
                size.width, size.height
            )));
        }
        (_, None) => {
            return Err(StageError::config(format!(
                "model {} takes pictures of any size: set the key input_size, as in [416, 416]",
                model.path().display()
            )));
        }
    };
    Ok((size, resize))
}

/// Names for the model's classes, and who gave them.
///
/// # Errors
/// `Resource` where a file of names can't be read, `Config` where they are not as many as the model's classes.
pub(crate) fn choose_labels(
    model: &Model,
    classes: Option<usize>,
    layers: &Layers,
) -> Result<(Option<Vec<Name>>, String), StageError> {
    let Some((labels, layer)) = layers.pick(|s| s.labels.clone()) else {
        return Ok((None, "nobody".into()));
    };
    let names = labels.load(&layer.base_dir)?;
    match classes {
        Some(n) if n != names.len() && layer.origin == Origin::Published => {
            // Trained anew on other classes.
            Ok((None, format!("nobody: {n} classes are not the {} of the published models", names.len())))
        }
        Some(n) if n != names.len() => Err(StageError::config(format!(
            "labels by {} are {} names, and model {} tells {n} classes apart",
            layer.origin,
            names.len(),
            model.path().display()
        ))),
        _ => Ok((Some(names), layer.origin.to_string())),
    }
}

/// For red, green and blue: the plane of the input, and how samples become its values.
fn choose_channels(layers: &Layers) -> Result<[PictureChannel; 3], StageError> {
    let order = layers.pick(|s| s.color_order).map_or(ColorOrder::Rgb, |(order, _)| order);
    let scale = layers.pick(|s| s.scale).map_or(1.0, |(scale, _)| scale);
    let mean = layers.pick(|s| s.mean).map_or([0.0; 3], |(mean, _)| mean.values());
    let std = layers.pick(|s| s.std).map_or([1.0; 3], |(std, _)| std.values());
    let channel = |plane: usize| {
        let (mul, add) = (scale / std[plane], -mean[plane] / std[plane]);
        if mul.is_finite() && add.is_finite() && mul != 0.0 {
            return Ok(PictureChannel { plane, mul, add });
        }
        Err(StageError::config(format!(
            "scale {scale}, mean {mean:?} and std {std:?} turn samples into no numbers: scale and std must not be 0"
        )))
    };
    Ok(match order {
        ColorOrder::Rgb => [channel(0)?, channel(1)?, channel(2)?],
        ColorOrder::Bgr => [channel(2)?, channel(1)?, channel(0)?],
    })
}

/// Tensors with their shapes, for people.
pub(crate) fn list(tensors: &[TensorInfo]) -> String {
    let texts: Vec<_> = tensors.iter().map(|t| format!("{} {}", t.name, t.shape_text())).collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_channels() {
        fn check(dims: &[usize], expected: Option<(PictureLayout, [usize; 2])>) {
            let dim = |&n: &usize| if n == 0 { "n".into() } else { Dim::Fixed(n) };
            let shape: Vec<_> = dims.iter().map(dim).collect();
            let found = picture_dims(Some(&shape)).map(|(layout, size)| (layout, size.map(|n| n.unwrap_or(0))));
            assert_eq!(found, expected, "{dims:?}");
        }
        use PictureLayout::{Interleaved, Planar};
        check(&[1, 3, 240, 320], Some((Planar, [320, 240])));
        check(&[1, 256, 128, 3], Some((Interleaved, [128, 256])));
        check(&[0, 3, 0, 0], Some((Planar, [0, 0])));
        check(&[0, 0, 0, 3], Some((Interleaved, [0, 0])));
        check(&[0, 0, 0, 0], Some((Planar, [0, 0])));
        check(&[1, 3, 9, 3], Some((Planar, [3, 9])));
        check(&[0, 0, 240, 320], Some((Planar, [320, 240])));
        check(&[1, 1, 28, 28], None);
        check(&[1, 28, 28, 1], None);
        check(&[1, 64], None);
    }
}
