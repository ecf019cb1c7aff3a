//! Which frame may do what next in a feed's pipeline: a pure state machine.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What a step is, as far as the order of frames is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepKind {
    /// Runs on the feed's thread, one frame at a time.
    Stage,
    /// Runs elsewhere, several frames at a time.
    Batch,
}

/// What can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Turn {
    /// Decide whether the step runs on the frame, then call [`Flow::admitted`] or [`Flow::computed`].
    Gate {
        /// The frame.
        seq: u64,
        /// The step.
        step: usize,
    },
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
    /// Take in what the batch point of `step` found in the frame, then call [`Flow::passed`].
    Merge {
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
    steps: Vec<FlowStep>,
    frames: VecDeque<Inside<P>>,
}

/// A step, as far as the order of frames is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowStep {
    pub(crate) kind: StepKind,
    /// Whether it runs on some frames only, which is decided frame by frame, in order.
    pub(crate) gated: bool,
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
    /// It is not decided whether its step runs on it.
    AtGate,
    /// Nothing is happening to it at its step.
    Ready,
    /// It is at work at a batch point.
    Submitted,
    /// Its step is done with it, or passes it over; its predecessor may not be that far.
    Computed,
}

impl<P> Flow<P> {
    pub(crate) fn new(steps: Vec<FlowStep>) -> Self {
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
        self.push(seq, self.arrival(0), payload);
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
    pub(crate) fn next_turn(&self, has_slot: impl Fn(usize) -> bool, may_emit: bool) -> Option<Turn> {
        // How far the predecessor is: the step it has not passed yet, and whether it waits there for its own turn.
        let mut ahead: Option<(usize, Progress)> = None;
        for f in &self.frames {
            let (seq, step) = (f.seq, f.step);
            let passed = ahead.is_none_or(|(passed, _)| passed > step);
            let at_work =
                ahead.is_some_and(|(s, p)| s == step && matches!(p, Progress::Submitted | Progress::Computed));
            match (self.steps.get(step).map(|s| s.kind), f.progress) {
                (None, _) if ahead.is_none() && may_emit => return Some(Turn::Emit { seq }),
                (Some(StepKind::Stage), Progress::AtGate) if passed => return Some(Turn::Gate { seq, step }),
                (Some(StepKind::Stage), Progress::Ready) if passed => return Some(Turn::RunStage { seq, step }),
                (Some(StepKind::Batch), Progress::AtGate) if passed || at_work => {
                    return Some(Turn::Gate { seq, step });
                }
                (Some(StepKind::Batch), Progress::Ready) if (passed || at_work) && has_slot(step) => {
                    return Some(Turn::Submit { seq, step });
                }
                (Some(_), Progress::Computed) if passed => return Some(Turn::Merge { seq, step }),
                _ => {}
            }
            ahead = Some((step, f.progress));
        }
        None
    }

    /// Notes that the step is to run on the frame.
    pub(crate) fn admitted(&mut self, seq: u64) {
        self.set(seq, Progress::Ready);
    }

    /// Notes that the frame is at work at its batch point.
    pub(crate) fn submitted(&mut self, seq: u64) {
        self.set(seq, Progress::Submitted);
    }

    /// Notes that its step is done with the frame, or passes it over. It passes the step once its predecessors have.
    pub(crate) fn computed(&mut self, seq: u64) {
        self.set(seq, Progress::Computed);
    }

    /// Notes that the frame has passed its step.
    pub(crate) fn passed(&mut self, seq: u64) {
        let Some(at) = self.position(seq) else { return };
        let step = self.frames[at].step + 1;
        self.frames[at].step = step;
        self.frames[at].progress = self.arrival(step);
    }

    /// Takes a frame out.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<P> {
        let at = self.position(seq)?;
        self.frames.remove(at).map(|f| f.payload)
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&P> {
        self.position(seq).map(|at| &self.frames[at].payload)
    }

    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut P> {
        self.position(seq).map(|at| &mut self.frames[at].payload)
    }

    /// The step that the frame is at.
    pub(crate) fn step_of(&self, seq: u64) -> Option<usize> {
        self.position(seq).map(|at| self.frames[at].step)
    }

    /// Frames to which nothing happens yet at a step.
    pub(crate) fn waiting_at(&self, step: usize) -> usize {
        self.frames.iter().filter(|f| f.step == step && f.progress == Progress::Ready).count()
    }

    /// The frames, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &P)> {
        self.frames.iter().map(|f| (f.seq, &f.payload))
    }

    /// The oldest frame's number.
    pub(crate) fn first(&self) -> Option<u64> {
        self.frames.front().map(|f| f.seq)
    }

    fn arrival(&self, step: usize) -> Progress {
        if self.steps.get(step).is_some_and(|s| s.gated) { Progress::AtGate } else { Progress::Ready }
    }

    fn set(&mut self, seq: u64, progress: Progress) {
        if let Some(at) = self.position(seq) {
            self.frames[at].progress = progress;
        }
    }

