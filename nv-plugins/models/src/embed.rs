use std::sync::Arc;

use nv_infer::{Pictures, Session};
use nv_plugin_sdk::{
    Artifact, BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, DataKind, FromConfig, Name, StageError,
    StageOutput, Tensor, tracing,
};

use crate::config::EmbedConfig;
use crate::network::{self, Misfit, Network};
use crate::plan::{ANY_SIZE, BLANK, PictureModel, infer_error, usual_settings};
use crate::preprocess::Placement;
use crate::vector::VectorOutput;

/// The schema of the artifact that has a whole frame's vector: little-endian `f32`.
pub const EMBEDDING_SCHEMA: &str = "nv.embedding/1";

/// Gives a picture a vector that tells likeness, with a neural network from an ONNX file: the kind `embed`.
///
/// Takes frames and regions of any size and pixel format in host memory. Vectors have the length 1, so that the likeness of two
/// is their dot product, −1 to 1. A region's is its object's embedding; a whole frame's is an artifact, [`EMBEDDING_SCHEMA`].
///
/// Each entry's result is bit for bit what the entry gets alone.
pub struct Embed {
    network: Network,
    reader: Reader,
}

impl FromConfig for Embed {
    type Config = EmbedConfig;
    const KIND: &'static str = "embed";
    const SUMMARY: &'static str = "gives a picture or an object a vector that tells likeness, with a neural network";
    const CONFIG_SCHEMA: &'static str = EmbedConfig::SCHEMA;

    fn from_config(config: EmbedConfig, context: &BuildContext) -> Result<Self, StageError> {
        config.check()?;
        let mut model = PictureModel::read(&config, context, "a network that gives vectors")?;
        let output = VectorOutput::choose(&model, config.output.as_deref(), "embed")?;
        model.layers.push_published(usual_settings(&model.input));
        tracing::info!(model = %model.model.path().display(), numbers = output.len, "network that gives vectors chosen");
        let network = Network::new(model.network(&ANY_SIZE)?)?;
        Ok(Self { network, reader: Reader { output, vector: Vec::new() } })
    }
}

impl BatchProcessor for Embed {
    fn capabilities(&self) -> BatchCapabilities {
        self.network.capabilities(vec![DataKind::Embeddings, DataKind::Artifact(Name::new(EMBEDDING_SCHEMA))])
    }

    /// Runs the network once on a grey picture: a model whose outputs are not what its file says is refused here.
    fn start(&mut self) -> Result<(), StageError> {
        let Self { network, reader } = self;
        let trial = network.try_blank(BLANK, 0.0)?;
        let read = (0..trial.entries).try_for_each(|entry| reader.output.of(&trial.outputs, entry).map(|_| ()));
        read.map_err(|misfit| network.refused(misfit))
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        self.network.process(batch, &mut self.reader)
    }
}

/// Makes vectors of the network's output.
struct Reader {
    output: VectorOutput,
    vector: Vec<f32>,
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
        let Self { output, vector } = self;
        vector.clear();
        vector.extend_from_slice(output.of(outputs, slot)?);
        normalise(vector)?;
        let mut found = StageOutput::default();
        match entry.region() {
            Some(region) => found.tables.embeddings.push(region.object, vector),
            None => found.artifacts.push(artifact(vector)),
        }
        Ok(found)
    }
}

/// Brings a vector to the length 1.
///
/// # Errors
/// It has no direction: its length is 0 or no number.
fn normalise(vector: &mut [f32]) -> Result<(), Misfit> {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if !(length.is_finite() && length > 0.0) {
        return Err(Misfit::picture(format!("its vector has the length {length}, and so no direction")));
    }
    for value in vector.iter_mut() {
        *value = (f64::from(*value) / length) as f32;
    }
    Ok(())
}

fn artifact(vector: &[f32]) -> Artifact {
    let bytes: Arc<[u8]> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
    Artifact { schema: Name::new(EMBEDDING_SCHEMA), encoding: Name::new("f32le"), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_the_length_1() {
        let check = |vector: &[f32], expected: Option<&[f32]>| {
            let mut found = vector.to_vec();
            let result = normalise(&mut found);
            assert_eq!(result.is_ok().then_some(&found[..]), expected, "{vector:?}");
        };
        check(&[3.0, -4.0], Some(&[0.6, -0.8]));
        check(&[0.0, 1e-30], Some(&[0.0, 1.0]));
        check(&[3e38, 3e38, 3e38, 3e38], Some(&[0.5; 4]));
        check(&[0.0, 0.0], None);
        check(&[f32::NAN, 1.0], None);
        check(&[f32::INFINITY], None);
    }
}
