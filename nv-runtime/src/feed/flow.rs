//! Which frame may do what next in a feed's pipeline: a pure state machine.

use std::collections::VecDeque;

/// What a step is, as far as the order of frames is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// Runs on the feed's thread, one frame at a time.
    Stage,
    /// Runs elsewhere, several frames at a time.
    Batch,
}

/// What can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the stage of `step` on the frame, then call [`Flow::passed`] (or [`Flow::remove`]).
    RunStage {
        /// The frame.
        seq: u64,
        /// The step.
        step: usize,
    },
    /// Submit the frame to the batch point of `step`, then call [`Flow::submitted`].
    Submit {
        /// The frame.
        seq: u64,
        /// The step.
        step: usize,
    },
    /// The frame has passed every step: it leaves.
    Emit {
        /// The frame.
        seq: u64,
    },
}

/// The frames inside a feed's pipeline, oldest first, and how far each is.
///
/// A frame passes a step only after its predecessor has, so that a stage sees frames in order and outputs leave in order.
/// At a batch point several frames may be at work at once; results that come early wait for their predecessors'.
#[derive(Debug)]
pub(crate) struct Flow<P> {
    steps: Vec<StepKind>,
    frames: VecDeque<Inside<P>>,
}

#[derive(Debug)]
struct Inside<P> {
    seq: u64,
    /// The step it is at; the number of steps once it has passed all.
    step: usize,
    progress: Progress,
    payload: P,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing is happening to it at its step.
    Ready,
    /// It is at work at a batch point.
    Submitted,
    /// Its batch point is done with it; its predecessor's is not.
    Computed,
}

impl<P> Flow<P> {
    pub(crate) fn new(steps: Vec<StepKind>) -> Self {
        Self { steps, frames: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes in the next frame, before its first step.
    pub(crate) fn enter(&mut self, seq: u64, payload: P) {
        self.push(seq, Progress::Ready, payload);
    }

    /// Takes in the next frame, at work at the first step already: a claim was bound to it.
    pub(crate) fn enter_submitted(&mut self, seq: u64, payload: P) {
        self.push(seq, Progress::Submitted, payload);
    }

    fn push(&mut self, seq: u64, progress: Progress, payload: P) {
        debug_assert!(self.frames.back().is_none_or(|f| f.seq < seq), "frames enter in order");
        self.frames.push_back(Inside { seq, step: 0, progress, payload });
    }

    /// What can be done next, the oldest frame's turn first. `has_slot` says whether a batch point takes one more;
    /// `may_emit` whether an output can leave.
    pub(crate) fn next_action(&self, has_slot: impl Fn(usize) -> bool, may_emit: bool) -> Option<Action> {
        // How far the predecessor is: the step it has not passed yet, and whether it waits there for its own turn.
        let mut ahead: Option<(usize, Progress)> = None;
        for f in &self.frames {
            let (seq, step) = (f.seq, f.step);
            let may_work = ahead.is_none_or(|(passed, _)| passed > step);
            let may_follow = ahead.is_none_or(|(s, p)| s > step || (s == step && p != Progress::Ready));
            match (self.steps.get(step), f.progress) {
                (None, _) if ahead.is_none() && may_emit => return Some(Action::Emit { seq }),
                (Some(StepKind::Stage), Progress::Ready) if may_work => return Some(Action::RunStage { seq, step }),
                (Some(StepKind::Batch), Progress::Ready) if may_follow && has_slot(step) => {
                    return Some(Action::Submit { seq, step });
                }
                _ => {}
            }
            ahead = Some((step, f.progress));
        }
        None
    }

    /// Notes that the frame is at work at its batch point.
    pub(crate) fn submitted(&mut self, seq: u64) {
        if let Some(f) = self.find(seq) {
            f.progress = Progress::Submitted;
        }
    }

    /// Notes that the batch point is done with the frame. It passes the step once its predecessors have.
    pub(crate) fn computed(&mut self, seq: u64) {
        if let Some(f) = self.find(seq) {
            f.progress = Progress::Computed;
        }
        self.settle();
    }

    /// Notes that the frame has passed its step.
    pub(crate) fn passed(&mut self, seq: u64) {
        if let Some(f) = self.find(seq) {
            f.step += 1;
            f.progress = Progress::Ready;
        }
        self.settle();
    }

    /// Notes that the frame's step failed and that it goes on without its results, once its predecessors have passed.
    pub(crate) fn passed_after_failure(&mut self, seq: u64) {
        self.computed(seq);
    }

    /// Takes a frame out.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<P> {
        let at = self.frames.iter().position(|f| f.seq == seq)?;
        let payload = self.frames.remove(at).map(|f| f.payload);
        self.settle();
        payload
    }

    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut P> {
        self.find(seq).map(|f| &mut f.payload)
    }

    /// The frames, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.frames.iter().map(|f| &f.payload)
    }

