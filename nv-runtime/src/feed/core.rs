//! What a feed does next: a pure state machine. No thread, no channel, no clock; `now` is passed in.

mod record;

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

pub(crate) use self::record::FeedPlan;
use self::record::Input;
use super::StepErrorPolicy;
use super::flow::{Flow, FlowStep, StepKind, Turn};
use crate::batch::{ANSWER_GRACE, EntryKey, EntryState, Refusal};
use crate::decisions::{At, CoreLog, nanos};

/// A step, as far as it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CoreStep {
    pub(crate) kind: StepKind,
    /// Whether it runs on some frames only.
    pub(crate) gated: bool,
    /// Whether frames are bound to it at dispatch. Only the first step's may be.
    pub(crate) claims: bool,
    /// How long its answer may take, from dispatch.
    #[serde(with = "nanos")]
    pub(crate) response_timeout: Duration,
    /// How long after its submission, and again while it waits its turn, what has become of an entry is looked at.
    #[serde(with = "nanos")]
    pub(crate) look_after: Duration,
}

/// The part of a feed's config that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CoreConfig {
    pub(crate) live: bool,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) on_step_error: StepErrorPolicy,
}

/// What a feed's thread is to do next. Each names the call that says how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Take the oldest frame out of the queue: [`FeedCore::enter`] or [`FeedCore::nothing_queued`].
    Take,
    /// Make so many claims at the first step: [`FeedCore::claimed`].
    Claim {
        /// How many.
        count: usize,
    },
    /// Ask the batch point what becomes of the frame: [`FeedCore::checked`].
    Check {
        /// The frame.
        seq: u64,
        /// The step.
        step: usize,
        /// Its entry.
        key: EntryKey,
    },
    /// Have the batch point of a step look after its instances: claims wait there, and nobody answers for them.
    Inspect {
        /// The step.
        step: usize,
    },
    /// Build broken stages anew: [`FeedCore::rebuilt`] or [`FeedCore::restart_at`].
    Rebuild,
    /// A frame's turn.
    Turn(Turn),
    /// Drop whatever is inside, and be done: the time to drain is over.
    Abandon,
    /// Nothing will ever be to do again.
    Finish,
    /// Wait for an event, at most until then.
    Wait(#[serde(with = "nanos")] Option<MonoTime>),
}

/// How it stands with a frame at a batch point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Checked {
    /// There is still time.
    Fine,
    /// Its answer is overdue.
    Overdue,
    /// It waits, and is too old to be computed.
    TooOld,
    /// There will be no answer.
    Lost,
}

/// What became of a frame whose step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failed {
    /// It has left the pipeline, and is to be dropped; with what is still at its batch point, which is to be abandoned.
    Dropped {
        /// The rest of its entry.
        abandon: Option<EntryKey>,
    },
    /// It goes on without that step's results.
    Passed,
}

/// Runs a feed: takes frames in as there is room, takes each through the steps in order, and gives up what is overdue.
///
/// Invariant: whenever something is inside, [`next`](Self::next) says what to do, or some batch point owes an answer, or an
/// output waits for a sink; in the second case the wait has an end.
pub(crate) struct FeedCore<P> {
    config: CoreConfig,
    steps: Vec<Step>,
    flow: Flow<Inside<P>>,
    /// Frames in the queue, as was last seen.
    queued: usize,
    /// Claims that no frame was bound to, as was last seen.
    claims: usize,
    /// Whether no more frames come in.
    ended: bool,
    stop_at: Option<MonoTime>,
    restart_at: Option<MonoTime>,
    /// No answer is overdue before.
    next_check: Option<MonoTime>,
    log: CoreLog,
}

struct Step {
    plan: CoreStep,
    /// Slots that the feed has at the batch point.
    slots: usize,
    /// Slots that frames have in use. Claims are counted apart.
    used: usize,
    /// Whether the point has refused a frame for want of room. It has room again when something of this feed's has left.
    full: bool,
}

struct Inside<P> {
    payload: P,
    /// While it is at a batch point.
    at_point: Option<AtPoint>,
}

