//! Stages of a feed in virtual time: they take their time, fail and break.

use std::time::Duration;

use nv_core::DropReason;

use super::feed::{SimFeed, Step, Then};
use super::intake::SimIntake;
use super::point::SimPoint;
use super::world::Context;

/// A stage.
pub(super) struct Stage {
    pub(super) takes: Duration,
    fails: Option<u64>,
    breaks: Option<(u64, u32)>,
    /// Frames that it has seen.
    seen: u64,
    /// How often it can't be built anew; it is broken until then.
    broken: Option<u32>,
}

impl Stage {
    pub(super) fn new(takes: Duration, fails: Option<u64>, breaks: Option<(u64, u32)>) -> Self {
        Self { takes, fails, breaks, seen: 0, broken: None }
    }
}

impl SimFeed {
    /// The stage that a frame is in returns.
    pub(super) fn stage_returns(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        let Some((seq, step)) = self.in_stage.take() else { return };
        let Step::Stage(stage) = &mut self.steps[step] else { return };
        stage.seen += 1;
        let seen = stage.seen;
        if let Some((every, rebuilds)) = stage.breaks
            && seen.is_multiple_of(every)
        {
            stage.broken = (rebuilds > 0).then_some(rebuilds);
            let broken = stage.broken.is_some();
            self.step_failed(ctx, intake, seq, DropReason::StagePanic);
            if broken && !self.restart_after(ctx, intake, points) {
                self.abandon_all(ctx, intake, points);
                return self.end(ctx, intake, points);
            }
        } else if stage.fails.is_some_and(|every| seen.is_multiple_of(every)) {
            self.step_failed(ctx, intake, seq, DropReason::StageError);
        } else {
            self.core.passed(seq);
        }
        self.run(ctx, intake, points);
    }

    /// Prepares a restart after a stage broke for good. False if there is none.
    fn restart_after(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) -> bool {
        let next = if self.plan.live { self.restarts.failed(ctx.now) } else { None };
        let Some((_, delay)) = next else { return false };
        ctx.seen.restarts += 1;
        self.core.restart_at(ctx.now + delay);
        intake.set_restarting(ctx, true);
        self.look_at_intake(ctx, intake, points);
        self.drop_inside(ctx, intake, points, DropReason::FeedRestarted);
        true
    }

    /// Builds broken stages anew.
    pub(super) fn rebuild(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) -> Then {
        for step in &mut self.steps {
            if let Step::Stage(Stage { broken: Some(left), .. }) = step {
                *left -= 1;
                if *left > 0 {
                    return if self.restart_after(ctx, intake, points) { Then::Look } else { Then::Fail };
                }
            }
        }
        for step in &mut self.steps {
            if let Step::Stage(stage) = step {
                stage.broken = None;
            }
        }
        self.core.rebuilt();
        intake.set_restarting(ctx, false);
        Then::Look
    }
}
