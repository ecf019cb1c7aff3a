use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::duration::RawDuration;
use super::restart::RawRestart;
use super::steps::RawStep;

/// A text and its place in the file.
pub(crate) type Text = Spanned<String>;

/// A config file as it is written: texts, units as text, nothing checked but names and types of the keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) defaults: RawDefaults,
    pub(crate) batch: BTreeMap<Text, RawBatch>,
    pub(crate) stage: BTreeMap<Text, RawStage>,
    pub(crate) feed: Vec<Spanned<RawFeed>>,
    pub(crate) plugin: BTreeMap<Text, RawPlugin>,
    pub(crate) output: Vec<Spanned<RawOutput>>,
}

/// What every feed has, unless it says otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDefaults {
    pub(crate) steps: Option<Vec<Spanned<RawStep>>>,
    pub(crate) live: Option<bool>,
    pub(crate) report_threshold: Option<Spanned<f32>>,
    pub(crate) on_step_error: Option<RawStepError>,
    pub(crate) queue_capacity: Option<Spanned<usize>>,
    pub(crate) queue_policy: Option<RawQueuePolicy>,
    pub(crate) freshness: Option<RawDuration>,
    pub(crate) max_rate: Option<Spanned<f64>>,
    pub(crate) drop_suspect: Option<bool>,
    pub(crate) max_in_pipeline: Option<Spanned<usize>>,
    pub(crate) provenance: Option<bool>,
    pub(crate) limit: Option<Spanned<u64>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) stage_timeout: Option<Spanned<RawDuration>>,
    pub(crate) restart: Option<Spanned<RawRestart>>,
}

/// One feed; what it leaves out comes from the defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFeed {
    pub(crate) name: Option<Text>,
    pub(crate) source: Text,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, RawOption>,
    pub(crate) steps: Option<Vec<Spanned<RawStep>>>,
    pub(crate) live: Option<bool>,
    pub(crate) report_threshold: Option<Spanned<f32>>,
    pub(crate) on_step_error: Option<RawStepError>,
    pub(crate) queue_capacity: Option<Spanned<usize>>,
    pub(crate) queue_policy: Option<RawQueuePolicy>,
    pub(crate) freshness: Option<RawDuration>,
    pub(crate) max_rate: Option<Spanned<f64>>,
    pub(crate) drop_suspect: Option<bool>,
    pub(crate) max_in_pipeline: Option<Spanned<usize>>,
    pub(crate) provenance: Option<bool>,
    pub(crate) limit: Option<Spanned<u64>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) stage_timeout: Option<Spanned<RawDuration>>,
    pub(crate) restart: Option<Spanned<RawRestart>>,
}

impl RawFeed {
    /// A feed of this source, with everything else left out.
    pub(crate) fn new(source: Text) -> Self {
        Self {
            name: None,
            source,
            options: BTreeMap::new(),
            steps: None,
            live: None,
            report_threshold: None,
            on_step_error: None,
            queue_capacity: None,
            queue_policy: None,
            freshness: None,
            max_rate: None,
            drop_suspect: None,
            max_in_pipeline: None,
            provenance: None,
            limit: None,
            weight: None,
            stage_timeout: None,
            restart: None,
        }
    }
}

/// A batch point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBatch {
    #[serde(rename = "use")]
    pub(crate) kind: Text,
    pub(crate) max_batch_size: Option<usize>,
    pub(crate) instances: Option<usize>,
    pub(crate) max_latency: Option<RawDuration>,
    pub(crate) response_timeout: Option<RawDuration>,
    pub(crate) max_age: Option<RawDuration>,
    pub(crate) startup_timeout: Option<RawDuration>,
    pub(crate) max_in_flight_per_feed: Option<usize>,
    pub(crate) max_regions_per_frame: Option<usize>,
    pub(crate) max_pending: Option<usize>,
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
}

impl RawBatch {
    /// A batch point of this kind, with everything else left out.
    pub(crate) fn new(kind: Text) -> Self {
        Self {
            kind,
            max_batch_size: None,
            instances: None,
            max_latency: None,
            response_timeout: None,
            max_age: None,
            startup_timeout: None,
            max_in_flight_per_feed: None,
            max_regions_per_frame: None,
            max_pending: None,
            config: Map::new(),
        }
    }
}

/// A stage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStage {
    #[serde(rename = "use")]
    pub(crate) kind: Text,
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
}

/// A plugin that is not shipped, or that is to be taken from another place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPlugin {
    pub(crate) path: Text,
    pub(crate) isolation: Option<Spanned<RawIsolation>>,
}

/// Where outputs go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOutput {
    #[serde(default)]
    pub(crate) format: OutputFormat,
    pub(crate) path: Text,
    pub(crate) feeds: Option<Vec<Text>>,
}

/// What an output holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputFormat {
    /// A line of `nv.output/1` for each frame.
    #[default]
    Jsonl,
    /// A line of MOT text for each confirmed track of each frame.
    Mot,
    /// A picture of each frame, with what was found drawn in.
    Annotated,
}

impl OutputFormat {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Mot => "mot",
            Self::Annotated => "annotated",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawIsolation {
    InProcess,
    Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawStepError {
    Drop,
    Pass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawQueuePolicy {
    DropOldest,
    DropNewest,
    Block,
}

/// The value of a source's option, which the source gets as text.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, a number, true or false")]
pub(crate) enum RawOption {
    Text(String),
    Whole(i64),
    Number(f64),
    Flag(bool),
}

impl RawOption {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}
