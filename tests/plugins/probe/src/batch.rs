use std::fmt::Write as _;
use std::sync::Arc;

use nv_plugin_sdk::{
    Artifact, BatchCapabilities, BatchEntry, BatchKey, BatchProcessor, BuildContext, Capabilities, DataKind,
    FromConfig, StageError, serde,
};

use crate::echo::{describe, found};

/// Gives back for each entry what it was given, in an artifact `probe.entry/1`, and fails those that it is told to fail.
pub struct Census {
    config: CensusConfig,
    started: bool,
}

/// Config of [`Census`]. Entries are counted from 0 in each batch.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct CensusConfig {
    /// Entries that fail.
    pub fail: Vec<usize>,
    /// Entries that are left unfinished.
    pub leave: Vec<usize>,
    /// The whole batch fails, after its entries were finished.
    pub fail_batch: bool,
    /// Panics at this entry.
    pub panic_at: Option<usize>,
    /// The most entries.
    pub max_batch: Option<usize>,
}

impl FromConfig for Census {
    type Config = CensusConfig;
    const KIND: &'static str = "census";
    const SUMMARY: &'static str = "gives back the entries of a batch";

    fn from_config(config: CensusConfig, _: &BuildContext) -> Result<Self, StageError> {
        Ok(Self { config, started: false })
    }
}

impl BatchProcessor for Census {
    fn capabilities(&self) -> BatchCapabilities {
        BatchCapabilities {
            step: Capabilities {
                produces: vec![DataKind::Artifact("probe.entry/1".into())],
                ..Capabilities::default()
            },
            max_batch: self.config.max_batch,
            preferred_batch: Some(8),
            idempotent: true,
            batch_key: BatchKey::Format,
        }
    }

    fn start(&mut self) -> Result<(), StageError> {
        self.started = true;
        Ok(())
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        // Which entries share a frame, and which share what was found in it: by the first that has the same.
        let shares = |i: usize| {
            let same = |same: &dyn Fn(&BatchEntry) -> bool| batch.iter().position(same);
            let frame = same(&|e| Arc::ptr_eq(e.frame().memory(), batch[i].frame().memory()));
            let perception = same(&|e| Arc::ptr_eq(e.perception(), batch[i].perception()));
            (frame, perception)
        };
        let shares: Vec<_> = (0..batch.len()).map(shares).collect();
        for (i, entry) in batch.iter_mut().enumerate() {
            if self.config.panic_at == Some(i) {
                panic!("told to panic at entry {i}");
            }
            if self.config.leave.contains(&i) {
                continue;
            }
            if self.config.fail.contains(&i) {
                entry.finish(Err(StageError::input(format!("told to fail entry {i}")).with_source("no reason")));
                continue;
            }
            let mut text = format!("started {}, {:?} {}, ", self.started, entry.feed(), entry.session());
            let _ = writeln!(text, "{:?}, shares {:?}, next {:?}", entry.region(), shares[i], entry.next_object_id());
            describe(&mut text, entry.frame());
            let mut output = found(entry.perception());
            output.artifacts.push(Artifact {
                schema: "probe.entry/1".into(),
                encoding: "text".into(),
                bytes: Arc::from(text.into_bytes()),
            });
            entry.finish(Ok(output));
        }
        // The order of entries means nothing: whoever made the batch finds their results all the same.
        batch.reverse();
        if self.config.fail_batch {
            Err(StageError::fatal("told to fail the batch").with_detail("of course"))
        } else {
            Ok(())
        }
    }
}
