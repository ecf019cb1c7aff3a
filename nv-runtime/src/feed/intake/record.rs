use nv_core::{DropReason, Name};
use serde::{Deserialize, Serialize};

use super::super::queue::Queued;
use super::core::{Given, Glance, IntakeConfig, IntakeCore};
use crate::batch::EntryKey;
use crate::decisions::{At, CoreLog, Recorded, within};

/// A call of an [`IntakeCore`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Push { now: At, given: Given },
    Retry { now: At, queued: Queued<()> },
    LostUpstream { count: u64 },
    Disconnected,
    End,
    Glance,
    Pop,
    AddClaims { count: usize },
    ReturnClaims { count: usize },
    Emit { seq: u64 },
    Drop { now: At, seq: u64, reason: DropReason, step: Option<Name> },
    Close { now: At, reason: DropReason },
    Abandon { now: At, reason: DropReason },
    TakeBack { now: At, hung: Option<(u64, Name)>, reason: DropReason },
    Restarting { now: At, restarting: bool },
    Bind { now: At, key: EntryKey },
    VoidClaims { now: At, count: usize, reason: DropReason },
    Paused { paused: bool },
}

impl Recorded for IntakeCore<()> {
    const KIND: &'static str = "intake";
    type Config = IntakeConfig;
    type Input = Input;

    fn with_log(config: IntakeConfig, log: CoreLog) -> Self {
        let mut core = Self::new(config);
        core.set_log(log);
        core
    }

    fn check(config: &IntakeConfig) -> Result<(), String> {
        within("capacity", config.capacity)
    }

    fn fits(&self, input: &Input) -> Result<(), String> {
        match input {
            Input::AddClaims { count } | Input::VoidClaims { count, .. } => within("count", *count),
            _ => Ok(()),
        }
    }

    fn call(&mut self, input: Input) {
        match input {
            Input::Push { now: At(now), given } => drop(self.push(now, given, (), |(), _| ())),
            Input::Retry { now: At(now), queued } => drop(self.retry(now, queued)),
            Input::LostUpstream { count } => self.lost_upstream(count),
            Input::Disconnected => self.disconnected(),
            Input::End => self.end(),
            Input::Glance => self.glance(&mut Glance::default()),
            Input::Pop => drop(self.pop()),
            Input::AddClaims { count } => self.add_claims(count),
            Input::ReturnClaims { count } => self.return_claims(count),
            Input::Emit { seq } => drop(self.emit(seq)),
            Input::Drop { now: At(now), seq, reason, step } => drop(self.drop_frame(now, seq, reason, step.as_ref())),
            Input::Close { now: At(now), reason } => drop(self.close(now, reason)),
            Input::Abandon { now: At(now), reason } => drop(self.abandon(now, reason)),
            Input::TakeBack { now: At(now), hung, reason } => {
                drop(self.take_back(now, hung.as_ref().map(|(seq, step)| (*seq, step)), reason));
            }
            Input::Restarting { now: At(now), restarting } => drop(self.set_restarting(now, restarting)),
            Input::Bind { now: At(now), key } => drop(self.bind(now, key, &mut 0)),
            Input::VoidClaims { now: At(now), count, reason } => self.void_claims(now, count, reason),
            Input::Paused { paused } => self.set_paused(paused),
        }
    }
}
