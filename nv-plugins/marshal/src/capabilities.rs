use nv_core::Name;
use nv_perception::{BatchCapabilities, BatchKey, Capabilities, DataKind};
use nv_plugin_abi::abi_stable::std_types::{RString, RVec};
use nv_plugin_abi::{self as abi, BatchKeyTag, DataKindTag};

use crate::MarshalError;

/// A step's capabilities as they cross.
pub fn capabilities_to_abi(capabilities: &Capabilities) -> abi::Capabilities {
    let kinds = |kinds: &[DataKind]| kinds.iter().map(data_kind_to_abi).collect();
    abi::Capabilities {
        consumes: kinds(&capabilities.consumes),
        produces: kinds(&capabilities.produces),
        host_pixels: capabilities.host_pixels,
        ext: RVec::new(),
    }
}

/// A step's capabilities that have crossed.
///
/// # Errors
/// [`MarshalError::Unknown`] for a kind of result of a later version.
pub fn capabilities_from_abi(capabilities: &abi::Capabilities) -> Result<Capabilities, MarshalError> {
    let kinds = |kinds: &[abi::DataKind]| kinds.iter().map(data_kind_from_abi).collect::<Result<Vec<_>, _>>();
    Ok(Capabilities {
        consumes: kinds(&capabilities.consumes)?,
        produces: kinds(&capabilities.produces)?,
        host_pixels: capabilities.host_pixels,
    })
}

/// A batch processor's capabilities as they cross.
pub fn batch_capabilities_to_abi(capabilities: &BatchCapabilities) -> abi::BatchCapabilities {
    abi::BatchCapabilities {
        step: capabilities_to_abi(&capabilities.step),
        // A processor that takes no entries at all would be of no use: 0 stands for "any number".
        max_batch: capabilities.max_batch.map_or(0, |n| n as u64),
        preferred_batch: capabilities.preferred_batch.map_or(0, |n| n as u64),
        idempotent: capabilities.idempotent,
        batch_key: batch_key_to_abi(capabilities.batch_key),
        ext: RVec::new(),
    }
}

/// A batch processor's capabilities that have crossed.
///
/// # Errors
/// [`MarshalError::Unknown`] for a kind of result or a batch key of a later version.
pub fn batch_capabilities_from_abi(capabilities: &abi::BatchCapabilities) -> Result<BatchCapabilities, MarshalError> {
    let size = |n: u64| (n != 0).then(|| usize::try_from(n).unwrap_or(usize::MAX));
    Ok(BatchCapabilities {
        step: capabilities_from_abi(&capabilities.step)?,
        max_batch: size(capabilities.max_batch),
        preferred_batch: size(capabilities.preferred_batch),
        idempotent: capabilities.idempotent,
        batch_key: batch_key_from_abi(capabilities.batch_key)?,
    })
}

fn batch_key_to_abi(key: BatchKey) -> BatchKeyTag {
    match key {
        BatchKey::Any => BatchKeyTag::ANY,
        BatchKey::Format => BatchKeyTag::FORMAT,
        BatchKey::Size => BatchKeyTag::SIZE,
        BatchKey::FormatAndSize => BatchKeyTag::FORMAT_AND_SIZE,
        // As for kinds of results.
        _ => BatchKeyTag(u32::MAX),
    }
}

fn batch_key_from_abi(tag: BatchKeyTag) -> Result<BatchKey, MarshalError> {
    match tag {
        BatchKeyTag::ANY => Ok(BatchKey::Any),
        BatchKeyTag::FORMAT => Ok(BatchKey::Format),
        BatchKeyTag::SIZE => Ok(BatchKey::Size),
        BatchKeyTag::FORMAT_AND_SIZE => Ok(BatchKey::FormatAndSize),
        BatchKeyTag(value) => Err(MarshalError::Unknown { what: "batch key", value }),
    }
}

fn data_kind_to_abi(kind: &DataKind) -> abi::DataKind {
    let (tag, name) = match kind {
        DataKind::Objects => (DataKindTag::OBJECTS, None),
        DataKind::Tracks => (DataKindTag::TRACKS, None),
        DataKind::Embeddings => (DataKindTag::EMBEDDINGS, None),
        DataKind::Signal(name) => (DataKindTag::SIGNAL, Some(name)),
        DataKind::Artifact(schema) => (DataKindTag::ARTIFACT, Some(schema)),
        // What this version of the boundary has no number for; the receiver says that it does not know it.
        _ => (DataKindTag(u32::MAX), None),
    };
    abi::DataKind { tag, name: name.map_or_else(RString::new, |name| name.as_str().into()) }
}

fn data_kind_from_abi(kind: &abi::DataKind) -> Result<DataKind, MarshalError> {
    let name = || Name::new(&kind.name);
    match kind.tag {
        DataKindTag::OBJECTS => Ok(DataKind::Objects),
        DataKindTag::TRACKS => Ok(DataKind::Tracks),
        DataKindTag::EMBEDDINGS => Ok(DataKind::Embeddings),
        DataKindTag::SIGNAL => Ok(DataKind::Signal(name())),
        DataKindTag::ARTIFACT => Ok(DataKind::Artifact(name())),
        DataKindTag(value) => Err(MarshalError::Unknown { what: "kind of result", value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_cross_unchanged() {
        let all = [BatchKey::Any, BatchKey::Format, BatchKey::Size, BatchKey::FormatAndSize];
        for (max_batch, batch_key) in [None, Some(1), Some(16), Some(2)].into_iter().zip(all) {
            let native = BatchCapabilities {
                step: Capabilities {
                    consumes: vec![DataKind::Objects, DataKind::Signal("crossed".into())],
                    produces: vec![DataKind::Tracks, DataKind::Embeddings, DataKind::Artifact("acme.pose/2".into())],
                    host_pixels: true,
                },
                max_batch,
                preferred_batch: max_batch.map(|n| n / 2).filter(|n| *n > 0),
                idempotent: true,
                batch_key,
            };
            assert_eq!(batch_capabilities_from_abi(&batch_capabilities_to_abi(&native)), Ok(native));
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_refused() {
        let mut sent = capabilities_to_abi(&Capabilities::default());
        sent.consumes.push(abi::DataKind { tag: DataKindTag(77), name: RString::new() });
        assert_eq!(capabilities_from_abi(&sent), Err(MarshalError::Unknown { what: "kind of result", value: 77 }));
    }

    #[test]
    fn a_batch_key_of_a_later_version_is_refused() {
        let mut sent = batch_capabilities_to_abi(&BatchCapabilities::default());
        sent.batch_key = BatchKeyTag(9);
        let refused = batch_capabilities_from_abi(&sent).unwrap_err().to_string();
        assert!(refused.starts_with("batch key number 9 is not known"), "{refused}");
    }
}