    fn position(&self, seq: u64) -> Option<usize> {
        self.frames.binary_search_by_key(&seq, |f| f.seq).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StepKind::{Batch, Stage};
    use super::*;

    fn pipeline(kinds: &[StepKind]) -> Flow<()> {
        Flow::new(kinds.iter().map(|&kind| FlowStep { kind, gated: false }).collect())
    }

    fn next(flow: &Flow<()>) -> Option<Turn> {
        flow.next_turn(|_| true, true)
    }

    fn merge(flow: &mut Flow<()>, seq: u64, step: usize) {
        assert_eq!(next(flow), Some(Turn::Merge { seq, step }));
        flow.passed(seq);
    }

    #[test]
    fn a_detector_then_a_tracker() {
        let mut flow = pipeline(&[Batch, Stage]);
        flow.enter(0, ());
        flow.enter(1, ());
        assert_eq!(next(&flow), Some(Turn::Submit { seq: 0, step: 0 }));
        flow.submitted(0);
        assert_eq!(next(&flow), Some(Turn::Submit { seq: 1, step: 0 }), "both may be at work at once");
        flow.submitted(1);
        assert_eq!(next(&flow), None);
        flow.computed(1);
        assert_eq!(next(&flow), None, "the second result waits for the first");
        flow.computed(0);
        merge(&mut flow, 0, 0);
        assert_eq!(next(&flow), Some(Turn::RunStage { seq: 0, step: 1 }));
        flow.passed(0);
        assert_eq!(next(&flow), Some(Turn::Emit { seq: 0 }));
        flow.remove(0);
        merge(&mut flow, 1, 0);
        assert_eq!(next(&flow), Some(Turn::RunStage { seq: 1, step: 1 }));
    }

    #[test]
    fn a_dropped_frame_holds_nobody_up() {
        let mut flow = pipeline(&[Batch, Stage]);
        for seq in 0..2 {
            flow.enter_submitted(seq, ());
        }
        flow.computed(1);
        flow.remove(0);
        merge(&mut flow, 1, 0);
        assert_eq!(next(&flow), Some(Turn::RunStage { seq: 1, step: 1 }));
    }

    #[test]
    fn no_slot_and_no_room_to_emit() {
        let mut flow = pipeline(&[Batch]);
        flow.enter(0, ());
        assert_eq!(flow.next_turn(|_| false, true), None);
        flow.submitted(0);
        flow.computed(0);
        merge(&mut flow, 0, 0);
        assert_eq!(flow.next_turn(|_| true, false), None);
        assert_eq!(next(&flow), Some(Turn::Emit { seq: 0 }));
    }

    #[test]
    fn without_steps_frames_leave_at_once() {
        let mut flow = pipeline(&[]);
        flow.enter(0, ());
        assert_eq!(next(&flow), Some(Turn::Emit { seq: 0 }));
    }

    #[test]
    fn a_gate_is_decided_in_order_and_what_it_passes_over_needs_no_slot() {
        let mut flow = Flow::new(vec![FlowStep { kind: Batch, gated: true }, FlowStep { kind: Stage, gated: false }]);
        flow.enter(0, ());
        flow.enter(1, ());
        let full = |flow: &Flow<()>| flow.next_turn(|_| false, true);
        assert_eq!(full(&flow), Some(Turn::Gate { seq: 0, step: 0 }));
        flow.admitted(0);
        assert_eq!(full(&flow), None, "the second waits until the first is at work");
        flow.submitted(0);
        assert_eq!(full(&flow), Some(Turn::Gate { seq: 1, step: 0 }));
        flow.computed(1);
        assert_eq!(full(&flow), None, "it may not overtake");
        flow.computed(0);
        merge(&mut flow, 0, 0);
        assert_eq!(next(&flow), Some(Turn::RunStage { seq: 0, step: 1 }));
        flow.passed(0);
        flow.remove(0);
        merge(&mut flow, 1, 0);
        assert_eq!(next(&flow), Some(Turn::RunStage { seq: 1, step: 1 }));
    }

    proptest! {
        /// Whatever finishes when, and whatever fails: every stage sees frames in order, outputs leave in order, and
        /// nothing gets stuck.
        #[test]
        fn order_holds_and_all_leave(
            kinds in prop::collection::vec((prop_oneof![Just(Stage), Just(Batch)], any::<bool>()), 0..5),
            choices in prop::collection::vec((any::<u16>(), 0u8..20), 400),
        ) {
            const FRAMES: u64 = 12;
            let mut flow = Flow::new(kinds.iter().map(|&(kind, gated)| FlowStep { kind, gated }).collect());
            let mut seen = vec![Vec::new(); kinds.len() + 1];
            let mut gates = vec![Vec::new(); kinds.len()];
            let mut merged = vec![Vec::new(); kinds.len()];
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
                    Some(Turn::Gate { seq, step }) => {
                        gates[step].push(seq);
                        if luck % 2 == 0 { flow.admitted(seq) } else { flow.computed(seq) }
                    }
                    Some(Turn::Merge { seq, step }) => {
                        merged[step].push(seq);
                        flow.passed(seq);
                    }
                    Some(Turn::RunStage { seq, step }) => {
                        seen[step].push(seq);
                        if luck == 0 { flow.remove(seq); gone += 1; } else { flow.passed(seq); }
                    }
                    Some(Turn::Submit { seq, step }) => {
                        seen[step].push(seq);
                        flow.submitted(seq);
                        at_work.push(seq);
                    }
                    Some(Turn::Emit { seq }) => {
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
            for order in seen.into_iter().chain(gates).chain(merged) {
                prop_assert!(order.is_sorted(), "{order:?}");
            }
        }
    }
}
