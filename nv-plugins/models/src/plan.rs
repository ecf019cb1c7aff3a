//! From config and a model to everything that a detector needs to know, checked once.

use std::collections::BTreeMap;

use nv_infer::{Dim, ElementType, InferError, InferErrorKind, Model, SessionOptions, TensorInfo};
use nv_plugin_sdk::{BuildContext, Name, Size, StageError, StageErrorKind};

use crate::DetectConfig;
use crate::families::{self, FAMILIES, Family};
use crate::labels;
use crate::preprocess::{Affine, InputSpec, Resize};
use crate::settings::{ColorOrder, Layers, Origin, ResizeMode};

/// What a detector does, decided.
pub(crate) struct Plan {
    pub(crate) model: Model,
    pub(crate) session: SessionOptions,
    pub(crate) family: &'static Family,
    pub(crate) input: InputSpec,
    pub(crate) labels: Option<Vec<Name>>,
    /// By class; `None`: every class is wanted.
    pub(crate) wanted: Option<Vec<bool>>,
    pub(crate) nms_iou: f32,
}

impl Plan {
    /// Reads the model and what is said of it, and logs what was chosen and who chose it.
    ///
    /// # Errors
    /// `Resource` for a model that can't be read or is none of a detector, `Config` for config that does not fit it.
    pub(crate) fn new(config: &DetectConfig, context: &BuildContext) -> Result<Self, StageError> {
        config.check()?;
        let model = Model::load(context.resolve(&config.model)).map_err(infer_error)?;
        let mut layers = Layers::collect(config.settings(), &context.base_dir, &model)?;

        let input = ModelInput::read(&model)?;
        let (family, family_from) = choose_family(&model, &input, &layers)?;
        layers.push_family((family.published)());
        let declared = input.size.filter(|_| !family.opens_input);
        let (size, resize) = choose_size(&model, family, declared, &layers)?;
        let head = (family.bind)(model.outputs(), declared)
            .or_else(|| (family.bind)(model.outputs(), input.size))
            .ok_or_else(|| not_the_family(&model, family, model.outputs(), declared))?;
        let (labels, labels_from) = choose_labels(&model, head.classes(), &layers)?;
        let wanted = labels::wanted(&config.classes, labels.as_deref())?;
        let channels = choose_channels(&layers)?;
        let pad = layers.pick(|s| s.pad_value).map_or(0, |(value, _)| value);
        let nms_iou = layers.pick(|s| s.nms_iou).map_or(0.45, |(value, _)| value);
        if !(0.0..=1.0).contains(&nms_iou) {
            return Err(StageError::config(format!("nms_iou is {nms_iou}, and must be from 0 to 1")));
        }
        let mut input_shapes = BTreeMap::new();
        if family.opens_input && input.size.is_some() {
            let open = ["batch", "channels", "height", "width"];
            let open = open.iter().map(|&n| if n == "channels" { Dim::Fixed(3) } else { n.into() }).collect();
            input_shapes.insert(input.name.clone(), open);
        }

        let from = |pick: Option<Origin>| pick.map_or_else(|| "nobody".to_owned(), |origin| origin.to_string());
        nv_plugin_sdk::tracing::info!(
            model = %model.path().display(),
            family = family.name,
            family_from,
            input = %size.map_or("as large as the picture".into(), |s| format!("{}×{}", s.width, s.height)),
            resize = ?resize,
            resize_from = from(layers.pick(|s| s.resize).map(|p| p.1.origin)),
            pad,
            color_order = ?layers.pick(|s| s.color_order).map(|p| p.0),
            color_order_from = from(layers.pick(|s| s.color_order).map(|p| p.1.origin)),
            scale_from = from(layers.pick(|s| s.scale).map(|p| p.1.origin)),
            mean_from = from(layers.pick(|s| s.mean).map(|p| p.1.origin)),
            std_from = from(layers.pick(|s| s.std).map(|p| p.1.origin)),
            red = ?channels[0],
            green = ?channels[1],
            blue = ?channels[2],
            classes = labels.as_ref().map(Vec::len).or(head.classes()),
            labels_from,
            nms_iou,
            "detector chosen"
        );
        Ok(Self {
            model,
            session: SessionOptions {
                device: config.device,
                threads: config.threads,
                input_shapes,
                ..SessionOptions::default()
            },
            family,
            input: InputSpec { size, resize, channels, pad },
            labels,
            wanted,
            nms_iou,
        })
    }
}