    /// The frames, oldest first, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut P)> {
        self.frames.iter_mut().map(|f| (f.seq, &mut f.payload))
    }

    /// Moves computed frames on as far as their predecessors allow.
    fn settle(&mut self) {
        let mut ahead = usize::MAX;
        for f in &mut self.frames {
            if f.progress == Progress::Computed && ahead > f.step {
                f.step += 1;
                f.progress = Progress::Ready;
            }
            ahead = f.step;
        }
    }

    fn find(&mut self, seq: u64) -> Option<&mut Inside<P>> {
        self.frames.iter_mut().find(|f| f.seq == seq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StepKind::{Batch, Stage};
    use super::*;

    fn next(flow: &Flow<()>) -> Option<Action> {
        flow.next_action(|_| true, true)
    }

    #[test]
    fn a_detector_then_a_tracker() {
        let mut flow = Flow::new(vec![Batch, Stage]);
        flow.enter(0, ());
        flow.enter(1, ());
        assert_eq!(next(&flow), Some(Action::Submit { seq: 0, step: 0 }));
        flow.submitted(0);
        assert_eq!(next(&flow), Some(Action::Submit { seq: 1, step: 0 }), "both may be at work at once");
        flow.submitted(1);
        assert_eq!(next(&flow), None);
        flow.computed(1);
        assert_eq!(next(&flow), None, "the second result waits for the first");
        flow.computed(0);
        assert_eq!(next(&flow), Some(Action::RunStage { seq: 0, step: 1 }));
        flow.passed(0);
        assert_eq!(next(&flow), Some(Action::Emit { seq: 0 }));
        flow.remove(0);
        assert_eq!(next(&flow), Some(Action::RunStage { seq: 1, step: 1 }));
    }

    #[test]
    fn a_dropped_frame_holds_nobody_up() {
        let mut flow = Flow::new(vec![Batch, Stage]);
        for seq in 0..2 {
            flow.enter_submitted(seq, ());
        }
        flow.computed(1);
        flow.remove(0);
        assert_eq!(next(&flow), Some(Action::RunStage { seq: 1, step: 1 }));
    }

    #[test]
    fn no_slot_and_no_room_to_emit() {
        let mut flow = Flow::new(vec![Batch]);
        flow.enter(0, ());
        assert_eq!(flow.next_action(|_| false, true), None);
        flow.submitted(0);
        flow.computed(0);
        assert_eq!(flow.next_action(|_| true, false), None);
        assert_eq!(next(&flow), Some(Action::Emit { seq: 0 }));
    }

    #[test]
    fn without_steps_frames_leave_at_once() {
        let mut flow = Flow::new(vec![]);
        flow.enter(0, ());
        assert_eq!(next(&flow), Some(Action::Emit { seq: 0 }));
    }

    proptest! {
        /// Whatever finishes when, and whatever fails: every stage sees frames in order, outputs leave in order, and
        /// nothing gets stuck.
        #[test]
        fn order_holds_and_all_leave(
            kinds in prop::collection::vec(prop_oneof![Just(Stage), Just(Batch)], 0..5),
            choices in prop::collection::vec((any::<u16>(), 0u8..20), 400),
        ) {
            const FRAMES: u64 = 12;
            let mut flow = Flow::new(kinds.clone());
            let mut seen = vec![Vec::new(); kinds.len() + 1];
            let mut at_work: Vec<u64> = Vec::new();
            let (mut entered, mut gone) = (0, 0);
            let mut choices = choices.into_iter().cycle();
            for _ in 0..10_000 {
                let (which, luck) = choices.next().unwrap();
                if entered < FRAMES && flow.len() < 4 {
                    flow.enter(entered, ());
                    entered += 1;
                }
                match next(&flow) {
                    Some(Action::RunStage { seq, step }) => {
                        seen[step].push(seq);
                        if luck == 0 { flow.remove(seq); gone += 1; } else { flow.passed(seq); }
                    }
                    Some(Action::Submit { seq, step }) => {
                        seen[step].push(seq);
                        flow.submitted(seq);
                        at_work.push(seq);
                    }
                    Some(Action::Emit { seq }) => {
                        seen[kinds.len()].push(seq);
                        flow.remove(seq);
                        gone += 1;
                    }
                    None if at_work.is_empty() => break,
                    None => {
                        let seq = at_work.swap_remove(usize::from(which) % at_work.len());
                        if luck == 0 { flow.remove(seq); gone += 1; } else { flow.computed(seq); }
                    }
                }
            }
            prop_assert_eq!(gone, FRAMES);
            prop_assert!(flow.is_empty());
            for order in seen {
                prop_assert!(order.is_sorted(), "{order:?}");
            }
        }
    }
}
