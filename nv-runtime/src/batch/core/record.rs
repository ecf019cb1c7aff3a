use serde::{Deserialize, Serialize};

use super::{EntryKey, LaneKey, LaneRole, PointCore, PointLimits, Verdict};
use crate::batch::former::BoundPart;
use crate::decisions::{At, CoreLog, Recorded, within};

/// A call of a [`PointCore`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Attach {
        role: LaneRole,
        weight: u32,
    },
    Detach {
        lane: LaneKey,
    },
    Submit {
        now: At,
        lane: LaneKey,
        received: At,
        batch_key: u64,
        next_due: Option<At>,
        parts: usize,
    },
    Claim {
        now: At,
        lane: LaneKey,
        count: usize,
        next_due: Option<At>,
    },
    SourceEnded {
        lane: LaneKey,
    },
    Abandon {
        key: EntryKey,
    },
    FindWedged {
        now: At,
    },
    LimitBatch {
        max_batch: Option<usize>,
        preferred_batch: Option<usize>,
    },
    Drain,
    Stop,
    InstanceStarted,
    InstanceLost {
        instance: usize,
    },
    InstanceRebuilt,
    RebuildFailed {
        now: At,
    },
    NextBatch {
        now: At,
        instance: usize,
        /// What each claim was bound to, in order: when that was received, and its batch key.
        bound: Vec<Option<(At, u64)>>,
    },
    Decide {
        now: At,
    },
    CallsAgain {
        now: At,
        instance: usize,
    },
    CloseBatch {
        now: At,
        instance: usize,
        parts: Vec<(EntryKey, Verdict)>,
    },
}

impl Recorded for PointCore<()> {
    const KIND: &'static str = "batch";
    type Config = PointLimits;
    type Input = Input;

    fn with_log(limits: PointLimits, log: CoreLog) -> Self {
        let mut core = Self::new(limits);
        core.set_log(log);
        core
    }

    fn check(limits: &PointLimits) -> Result<(), String> {
        let PointLimits { max_batch, instances, live_slots, .. } = *limits;
        within("max_batch", max_batch)?;
        within("instances", instances)?;
        within("live_slots", live_slots)
    }

    fn fits(&self, input: &Input) -> Result<(), String> {
        match input {
            Input::NextBatch { instance, .. }
            | Input::CloseBatch { instance, .. }
            | Input::CallsAgain { instance, .. }
            | Input::InstanceLost { instance }
                if *instance >= self.calls.len() =>
            {
                Err(format!("there is no instance {instance}"))
            }
            Input::InstanceLost { .. } if self.able == 0 => Err("there is no instance that could be lost".into()),
            Input::Submit { parts, .. } => within("parts", *parts),
            Input::Claim { count, .. } => within("count", *count),
            _ => Ok(()),
        }
    }

    fn call(&mut self, input: Input) {
        match input {
            Input::Attach { role, weight } => drop(self.attach(role, weight)),
            Input::Detach { lane } => drop(self.detach(lane, |()| ())),
            Input::Submit { now: At(now), lane, received: At(received), batch_key, next_due, parts } => {
                let mut parts = std::iter::repeat_n((), parts);
                let _ = self.submit(now, lane, (received, batch_key), next_due.map(|At(at)| at), &mut parts);
            }
            Input::Claim { now: At(now), lane, count, next_due } => {
                let _ = self.claim(now, lane, count, next_due.map(|At(at)| at));
            }
            Input::SourceEnded { lane } => self.source_ended(lane),
            Input::Abandon { key } => drop(self.abandon(key, |()| ())),
            Input::FindWedged { now: At(now) } => drop(self.find_wedged(now)),
            Input::LimitBatch { max_batch, preferred_batch } => self.limit_batch(max_batch, preferred_batch),
            Input::Drain => self.drain(),
            Input::Stop => drop(self.stop()),
            Input::InstanceStarted => self.instance_started(),
            Input::InstanceLost { instance } => self.instance_lost(instance),
            Input::InstanceRebuilt => self.instance_rebuilt(),
            Input::RebuildFailed { now: At(now) } => drop(self.rebuild_failed(now)),
            Input::NextBatch { now: At(now), instance, bound } => {
                let mut bound = bound.into_iter();
                // More claims than then find nothing, and that shows.
                let bind = |_, _| {
                    let (At(received), batch_key) = bound.next().flatten()?;
                    Some(BoundPart { payload: (), received, batch_key })
                };
                self.next_batch(now, instance, &mut Vec::new(), &mut Vec::new(), bind);
            }
            Input::Decide { now: At(now) } => drop(self.decide(now)),
            Input::CallsAgain { now: At(now), instance } => self.calls_again(now, instance),
            Input::CloseBatch { now: At(now), instance, parts } => {
                drop(self.close_batch(now, instance, parts.into_iter(), |_| ()));
            }
        }
    }
}