impl Plan {
    /// That a model with these outputs is not of the family.
    pub(crate) fn other_task(&self, outputs: &[TensorInfo]) -> StageError {
        not_the_family(&self.model, self.family, outputs, self.input.size)
    }
}

fn not_the_family(model: &Model, family: &Family, outputs: &[TensorInfo], input: Option<Size>) -> StageError {
    let input = input.map(|s| format!(" for an input of {}×{}", s.width, s.height)).unwrap_or_default();
    resource(
        model,
        format!(
            "its outputs ({}) are not those of {}{input}, which has {}",
            list(outputs),
            family.name,
            family.outputs
        ),
    )
}

/// The same error as a step's.
pub(crate) fn infer_error(error: InferError) -> StageError {
    let kind = match error.kind() {
        InferErrorKind::NoDevice => StageErrorKind::NoDevice,
        InferErrorKind::Run => StageErrorKind::Fatal,
        _ => StageErrorKind::Resource,
    };
    StageError::new(kind, error.to_string()).with_source(error)
}

fn resource(model: &Model, what: String) -> StageError {
    StageError::new(StageErrorKind::Resource, format!("model {}: {what}", model.path().display()))
}

/// The one input of a model that looks at pictures.
struct ModelInput {
    name: String,
    /// Where the file fixes it.
    size: Option<Size>,
}

impl ModelInput {
    fn read(model: &Model) -> Result<Self, StageError> {
        let listed = || list(model.inputs());
        let [input] = model.inputs() else {
            return Err(resource(
                model,
                format!("a detector has one input, a picture; this model has {}: {}", model.inputs().len(), listed()),
            ));
        };
        let picture = match input.shape.as_deref() {
            None => Some((None, None)),
            Some([_, channels, height, width]) if channels.fixed().is_none_or(|n| n == 3) => {
                Some((width.fixed(), height.fixed()))
            }
            Some(_) => None,
        };
        let numbers = matches!(
            input.element,
            ElementType::Float | ElementType::Float16 | ElementType::Double | ElementType::Uint8
        );
        let Some((width, height)) = picture.filter(|_| numbers) else {
            return Err(resource(
                model,
                format!(
                    "a detector's input is a picture of batch×3×height×width numbers; this model's is {}",
                    listed()
                ),
            ));
        };
        let size = match (width.map(u32::try_from), height.map(u32::try_from)) {
            (Some(Ok(width)), Some(Ok(height))) if width > 0 && height > 0 => Some(Size::new(width, height)),
            _ => None,
        };
        Ok(Self { name: input.name.clone(), size })
    }
}

fn choose_family(model: &Model, input: &ModelInput, layers: &Layers) -> Result<(&'static Family, String), StageError> {
    if let Some((name, layer)) = layers.pick(|s| s.family.clone()) {
        let family = FAMILIES.into_iter().find(|f| f.name == name).ok_or_else(|| {
            StageError::config(format!("there is no family {name:?}; there are {}", names(&FAMILIES)))
        })?;
        return Ok((family, layer.origin.to_string()));
    }
    match families::candidates(model.outputs(), input.size).as_slice() {
        [family] => Ok((family, "the shapes of the outputs".into())),
        [] => Err(unknown_task(model)),
        several => Err(resource(
            model,
            format!(
                "its outputs ({}) may be those of {}: say which with the key family",
                list(model.outputs()),
                names(several)
            ),
        )),
    }
}

