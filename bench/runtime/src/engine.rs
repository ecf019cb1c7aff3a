//! A runtime under test, whichever it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ancestor::Ancestor;
use crate::case::Case;
use crate::ours::Ours;
use crate::world::World;

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The published one that this project started from.
    Ancestor,
    /// This one.
    Ours,
}

/// A runtime with its feeds running.
pub(crate) trait Engine {
    /// What it says of itself: frames and entries by what became of them.
    fn counts(&self) -> BTreeMap<String, u64>;

    /// Ends everything.
    fn stop(self: Box<Self>) -> Result<(), String>;
}

/// Starts a runtime of that kind on the world's load.
pub(crate) fn start(kind: Kind, case: &Case, world: &Arc<World>) -> Result<Box<dyn Engine>, String> {
    Ok(match kind {
        Kind::Ancestor => Box::new(Ancestor::start(case, world)?),
        Kind::Ours => Box::new(Ours::start(case, world)?),
    })
}
