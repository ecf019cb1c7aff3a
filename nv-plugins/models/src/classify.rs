use nv_infer::{Model, Pictures, Session};
use nv_plugin_sdk::{
    Attribute, BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, DataKind, FromConfig, Name, SceneFeature,
    Signal, StageError, StageOutput, Tensor, Value, tracing,
};

use crate::activation::{Activation, are_scores, are_shares, sigmoid, softmax};
use crate::config::ClassifyConfig;
use crate::network::{self, Misfit, Network};
use crate::plan::{ANY_SIZE, BLANK, PictureModel, choose_labels, infer_error, refused, usual_settings};
use crate::preprocess::Placement;
use crate::vector::VectorOutput;

/// Tells what a picture is with a neural network from an ONNX file: the kind `classify`.
///
/// Takes frames and regions of any size and pixel format in host memory. Of a region's object it says what it is in attributes:
/// under the name that config gives the best class, and under that name and `_score` its score, 0 to 1 to four places; with
/// `_2`, `_3` … the next ones, where several are asked for. Of a whole frame it says the same in scene features, and the best
/// class in a signal, which steps can depend on. A class without a name is given by its number.
///
/// Each entry's result is bit for bit what the entry gets alone.
pub struct Classify {
    network: Network,
    reader: Reader,
}

impl FromConfig for Classify {
    type Config = ClassifyConfig;
    const KIND: &'static str = "classify";
    const SUMMARY: &'static str = "tells what a picture or an object is with a neural network from an ONNX file";
    const CONFIG_SCHEMA: &'static str = ClassifyConfig::SCHEMA;

    fn from_config(config: ClassifyConfig, context: &BuildContext) -> Result<Self, StageError> {
        config.check()?;
        let mut model = PictureModel::read(&config, context, "a classifier")?;
        let output = VectorOutput::choose(&model, config.output.as_deref(), "classify")?;
        model.layers.push_published(usual_settings(&model.input));
        let (labels, labels_from) = choose_labels(&model.model, output.len, &model.layers)?;
        let activation = model.layers.pick(|s| s.activation).map(|(activation, _)| activation);
        tracing::info!(
            model = %model.model.path().display(),
            classes = labels.as_ref().map(Vec::len).or(output.len),
            labels_from,
            ?activation,
            activation_from = model.layers.origin(|s| s.activation),
            "classifier chosen"
        );
        let network = Network::new(model.network(&ANY_SIZE)?)?;
        let reader = Reader {
            output,
            labels,
            names: names(&config.attribute, config.top),
            threshold: config.threshold,
            activation,
            scores: Vec::new(),
        };
        Ok(Self { network, reader })
    }
}

impl BatchProcessor for Classify {
    fn capabilities(&self) -> BatchCapabilities {
        let signal = self.reader.names.first().map(|[class, _]| DataKind::Signal(class.clone()));
        self.network.capabilities(signal.into_iter().collect())
    }

    /// Runs the network on some blank pictures: a model whose outputs are not what its file says is refused here, and what is
    /// still to be done to its values is found out.
    fn start(&mut self) -> Result<(), StageError> {
        let Self { network, reader } = self;
        let mut seen = Seen::default();
        for value in BLANKS {
            let trial = network.try_blank(BLANK, value)?;
            for entry in 0..trial.entries {
                let values = reader.output.of(&trial.outputs, entry);
                seen.look_at(values.map_err(|misfit| network.refused(misfit))?);
            }
        }
        if reader.activation.is_none() {
            let model = network.session().model();
            let activation = seen.activation(model).map_err(|what| refused(model, what))?;
            tracing::info!(?activation, "how the network's values become scores, by what blank pictures give");
            reader.activation = Some(activation);
        }
        Ok(())
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        self.network.process(batch, &mut self.reader)
    }
}

/// What the class and the score are called, for each of the best `top`.
fn names(attribute: &str, top: usize) -> Vec<[Name; 2]> {
    let place = |i: usize| if i == 0 { attribute.to_owned() } else { format!("{attribute}_{}", i + 1) };
    (0..top).map(place).map(|name| [Name::new(&name), Name::new(&format!("{name}_score"))]).collect()
}

/// The values of the blank pictures' inputs. Values that are not scores will hardly look like scores for each of them.
const BLANKS: [f32; 4] = [0.0, 1.0, -1.0, 4.0];

/// What values of a network were seen.
struct Seen {
    /// Whether all may be scores.
    scores: bool,
    /// Whether those of each picture add up to 1.
    shares: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { scores: true, shares: true }
    }
}

impl Seen {
    fn look_at(&mut self, values: &[f32]) {
        self.scores &= are_scores(values);
        self.shares &= are_shares(values);
    }

