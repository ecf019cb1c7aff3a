//! From a config file or a command line to a [`Plan`]: read, expanded, checked, typed; nothing after it checks again.

mod duration;
mod expand;
mod explain;
mod naming;
mod origin;
mod output;
mod plan;
mod raw;
mod restart;
mod steps;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize as _;
use toml::de::DeTable;

pub(crate) use explain::suggestion;
pub(crate) use output::Place;
pub(crate) use plan::{BatchPlan, FeedPlan, KindRef, Overrides, Plan, StagePlan, StepPlan, StepRef};
pub(crate) use raw::OutputFormat;

use crate::exit::{Exit, Failure, Result};
use duration::RawDuration;
use origin::Origin;
use raw::{RawBatch, RawConfig, RawFeed, RawStage, Text};
use steps::RawStep;

/// What a run without a config file is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// Videos, pictures, folders, URLs.
    pub(crate) sources: Vec<String>,
}

/// How long the detector may take with files that were named on the command line: nobody waits for them as for a camera, and
/// a slow machine loses no frame.
const PATIENCE: Duration = Duration::from_secs(300);

impl Plan {
    /// The plan of a config file, with what the command line says over it.
    pub(crate) fn from_file(path: &Path, overrides: &Overrides) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            let message = match error.kind() {
                std::io::ErrorKind::NotFound => format!("config {path}: there is no such file"),
                std::io::ErrorKind::InvalidData => format!("config {path}: it is not UTF-8 text, so not TOML"),
                _ => format!("config {path}: it can't be read: {error}"),
            };
            Failure::usage(message)
        })?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        let variable = |name: &str| std::env::var(name).ok();
        Self::from_text(&path.display().to_string(), &text, base_dir, overrides, &variable)
    }

    pub(crate) fn from_text(
        name: &str,
        text: &str,
        base_dir: &Path,
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let origin = Origin::file(name, text);
        let raw = read(text, &origin, variable)?;
        Self::check(raw, &origin, base_dir, overrides)
    }

    /// The plan for files named on the command line: a detector that all share, a tracker for each.
    pub(crate) fn from_inputs(inputs: &Inputs, overrides: &Overrides) -> Result<Self> {
        let mut raw = RawConfig::default();
        let detector =
            RawBatch { response_timeout: Some(RawDuration(PATIENCE)), ..RawBatch::new(bare("models/detect")) };
        raw.batch.insert(bare("detector"), detector);
        let mut tracked = false;
        for source in &inputs.sources {
            let mut feed = RawFeed::new(bare(source));
            // A single picture has no time to follow anything through; MOT text has nothing but tracks.
            let tracks = overrides.format == Some(OutputFormat::Mot) || !naming::is_picture(source);
            tracked |= tracks;
            let steps: &[&str] = if tracks { &["detector", "track"] } else { &["detector"] };
            feed.steps = Some(steps.iter().map(|s| toml::Spanned::new(0..0, RawStep::new(s))).collect());
            raw.feed.push(toml::Spanned::new(0..0, feed));
        }
        if tracked {
            raw.stage.insert(bare("track"), RawStage { kind: bare("track/bytetrack"), config: serde_json::Map::new() });
        }
        Self::check(raw, &Origin::command_line(), Path::new(""), overrides)
    }
}

fn read(text: &str, origin: &Origin, variable: &dyn Fn(&str) -> Option<String>) -> Result<RawConfig> {
    let wrong = |error: &toml::de::Error| {
        Failure::usage(origin.say(&error.span().unwrap_or_default(), explain::explain(error, text)))
    };
    let mut document = DeTable::parse(text).map_err(|error| wrong(&error))?;
    expand::expand_document(document.get_mut(), variable)
        .map_err(|error| Failure::new(Exit::Usage, origin.say(&error.span, &error.message)))?;
    RawConfig::deserialize(toml::de::Deserializer::from(document)).map_err(|error| wrong(&error))
}

/// A text of no place.
fn bare(text: &str) -> Text {
    Text::new(0..0, text.to_owned())
}

#[cfg(test)]
mod tests;
