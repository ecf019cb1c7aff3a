//! From config and a model to everything that a detector needs to know, checked once.

use nv_infer::{Model, Session, TensorInfo};
use nv_plugin_sdk::{BuildContext, Name, Size, StageError, tracing};

use crate::activation::Activation;
use crate::config::DetectConfig;
use crate::families::{self, FAMILIES, Family, Head, Known};
use crate::labels;
use crate::plan::{NetworkPlan, PictureModel, Sizes, choose_labels, list, refused};
use crate::priors::Priors;
use crate::settings::Layers;

/// A detector, decided.
pub(super) struct Plan {
    pub(super) network: NetworkPlan,
    pub(super) detector: Detector,
}

/// What a detector makes of its network's outputs.
pub(super) struct Detector {
    pub(super) family: &'static Family,
    pub(super) labels: Option<Vec<Name>>,
    /// By class; `None`: every class is wanted.
    pub(super) wanted: Option<Vec<bool>>,
    pub(super) nms_iou: f32,
    /// The network's input, where it is always the same.
    input: Option<Size>,
    said: Said,
}

/// What is said of a detector's outputs.
struct Said {
    classes: Option<usize>,
    activation: Option<Activation>,
    priors: Option<Priors>,
    named: bool,
}

impl Said {
    /// # Errors
    /// `Resource` where a file of names can't be read, `Config` where priors make no sense.
    fn read(layers: &Layers) -> Result<Self, StageError> {
        let labels = layers.pick(|s| s.labels.clone());
        let names = labels.map(|(labels, layer)| labels.load(&layer.base_dir)).transpose()?;
        let priors = layers.pick(|s| s.priors.clone()).map(|(priors, _)| priors);
        priors.as_ref().map_or(Ok(()), Priors::check).map_err(StageError::config)?;
        Ok(Self {
            classes: names.map(|names| names.len()),
            activation: layers.pick(|s| s.activation).map(|(activation, _)| activation),
            priors,
            named: layers.pick(|s| s.family.clone()).is_some(),
        })
    }

    fn known<'a>(&'a self, outputs: &'a [TensorInfo], input: Option<Size>) -> Known<'a> {
        let Self { classes, activation, ref priors, named } = *self;
        Known { outputs, input, classes, activation, priors: priors.as_ref(), named }
    }
}

impl Plan {
    /// Reads the model and what is said of it, and logs what was chosen and who chose it.
    ///
    /// # Errors
    /// `Resource` for a model that can't be read or is none of a detector, `Config` for config that does not fit it.
    pub(super) fn new(config: &DetectConfig, context: &BuildContext) -> Result<Self, StageError> {
        config.check()?;
        let mut model = PictureModel::read(config, context, "a detector")?;
        check_task(&model.model)?;
        let said = Said::read(&model.layers)?;
        let (family, family_from) = choose_family(&model, &said)?;

        let declared = model.input.size.filter(|_| !family.opens_input);
        let outputs = model.model.outputs();
        let sizes = [declared.or_else(|| model.size().filter(|_| !family.opens_input)), model.input.size];
        let bound = sizes.into_iter().map(|size| said.known(outputs, size)).find_map(|k| Some((k, (family.bind)(&k)?)));
        let Some((known, head)) = bound else {
            return Err(not_the_family(&model.model, family, &said.known(outputs, declared)));
        };
        let classes = head.classes();
        let published = (family.published)(&known);
        model.layers.push_published(published);
        let (labels, labels_from) = choose_labels(&model.model, classes, &model.layers)?;
        let wanted = labels::wanted(&config.classes, labels.as_deref())?;
        let nms_iou = model.layers.pick(|s| s.nms_iou).map_or(0.45, |(value, _)| value);
        if !(0.0..=1.0).contains(&nms_iou) {
            return Err(StageError::config(format!("nms_iou is {nms_iou}, and must be from 0 to 1")));
        }
        tracing::info!(
            model = %model.model.path().display(),
            family = family.name,
            family_from,
            classes = labels.as_ref().map(Vec::len).or(classes),
            labels_from,
            nms_iou,
            nms_iou_from = model.layers.origin(|s| s.nms_iou),
            "detector chosen"
        );
        let sizes = Sizes { taker: family.name, multiple_of: family.stride, opens_input: family.opens_input };
        let network = model.network(&sizes)?;
        let input = network.input.size;
        Ok(Self { network, detector: Detector { family, labels, wanted, nms_iou, input, said } })
    }
}

impl Detector {
    /// The decoder for the outputs that the network really has.
    ///
    /// # Errors
    /// `Resource`: they are not the family's.
    pub(super) fn bind(&self, session: &Session) -> Result<Box<dyn Head>, StageError> {
        let known = self.said.known(session.outputs(), self.input);
        (self.family.bind)(&known).ok_or_else(|| not_the_family(session.model(), self.family, &known))
    }
}

fn not_the_family(model: &Model, family: &Family, known: &Known<'_>) -> StageError {
    if let Some(lacking) = family.lacks.and_then(|lacks| lacks(known)) {
        return refused(model, lacking);
    }
    let input = known.input.map(|s| format!(" for an input of {}×{}", s.width, s.height)).unwrap_or_default();
    refused(
        model,
        format!(
            "its outputs ({}) are not those of {}{input}, which has {}",
            list(known.outputs),
            family.name,
            family.outputs
        ),
    )
}

/// Ultralytics writes into a file what it is for. Outputs of other tasks look like a detector's with more classes.
fn check_task(model: &Model) -> Result<(), StageError> {
    match model.metadata().get("task").map(String::as_str) {
        Some(task @ ("classify" | "segment" | "pose" | "obb")) => {
            Err(refused(model, format!("its metadata says that its task is {task:?}, and this is the task \"detect\"")))
        }
        _ => Ok(()),
    }
}

fn choose_family(model: &PictureModel, said: &Said) -> Result<(&'static Family, String), StageError> {
    if let Some((name, layer)) = model.layers.pick(|s| s.family.clone()) {
        let family = FAMILIES.into_iter().find(|f| f.name == name).ok_or_else(|| {
            StageError::config(format!("there is no family {name:?}; there are {}", names(&FAMILIES)))
        })?;
        return Ok((family, layer.origin.to_string()));
    }
    let outputs = model.model.outputs();
    let known = said.known(outputs, model.size());
    let mut candidates = families::candidates(&known);
    if candidates.is_empty() {
        // At another size than the one that is asked for it may be one; then it is the size that is wrong.
        candidates = families::candidates(&Known { input: model.input.size, ..known });
    }
    match candidates.as_slice() {
        [family] => Ok((family, "the shapes of the outputs".into())),
        [] => Err(families::lacking(&known).map_or_else(|| unknown_task(model), |lacking| model.refused(lacking))),
        several => Err(model.refused(format!(
            "its outputs ({}) may be those of {}: say which with the key family",
            list(outputs),
            names(several)
        ))),
    }
}

fn unknown_task(model: &PictureModel) -> StageError {
    let known: Vec<_> = FAMILIES.iter().map(|f| format!("{} ({})", f.name, f.outputs)).collect();
    model.refused(format!(
        "its outputs are those of no detector that is known here: it has {}. Known are {}. If it is one of them in another \
         shape, say so with the key family; if it has another task, detect can't use it: a classifier is for the kind \
         classify, a network that gives vectors for embed",
        list(model.model.outputs()),
        known.join("; ")
    ))
}

fn names(families: &[&Family]) -> String {
    families.iter().map(|f| f.name).collect::<Vec<_>>().join(", ")
}