    /// What is still to be done to such values.
    ///
    /// # Errors
    /// They look like scores, and the graph has nothing that makes scores of their own.
    fn activation(&self, model: &Model) -> Result<Activation, String> {
        let makes_scores = ["Sigmoid", "HardSigmoid", "Clip"].iter().any(|op| model.operators().contains_key(*op));
        match self {
            Self { shares: true, .. } => Ok(Activation::None),
            Self { scores: false, .. } => Ok(Activation::Softmax),
            _ if makes_scores => Ok(Activation::None),
            _ => Err("what it gives for blank pictures lies from 0 to 1 and does not add up to 1: say with the key activation \
                      whether these are scores of their own (\"none\") or are still to be made scores (\"softmax\", \
                      \"sigmoid\")"
                .into()),
        }
    }
}

/// Makes findings of the network's output.
struct Reader {
    output: VectorOutput,
    labels: Option<Vec<Name>>,
    names: Vec<[Name; 2]>,
    threshold: f32,
    /// `None`: by what a blank picture gives.
    activation: Option<Activation>,
    scores: Vec<f32>,
}

impl Reader {
    /// Leaves in `scores` those of the entry's classes.
    fn score(&mut self, outputs: &[Tensor], entry: usize) -> Result<(), Misfit> {
        let values = self.output.of(outputs, entry)?;
        self.scores.clear();
        self.scores.extend_from_slice(values);
        match self.activation {
            Some(Activation::Sigmoid) => self.scores.iter_mut().for_each(|value| *value = sigmoid(*value)),
            Some(Activation::None) => {}
            // Without a start nothing was seen of it, and most networks end before the softmax.
            Some(Activation::Softmax) | None => softmax(&mut self.scores),
        }
        if self.scores.iter().any(|score| score.is_nan()) {
            return Err(Misfit::picture("its answer is no number".into()));
        }
        Ok(())
    }
}

impl network::Reader for Reader {
    type Answer = Vec<Tensor>;

    fn ask(&mut self, session: &Session, pictures: &Pictures<'_>) -> Result<Vec<Tensor>, StageError> {
        session.run_pictures(pictures).map_err(infer_error)
    }

    fn read(
        &mut self,
        outputs: &Vec<Tensor>,
        slot: usize,
        _: &Placement,
        entry: &BatchEntry,
    ) -> Result<StageOutput, Misfit> {
        self.score(outputs, slot)?;
        let mut found = StageOutput::default();
        let region = entry.region().map(|region| region.object);
        for (class, [name, score_name]) in best(&self.scores, self.names.len()).into_iter().zip(&self.names) {
            let score = self.scores[class];
            if score < self.threshold {
                break;
            }
            let label = self.labels.as_ref().and_then(|labels| labels.get(class));
            let label = label.map_or(Value::Int(class as i64), |label| Value::Text(label.to_string()));
            // As a number people read; more digits would say nothing.
            let score = Value::Float((f64::from(score) * 1e4).round() / 1e4);
            match region {
                Some(object) => {
                    let attribute = |name: &Name, value| Attribute { object, name: name.clone(), value };
                    found.attributes.extend([attribute(name, label), attribute(score_name, score)]);
                }
                None => {
                    if found.signals.is_empty() {
                        found.signals.push(Signal::new(name.clone(), label.clone()));
                    }
                    let feature = |name: &Name, value| SceneFeature { name: name.clone(), value };
                    found.scene.extend([feature(name, label), feature(score_name, score)]);
                }
            }
        }
        Ok(found)
    }
}

/// The classes of the `n` best scores, the best first; of equals the first.
fn best(scores: &[f32], n: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if n < classes.len() {
        // Of a thousand classes few are asked for.
        classes.select_nth_unstable_by(n, order);
        classes.truncate(n);
    }
    classes.sort_unstable_by(order);
    classes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn findings_have_names_by_place() {
        let texts = |top| names("colour", top).concat().iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(texts(1), ["colour", "colour_score"]);
        assert_eq!(texts(2), ["colour", "colour_score", "colour_2", "colour_2_score"]);
    }

    #[test]
    fn the_first_of_equals_comes_first() {
        assert_eq!(best(&[0.2, 0.5, 0.5, 0.1], 3), [1, 2, 0]);
        assert_eq!(best(&[0.2, 0.5], 9), [1, 0]);
        assert!(best(&[], 1).is_empty());
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_all_in_order(scores in prop::collection::vec(0f32..1.0, 0..50), n in 1usize..60) {
            let mut all: Vec<usize> = (0..scores.len()).collect();
            all.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            all.truncate(n);
            prop_assert_eq!(best(&scores, n), all);
        }
    }
}
