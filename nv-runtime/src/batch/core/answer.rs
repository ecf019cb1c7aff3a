//! What a batch point answers to those who ask it.

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

use crate::batch::breaker::BreakerChange;
use crate::batch::standing::StandingChange;
use crate::batch::{EntryKey, LaneKey};
use crate::decisions::nanos;

/// What an instance that has nothing to do should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstanceStep {
    /// Compute the batch that it was given.
    Compute {
        /// How long the batch was in the making: since both the instance was free and the first of its parts waited.
        #[serde(with = "nanos")]
        formation: Duration,
    },
    /// Ask again: something ended, without being computed.
    Again,
    /// Ask again at this time, or when something was submitted.
    WaitUntil(#[serde(with = "nanos")] MonoTime),
    /// Ask again when something was submitted.
    Wait,
    /// The point is done.
    Done,
}

/// What is known of a part when its batch is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It was computed.
    Computed,
    /// It failed by itself.
    Guilty,
    /// It failed along with its batch.
    Unlucky,
}

/// A part, and its payload.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Part<T> {
    pub(crate) key: EntryKey,
    pub(crate) part: u32,
    #[serde(skip)]
    pub(crate) payload: T,
}

/// What waited at a point when it had to be given up, for the caller to fail.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct GivenUp<T> {
    pub(crate) parts: Vec<Part<T>>,
    /// Lanes that lost claims, and how many.
    pub(crate) claims: Vec<(LaneKey, usize)>,
}

/// What a change of the breaker has led to.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct BreakerEvent<T> {
    /// What is to be told.
    pub(crate) change: BreakerChange,
    /// What is to be failed, since nobody can compute it.
    pub(crate) given_up: Option<GivenUp<T>>,
}

/// What came of a batch that was computed.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Closed<T> {
    /// Lanes that were quarantined or released by it.
    pub(crate) standings: Vec<(LaneKey, StandingChange)>,
    /// Whether the instance had been reported as wedged.
    pub(crate) was_wedged: bool,
    pub(crate) breaker: BreakerEvent<T>,
}
