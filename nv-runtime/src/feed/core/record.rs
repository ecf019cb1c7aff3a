use serde::{Deserialize, Serialize};

use super::{CoreConfig, CoreStep, FeedCore};
use crate::batch::{EntryKey, EntryState, Refusal};
use crate::decisions::{At, CoreLog, Recorded};

/// What a [`FeedCore`] is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedPlan {
    pub(crate) config: CoreConfig,
    pub(crate) steps: Vec<CoreStep>,
}

/// A call of a [`FeedCore`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Look { queued: usize, claims: usize, ended: bool },
    SetSlots { step: usize, slots: usize },
    StopAt { deadline: At },
    RestartAt { at: At },
    Rebuilt,
    Next { now: At, may_emit: bool },
    AwaitsFrames,
    Enter { seq: u64 },
    NothingQueued,
    Claimed { now: At, made: usize, refusal: Option<Refusal> },
    Bound { seq: u64, at: At, key: EntryKey },
    ClaimVoided { seq: u64 },
    Gated { seq: u64, run: bool },
    Submitted { now: At, seq: u64, key: EntryKey, parts: u32 },
    NoRoom { step: usize },
    Find { step: usize, key: EntryKey },
    Answered { seq: u64 },
    AnsweredBadly { seq: u64 },
    Checked { now: At, seq: u64, entry: EntryState },
    Passed { seq: u64 },
    Failed { seq: u64 },
    Emitted { seq: u64 },
    Evict,
}

impl Recorded for FeedCore<()> {
    const KIND: &'static str = "feed";
    type Config = FeedPlan;
    type Input = Input;

    fn with_log(plan: FeedPlan, log: CoreLog) -> Self {
        let mut core = Self::new(plan.config, plan.steps);
        core.set_log(log);
        core
    }

    fn fits(&self, input: &Input) -> Result<(), String> {
        match input {
            Input::Submitted { parts: 0, .. } => Err("nothing was submitted".into()),
            Input::Enter { seq } | Input::Bound { seq, .. } | Input::ClaimVoided { seq }
                if self.flow.iter().last().is_some_and(|(last, _)| last >= *seq) =>
            {
                Err(format!("frame {seq} came out of order"))
            }
            _ => Ok(()),
        }
    }

    fn call(&mut self, input: Input) {
        match input {
            Input::Look { queued, claims, ended } => self.look(queued, claims, ended),
            Input::SetSlots { step, slots } => self.set_slots(step, slots),
            Input::StopAt { deadline: At(deadline) } => self.stop_at(deadline),
            Input::RestartAt { at: At(at) } => self.restart_at(at),
            Input::Rebuilt => self.rebuilt(),
            Input::Next { now: At(now), may_emit } => drop(self.next(now, may_emit)),
            Input::AwaitsFrames => drop(self.awaits_frames()),
            Input::Enter { seq } => self.enter(seq, ()),
            Input::NothingQueued => self.nothing_queued(),
            Input::Claimed { now: At(now), made, refusal } => self.claimed(now, made, refusal),
            Input::Bound { seq, at: At(at), key } => self.bound(seq, at, key, ()),
            Input::ClaimVoided { seq } => self.claim_voided(seq, ()),
            Input::Gated { seq, run } => self.gated(seq, run),
            Input::Submitted { now: At(now), seq, key, parts } => self.submitted(now, seq, key, parts),
            Input::NoRoom { step } => self.no_room(step),
            Input::Find { step, key } => drop(self.find(step, key)),
            Input::Answered { seq } => drop(self.answered(seq)),
            Input::AnsweredBadly { seq } => drop(self.answered_badly(seq)),
            Input::Checked { now: At(now), seq, entry } => drop(self.checked(now, seq, entry)),
            Input::Passed { seq } => self.passed(seq),
            Input::Failed { seq } => drop(self.failed(seq)),
            Input::Emitted { seq } => drop(self.emitted(seq)),
            Input::Evict => drop(self.evict()),
        }
    }
}