#[derive(Clone, Copy)]
struct AtPoint {
    key: EntryKey,
    /// Results that are still to come.
    parts: u32,
    /// When to look what has become of it.
    check_at: MonoTime,
    /// Whether the point had it no more when it was last looked at.
    gone: bool,
}

impl<P> FeedCore<P> {
    pub(crate) fn new(config: CoreConfig, steps: Vec<CoreStep>) -> Self {
        let flow = Flow::new(steps.iter().map(|s| FlowStep { kind: s.kind, gated: s.gated }).collect());
        let steps = steps.into_iter().map(|plan| Step { plan, slots: 0, used: 0, full: false }).collect();
        Self {
            config,
            steps,
            flow,
            queued: 0,
            claims: 0,
            ended: false,
            stop_at: None,
            restart_at: None,
            next_check: None,
            log: CoreLog::default(),
        }
    }

    /// Notes what it is told and what it decides in `log`.
    pub(crate) fn set_log(&mut self, log: CoreLog) {
        self.log = log;
    }

    // --- What is seen outside.

    /// Takes in what is seen at the intake.
    pub(crate) fn look(&mut self, queued: usize, claims: usize, ended: bool) {
        (self.queued, self.claims, self.ended) = (queued, claims, ended);
        self.log.note(|| (Input::Look { queued, claims, ended }, ()));
    }

    /// Takes in how many slots the feed has at a batch point; they change as other feeds come and go.
    pub(crate) fn set_slots(&mut self, step: usize, slots: usize) {
        if let Some(known) = self.steps.get_mut(step)
            && known.slots != slots
        {
            known.slots = slots;
            self.log.note(|| (Input::SetSlots { step, slots }, ()));
        }
    }

    /// The feed is to end, at the latest then.
    pub(crate) fn stop_at(&mut self, deadline: MonoTime) {
        if self.stop_at.replace(deadline) != Some(deadline) {
            self.log.note(|| (Input::StopAt { deadline: At(deadline) }, ()));
        }
    }

    /// Stages are broken, and are to be built anew then.
    pub(crate) fn restart_at(&mut self, at: MonoTime) {
        self.restart_at = Some(at);
        self.log.note(|| (Input::RestartAt { at: At(at) }, ()));
    }

    /// Every stage works again.
    pub(crate) fn rebuilt(&mut self) {
        self.restart_at = None;
        self.log.note(|| (Input::Rebuilt, ()));
    }

    /// What to do next. `may_emit`: whether an output can leave.
    pub(crate) fn next(&mut self, now: MonoTime, may_emit: bool) -> Action {
        let action = self.next_action(now, may_emit);
        self.log.note(|| (Input::Next { now: At(now), may_emit }, action));
        action
    }

    fn next_action(&mut self, now: MonoTime, may_emit: bool) -> Action {
        let finished = self.is_finished(may_emit);
        if !finished && self.stop_at.is_some_and(|at| at <= now) {
            return Action::Abandon;
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            return Action::Rebuild;
        }
        if let Some(check) = self.next_overdue(now) {
            return check;
        }
        if let Some(fill) = self.next_fill() {
            return fill;
        }
        let has_slot = |step: usize| self.steps.get(step).is_some_and(|s| !s.full && s.used < s.slots);
        if let Some(turn) = self.flow.next_turn(has_slot, may_emit) {
            return Action::Turn(turn);
        }
        if finished {
            return Action::Finish;
        }
        Action::Wait(self.next_check.into_iter().chain(self.stop_at).chain(self.restart_at).min())
    }

    // --- How it went.

    /// A frame was taken out of the queue.
    pub(crate) fn enter(&mut self, seq: u64, payload: P) {
        self.queued = self.queued.saturating_sub(1);
        self.flow.enter(seq, Inside { payload, at_point: None });
        self.log.note(|| (Input::Enter { seq }, ()));
    }

    /// The queue was empty.
    pub(crate) fn nothing_queued(&mut self) {
        self.queued = 0;
        self.log.note(|| (Input::NothingQueued, ()));
    }