fn unknown_task(model: &Model) -> StageError {
    let known: Vec<_> = FAMILIES.iter().map(|f| format!("{} ({})", f.name, f.outputs)).collect();
    resource(
        model,
        format!(
            "its outputs are those of no detector that is known here: it has {}. Known are {}. If it is one of them in \
             another shape, say so with the key family; if it has another task (a classifier, say), detect can't use it",
            list(model.outputs()),
            known.join("; ")
        ),
    )
}

/// The input's size where it is always the same, and how a picture gets there.
fn choose_size(
    model: &Model,
    family: &Family,
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
            let fits = |n: u32| n > 0 && n <= 16_384 && n.is_multiple_of(family.stride);
            if !fits(asked.width) || !fits(asked.height) {
                return Err(StageError::config(format!(
                    "input_size is {}×{} by {}; {} takes multiples of {}, up to 16384",
                    asked.width, asked.height, layer.origin, family.name, family.stride
                )));
            }
            Some(asked)
        }
        (None, None) => None,
    };
    let Some((mode, layer)) = layers.pick(|s| s.resize) else {
        return Err(resource(model, "nobody says how pictures are resized for it: set the key resize".into()));
    };
    let resize = match (mode, size) {
        (ResizeMode::Letterbox, Some(_)) => Resize::Letterbox,
        (ResizeMode::LetterboxCenter, Some(_)) => Resize::LetterboxCenter,
        (ResizeMode::Stretch, Some(_)) => Resize::Stretch,
        (ResizeMode::PadToMultiple, None) => Resize::PadToMultiple(family.stride),
        (ResizeMode::StretchToMultiple, None) => Resize::StretchToMultiple(family.stride),
        // At a size of its own each becomes what comes closest; asked for by name it is a contradiction.
        (ResizeMode::PadToMultiple, Some(_)) if layer.origin == Origin::Family => Resize::Letterbox,
        (ResizeMode::StretchToMultiple, Some(_)) if layer.origin == Origin::Family => Resize::Stretch,
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
fn choose_labels(
    model: &Model,
    classes: Option<usize>,
    layers: &Layers,
) -> Result<(Option<Vec<Name>>, String), StageError> {
    let Some((labels, layer)) = layers.pick(|s| s.labels.clone()) else {
        return Ok((None, "nobody".into()));
    };
    let names = labels.load(&layer.base_dir)?;
    match classes {
        Some(n) if n != names.len() && layer.origin == Origin::Family => {
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
fn choose_channels(layers: &Layers) -> Result<[(usize, Affine); 3], StageError> {
    let order = layers.pick(|s| s.color_order).map_or(ColorOrder::Rgb, |(order, _)| order);
    let scale = layers.pick(|s| s.scale).map_or(1.0, |(scale, _)| scale);
    let mean = layers.pick(|s| s.mean).map_or([0.0; 3], |(mean, _)| mean.values());
    let std = layers.pick(|s| s.std).map_or([1.0; 3], |(std, _)| std.values());
    let affine = |plane: usize| {
        let affine = Affine { mul: scale / std[plane], add: -mean[plane] / std[plane] };
        if affine.mul.is_finite() && affine.add.is_finite() && affine.mul != 0.0 {
            return Ok((plane, affine));
        }
        Err(StageError::config(format!(
            "scale {scale}, mean {mean:?} and std {std:?} turn samples into no numbers: scale and std must not be 0"
        )))
    };
    Ok(match order {
        ColorOrder::Rgb => [affine(0)?, affine(1)?, affine(2)?],
        ColorOrder::Bgr => [affine(2)?, affine(1)?, affine(0)?],
    })
}

fn list(tensors: &[TensorInfo]) -> String {
    let texts: Vec<_> = tensors.iter().map(|t| format!("{} {}", t.name, t.shape_text())).collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

fn names(families: &[&Family]) -> String {
    families.iter().map(|f| f.name).collect::<Vec<_>>().join(", ")
}
