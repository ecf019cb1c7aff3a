//! Whether a step runs on a frame: its options, and the pure state machine that decides.

use nv_core::{Name, Pts};
use nv_perception::{Perception, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::RegionOptions;
use super::rate::Rate;
use crate::decisions::{CoreLog, Recorded, within};

/// On which frames a batch point of a pipeline runs, and on what of them. The default: on all of every frame.
///
/// A frame on which it does not run goes on without its results, as if the step were not there.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOptions {
    /// Runs on every so many frames of those that reach the step, beginning with the first. Default 1: each.
    pub every: u32,
    /// Runs at most so many times a second of stream time, spread evenly. Default: no limit. Over any second it is one
    /// more at most.
    pub max_rate: Option<f64>,
    /// Does not run while any of these holds. Default: none.
    pub skip_while: Vec<SkipCondition>,
    /// Looks at the objects of an earlier step instead of the whole frame. Default: the whole frame.
    pub regions: Option<RegionOptions>,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { every: 1, max_rate: None, skip_while: Vec::new(), regions: None }
    }
}

/// What keeps a step from running, as the steps before it tell.
///
/// Only signals about the whole picture count, not those about an object or a track. What a signal said last holds until it
/// is given again or the stream is cut; before it was given, no condition on it holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SkipCondition {
    /// The signal has this value. Whole numbers and others are compared as numbers.
    SignalIs {
        /// The signal.
        signal: Name,
        /// The value.
        value: Value,
    },
    /// The signal is a number below `limit`.
    SignalBelow {
        /// The signal.
        signal: Name,
        /// The limit.
        limit: f64,
    },
    /// The signal is a number above `limit`.
    SignalAbove {
        /// The signal.
        signal: Name,
        /// The limit.
        limit: f64,
    },
    /// The frame has an artifact of this schema.
    Artifact {
        /// The schema.
        schema: Name,
    },
}

/// [`StepOptions`] that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} is {value}: {reason}")]
pub struct StepOptionsError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl StepOptions {
    /// Options for a step that looks at `regions` of every frame.
    #[must_use]
    pub fn on_regions(regions: RegionOptions) -> Self {
        Self { regions: Some(regions), ..Self::default() }
    }

    /// Whether there are frames on which it might not run.
    pub(crate) fn has_conditions(&self) -> bool {
        self.every != 1 || self.max_rate.is_some() || !self.skip_while.is_empty()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), StepOptionsError> {
        if self.every == 0 {
            let reason = "it must be at least 1, which is every frame";
            return Err(StepOptionsError { field: "every", value: "0".into(), reason });
        }
        if let Some(rate) = self.max_rate
            && !(rate > 0.0 && rate.is_finite())
        {
            let reason = "it must be a number of runs a second above 0";
            return Err(StepOptionsError { field: "max_rate", value: rate.to_string(), reason });
        }
        for condition in &self.skip_while {
            condition.validate()?;
        }
        self.regions.as_ref().map_or(Ok(()), RegionOptions::validate)
    }
}

impl SkipCondition {
    fn validate(&self) -> Result<(), StepOptionsError> {
        let (name, limit) = match self {
            Self::SignalIs { signal, value } => (signal, if let Value::Float(f) = value { *f } else { 0.0 }),
            Self::SignalBelow { signal, limit } | Self::SignalAbove { signal, limit } => (signal, *limit),
            Self::Artifact { schema } => (schema, 0.0),
        };
        let error = |value, reason| Err(StepOptionsError { field: "skip_while", value, reason });
        if name.is_empty() {
            return error(format!("{:?}", name.as_str()), "it must name a signal or the schema of an artifact");
        }
        if limit.is_nan() {
            return error(format!("{:?} against NaN", name.as_str()), "nothing compares with what is not a number");
        }
        Ok(())
    }

    /// The signal that it is about.
    fn signal(&self) -> Option<&Name> {
        match self {
            Self::SignalIs { signal, .. } | Self::SignalBelow { signal, .. } | Self::SignalAbove { signal, .. } => {
                Some(signal)
            }
            Self::Artifact { .. } => None,
        }
    }