    /// `made` claims were made; the next one was refused for this reason.
    pub(crate) fn claimed(&mut self, now: MonoTime, made: usize, refusal: Option<Refusal>) {
        self.claims += made;
        if let Some(step) = self.steps.first_mut() {
            step.full |= matches!(refusal, Some(Refusal::Full | Refusal::NoSlot));
            let check_at = now + step.plan.look_after;
            self.check_by(check_at);
        }
        self.log.note(|| (Input::Claimed { now: At(now), made, refusal }, ()));
    }

    /// A claim was bound to a frame at `at`: it is at work at the first step. Call before [`look`](Self::look).
    pub(crate) fn bound(&mut self, seq: u64, at: MonoTime, key: EntryKey, payload: P) {
        let Some(step) = self.steps.first_mut() else { return };
        step.used += 1;
        step.full = false;
        let check_at = at + step.plan.look_after;
        self.check_by(check_at);
        self.flow
            .enter_submitted(seq, Inside { payload, at_point: Some(AtPoint { key, parts: 1, check_at, gone: false }) });
        self.log.note(|| (Input::Bound { seq, at: At(at), key }, ()));
    }

    /// A claim came to nothing: the frame that it would have been bound to is at the first step, which is to
    /// [fail](Self::failed) it.
    pub(crate) fn claim_voided(&mut self, seq: u64, payload: P) {
        self.flow.enter_submitted(seq, Inside { payload, at_point: None });
        self.log.note(|| (Input::ClaimVoided { seq }, ()));
    }

    /// The step is to run on the frame, or is passed over.
    pub(crate) fn gated(&mut self, seq: u64, run: bool) {
        if run {
            self.flow.admitted(seq)
        } else {
            self.flow.computed(seq)
        }
        self.log.note(|| (Input::Gated { seq, run }, ()));
    }

    /// The frame was submitted, to be answered in so many parts.
    pub(crate) fn submitted(&mut self, now: MonoTime, seq: u64, key: EntryKey, parts: u32) {
        let Some(step) = self.flow.step_of(seq).and_then(|s| self.steps.get_mut(s)) else { return };
        step.used += 1;
        let check_at = now + step.plan.look_after;
        self.check_by(check_at);
        if let Some(inside) = self.flow.get_mut(seq) {
            inside.at_point = Some(AtPoint { key, parts, check_at, gone: false });
        }
        self.flow.submitted(seq);
        self.log.note(|| (Input::Submitted { now: At(now), seq, key, parts }, ()));
    }

    /// The batch point had no room for it.
    pub(crate) fn no_room(&mut self, step: usize) {
        if let Some(step) = self.steps.get_mut(step) {
            // Something of this feed's is there, whose end makes room. Slots may just have become fewer, for another feed.
            step.full = true;
        }
        self.log.note(|| (Input::NoRoom { step }, ()));
    }

    /// The frame that an answer belongs to. `None`: it was given up.
    pub(crate) fn find(&self, step: usize, key: EntryKey) -> Option<u64> {
        let is_it = |p: &Inside<P>| p.at_point.is_some_and(|at| at.key == key);
        let is_here = |(seq, p): &(u64, &Inside<P>)| is_it(p) && self.flow.step_of(*seq) == Some(step);
        let seq = self.flow.iter().find(is_here).map(|(seq, _)| seq);
        self.log.note(|| (Input::Find { step, key }, seq));
        seq
    }

    /// A part of the frame's answer has come, and it is good. True if it was the last one.
    pub(crate) fn answered(&mut self, seq: u64) -> bool {
        let last = self.take_answer(seq);
        self.log.note(|| (Input::Answered { seq }, last));
        last
    }

    fn take_answer(&mut self, seq: u64) -> bool {
        let Some(at) = self.flow.get_mut(seq).and_then(|inside| inside.at_point.as_mut()) else { return false };
        at.parts -= 1;
        if at.parts > 0 {
            return false;
        }
        self.leave_point(seq);
        self.flow.computed(seq);
        true
    }

