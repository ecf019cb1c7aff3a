use std::sync::Arc;

use nv_core::Name;
use serde::Serialize;

use crate::{ObjectId, TrackId};

/// A small value with a type: of an attribute, a signal, a scene feature. Serialises as the bare value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.into())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}

/// Something that a stage derived about this moment: a count, a crossing, an alarm. May be about one object or track.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// What it says, as in `"line_crossed"`.
    pub name: Name,
    /// The value.
    pub value: Value,
    /// The object it is about.
    pub object: Option<ObjectId>,
    /// The track it is about.
    pub track: Option<TrackId>,
}

impl Signal {
    /// A signal about the whole picture.
    pub fn new(name: impl Into<Name>, value: impl Into<Value>) -> Self {
        Self { name: name.into(), value: value.into(), object: None, track: None }
    }
}

/// A property of the whole picture: brightness, blur, weather.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SceneFeature {
    /// What it describes, as in `"brightness"`.
    pub name: Name,
    /// The value.
    pub value: Value,
}

/// Data in a format of the plugins' own, which others may understand by the name of its schema. The runtime never looks
/// inside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Artifact {
    /// Names the meaning and version, as in `"acme.pose/2"`.
    pub schema: Name,
    /// How the bytes are to be read, as in `"json"`.
    pub encoding: Name,
    /// The payload; clones share it.
    #[serde(serialize_with = "byte_count")]
    pub bytes: Arc<[u8]>,
}

/// Artifacts pass between stages; an output tells of them by size, not by content.
fn byte_count<S: serde::Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.len() as u64)
}