    /// Whether it holds for this value of its signal.
    fn accepts(&self, said: &Value) -> bool {
        match self {
            Self::SignalIs { value, .. } => match (number(value), number(said)) {
                (Some(a), Some(b)) => a == b,
                _ => value == said,
            },
            Self::SignalBelow { limit, .. } => number(said).is_some_and(|n| n < *limit),
            Self::SignalAbove { limit, .. } => number(said).is_some_and(|n| n > *limit),
            Self::Artifact { .. } => false,
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

/// Where a frame is in its feed's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamPosition {
    pub(crate) seq: u64,
    #[serde(serialize_with = "pts_to_nanos", deserialize_with = "pts_from_nanos")]
    pub(crate) pts: Pts,
    /// The feed's session with its source.
    pub(crate) session: u32,
    /// Cuts of the stream so far.
    pub(crate) cuts: u32,
}

impl StreamPosition {
    /// The stretch of the stream between two cuts that the frame belongs to: what was learnt in another may not hold in it.
    pub(crate) fn stretch(&self) -> (u32, u32) {
        (self.session, self.cuts)
    }
}

fn pts_to_nanos<S: Serializer>(pts: &Pts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(pts.as_nanos())
}

fn pts_from_nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pts, D::Error> {
    i64::deserialize(deserializer).map(Pts::from_nanos)
}

/// Whether a step runs on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Gate {
    /// It runs.
    Run,
    /// The frame goes on without it.
    Skip,
}

/// Decides for each frame that reaches a step whether the step runs on it.
#[derive(Debug)]
pub(crate) struct StepGate {
    conditions: Vec<SkipCondition>,
    every: u32,
    /// Frames until the next one whose turn it is.
    until_turn: u32,
    /// Of each condition whether it holds, as of what was said last.
    holds: Vec<bool>,
    rate: Option<Rate>,
    stretch: Option<(u32, u32)>,
    log: CoreLog,
}

/// What a [`StepGate`] decides by.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct GateConfig {
    every: u32,
    /// How many conditions there are.
    conditions: usize,
    /// Nanoseconds of stream time between runs, at the least.
    period: Option<i64>,
}

/// A call of a [`StepGate`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GateInput {
    /// With what is said of each condition.
    Decide { at: StreamPosition, said: Vec<Option<bool>> },
}

impl From<&StepOptions> for GateConfig {
    fn from(options: &StepOptions) -> Self {
        let conditions = options.skip_while.len();
        Self { every: options.every.max(1), conditions, period: options.max_rate.map(Rate::period_of) }
    }
}

impl StepGate {
    /// The gate of a step with these options, which notes its calls in `log`.
    pub(crate) fn new(options: &StepOptions, log: CoreLog) -> Self {
        Self { conditions: options.skip_while.clone(), ..Self::with_log(GateConfig::from(options), log) }
    }

    /// Decides about the next frame that reaches the step; `perception` is what earlier steps have found in it. To be asked
    /// once for each frame, in order.
    pub(crate) fn decide(&mut self, at: StreamPosition, perception: &Perception) -> Gate {
        let conditions = std::mem::take(&mut self.conditions);
        let mut said = self.log.list();
        let gate = self.pass(at, |index| {
            let holds = conditions.get(index).and_then(|condition| condition.holds_in(perception));
            said.push(|| holds);
            holds
        });
        self.conditions = conditions;
        self.log.note(|| (GateInput::Decide { at, said: said.take() }, gate));
        gate
    }

    /// Decides, with what is `said` of each condition: whether it holds, or nothing, so that what was said before counts.
    fn pass(&mut self, at: StreamPosition, mut said: impl FnMut(usize) -> Option<bool>) -> Gate {
        if self.stretch.replace(at.stretch()).is_some_and(|before| before != at.stretch()) {
            self.start_over();
        }
        for (index, holds) in self.holds.iter_mut().enumerate() {
            *holds = said(index).unwrap_or(*holds);
        }
        let turn = self.until_turn == 0;
        self.until_turn = if turn { self.every - 1 } else { self.until_turn - 1 };
        if !turn || self.holds.contains(&true) {
            return Gate::Skip;
        }
        let in_time = self.rate.as_mut().is_none_or(|rate| rate.take(at.pts.as_nanos()));
        if in_time { Gate::Run } else { Gate::Skip }
    }

    fn start_over(&mut self) {
        self.until_turn = 0;
        self.holds.fill(false);
        if let Some(rate) = &mut self.rate {
            rate.start_over();
        }
    }
}

impl SkipCondition {
    /// Whether it holds by what was found in a frame; `None` where nothing was said of it. Of several signals of one name the
    /// last counts.
    fn holds_in(&self, perception: &Perception) -> Option<bool> {
        let Some(name) = self.signal() else {
            return Some(matches!(self, Self::Artifact { schema } if perception.artifact(schema).is_some()));
        };
        let of_picture = perception.signals().iter().rev().filter(|s| s.object.is_none() && s.track.is_none());
        of_picture.into_iter().find(|s| s.name == *name).map(|signal| self.accepts(&signal.value))
    }
}

impl Recorded for StepGate {
    const KIND: &'static str = "gate";
    type Config = GateConfig;
    type Input = GateInput;

    fn with_log(config: GateConfig, log: CoreLog) -> Self {
        Self {
            conditions: Vec::new(),
            every: config.every.max(1),
            until_turn: 0,
            holds: vec![false; config.conditions],
            rate: config.period.map(Rate::new),
            stretch: None,
            log,
        }
    }

    fn check(config: &GateConfig) -> Result<(), String> {
        within("conditions", config.conditions)
    }

    fn call(&mut self, input: GateInput) {
        let GateInput::Decide { at, said } = input;
        let gate = self.pass(at, |index| said.get(index).copied().flatten());
        self.log.note(|| (GateInput::Decide { at, said }, gate));
    }
}

#[cfg(test)]
mod tests;