    /// A part of the frame's answer has come, and its step has failed.
    pub(crate) fn answered_badly(&mut self, seq: u64) -> Failed {
        let failed = self.take_bad_answer(seq);
        self.log.note(|| (Input::AnsweredBadly { seq }, failed));
        failed
    }

    fn take_bad_answer(&mut self, seq: u64) -> Failed {
        if self.config.on_step_error == StepErrorPolicy::Pass {
            self.take_answer(seq);
            return Failed::Passed;
        }
        let rest = self.flow.get(seq).and_then(|inside| inside.at_point).filter(|at| at.parts > 1);
        self.leave_point(seq);
        self.flow.remove(seq);
        Failed::Dropped { abandon: rest.map(|at| at.key) }
    }

    /// How it stands with a frame of which the batch point says this. Unless it is fine, it has left the batch point, where it
    /// is to be abandoned, and is to [fail](Self::failed).
    pub(crate) fn checked(&mut self, now: MonoTime, seq: u64, entry: EntryState) -> Checked {
        let checked = self.check(now, seq, entry);
        self.log.note(|| (Input::Checked { now: At(now), seq, entry }, checked));
        checked
    }

    fn check(&mut self, now: MonoTime, seq: u64, entry: EntryState) -> Checked {
        let Some(plan) = self.flow.step_of(seq).and_then(|s| self.steps.get(s)).map(|step| step.plan) else {
            return Checked::Fine;
        };
        let Some(at) = self.flow.get_mut(seq).and_then(|inside| inside.at_point.as_mut()) else { return Checked::Fine };
        let (check_at, otherwise) = match entry {
            EntryState::Waiting => (now + plan.look_after, Checked::Fine),
            // The limit runs from dispatch.
            EntryState::Dispatched(at) => (at + plan.response_timeout, Checked::Overdue),
            EntryState::TooOld => (now, Checked::TooOld),
            // Its result is on its way, if there is one.
            EntryState::Gone if !at.gone => (now + ANSWER_GRACE, Checked::Lost),
            EntryState::Gone => (now, Checked::Lost),
        };
        if check_at <= now {
            self.leave_point(seq);
            return otherwise;
        }
        (at.check_at, at.gone) = (check_at, entry == EntryState::Gone);
        self.check_by(check_at);
        Checked::Fine
    }

    /// The frame has passed its step.
    pub(crate) fn passed(&mut self, seq: u64) {
        self.flow.passed(seq);
        self.log.note(|| (Input::Passed { seq }, ()));
    }

    /// The frame's step has failed. Its turn at a stage was its own; at a batch point it goes on in its turn.
    pub(crate) fn failed(&mut self, seq: u64) -> Failed {
        let failed = if self.config.on_step_error == StepErrorPolicy::Pass {
            self.flow.computed(seq);
            Failed::Passed
        } else {
            self.flow.remove(seq);
            Failed::Dropped { abandon: None }
        };
        self.log.note(|| (Input::Failed { seq }, failed));
        failed
    }

    /// The frame leaves.
    pub(crate) fn emitted(&mut self, seq: u64) -> Option<P> {
        let inside = self.flow.remove(seq);
        self.log.note(|| (Input::Emitted { seq }, inside.is_some()));
        inside.map(|inside| inside.payload)
    }

    /// Takes out the oldest frame, because the feed ends or starts over: its number, its step, and its entry, which is to be
    /// abandoned.
    pub(crate) fn evict(&mut self) -> Option<(u64, usize, Option<EntryKey>, P)> {
        let evicted = self.take_oldest();
        self.log.note(|| (Input::Evict, evicted.as_ref().map(|(seq, step, key, _)| (*seq, *step, *key))));
        evicted
    }

    fn take_oldest(&mut self) -> Option<(u64, usize, Option<EntryKey>, P)> {
        let seq = self.flow.first()?;
        let step = self.flow.step_of(seq)?;
        let key = self.leave_point(seq);
        self.flow.remove(seq).map(|inside| (seq, step, key, inside.payload))
    }

    /// What is kept of the frame.
    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut P> {
        self.flow.get_mut(seq).map(|inside| &mut inside.payload)
    }

    /// Whether it would take a frame in if there were more; with how many have been seen.
    pub(crate) fn awaits_frames(&self) -> Option<usize> {
        let queued = (self.room_for_frames() > 0).then_some(self.queued);
        self.log.note(|| (Input::AwaitsFrames, queued));
        queued
    }

    /// Frames between the queue and the outputs.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flow.len()
    }

    /// Slots that frames have in use at a step.
    #[cfg(test)]
    pub(crate) fn used(&self, step: usize) -> usize {
        self.steps[step].used
    }

    // --- Inside.

    fn is_finished(&self, may_emit: bool) -> bool {
        self.ended && self.queued == 0 && self.flow.is_empty() && may_emit
    }

    /// A frame whose answer may be overdue, or claims that may wait for ever.
    fn next_overdue(&mut self, now: MonoTime) -> Option<Action> {
        if self.next_check.is_none_or(|at| at > now) {
            return None;
        }
        let waits = |(seq, inside): (u64, &Inside<P>)| Some((inside.at_point?, seq));
        let first = self.flow.iter().filter_map(waits).min_by_key(|(at, _)| at.check_at);
        match first {
            Some((at, seq)) if at.check_at <= now => {
                return Some(Action::Check { seq, step: self.flow.step_of(seq)?, key: at.key });
            }
            Some((at, _)) => self.next_check = Some(at.check_at),
            None => self.next_check = None,
        }
        // A claim may be bound at any time, and nobody says so until there is an answer.
        let step = self.steps.first().filter(|_| self.claims > 0)?;
        let check_at = now + step.plan.look_after;
        self.check_by(check_at);
        Some(Action::Inspect { step: 0 })
    }

    /// Frames to be taken in, as far as there is room.
    fn next_fill(&mut self) -> Option<Action> {
        let (queued, claims) = (self.queued, self.claims);
        if let Some(step) = self.steps.first_mut() {
            // What was refused for want of room has left by now.
            step.full &= step.used + claims > 0;
        }
        let room = self.room_for_frames();
        if self.steps.first().is_some_and(|step| step.plan.claims) {
            let count = queued.saturating_sub(claims).min(room);
            return (count > 0).then_some(Action::Claim { count });
        }
        (room > 0 && queued > 0).then_some(Action::Take)
    }

    /// Frames that would be taken in now, or claims made for them.
    fn room_for_frames(&self) -> usize {
        let room = self.limit().saturating_sub(self.flow.len() + self.claims);
        match self.steps.first() {
            // Where it could only wait for a slot, a frame does so in the queue, under its policy.
            Some(step) if step.plan.kind == StepKind::Batch && !step.plan.gated => {
                let waiting = self.flow.waiting_at(0);
                let free = if step.full { 0 } else { step.slots.saturating_sub(step.used + self.claims + waiting) };
                room.min(free)
            }
            _ => room,
        }
    }

    /// Frames that may be inside at a time.
    pub(crate) fn limit(&self) -> usize {
        self.config.max_in_pipeline.unwrap_or_else(|| {
            let points = self.steps.iter().filter(|s| s.plan.kind == StepKind::Batch);
            // By default a live feed has two slots: one frame beyond what is taken in anyway.
            let frames = |s: &Step| if self.config.live { s.slots.saturating_sub(1).max(1) } else { s.slots };
            2 + points.map(frames).sum::<usize>()
        })
    }

    /// Notes that the frame is at a batch point no more; returns its entry.
    fn leave_point(&mut self, seq: u64) -> Option<EntryKey> {
        let at = self.flow.get_mut(seq)?.at_point.take()?;
        if let Some(step) = self.flow.step_of(seq).and_then(|s| self.steps.get_mut(s)) {
            step.used -= 1;
            step.full = false;
        }
        Some(at.key)
    }

    fn check_by(&mut self, at: MonoTime) {
        self.next_check = Some(self.next_check.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests;
