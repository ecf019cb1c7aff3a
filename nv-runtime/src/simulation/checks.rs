//! What must hold after every event, and at the end.

use std::time::Duration;

use nv_core::MonoTime;

use super::instance::InstanceState;
use super::point::SimPoint;
use super::world::{Context, World};
use crate::batch::cores::{Decision, PointPhase};

/// A check that failed.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) at: MonoTime,
}

impl World {
    /// What the latest event had to do with.
    pub(super) fn check_touched(&mut self) {
        let mut feeds = std::mem::take(&mut self.context.touched_feeds);
        feeds.sort_unstable();
        feeds.dedup();
        for f in feeds.drain(..) {
            self.feeds[f].check(&mut self.context, &self.intakes[f]);
        }
        self.context.touched_feeds = feeds;
        let mut points = std::mem::take(&mut self.context.touched_points);
        points.sort_unstable();
        points.dedup();
        points.drain(..).for_each(|p| self.points[p].check(&mut self.context));
        self.context.touched_points = points;
    }

    /// At the end, when nothing more is to come.
    pub(super) fn check_rest(&mut self) {
        let ctx = &mut self.context;
        for (f, feed) in self.feeds.iter().enumerate() {
            feed.check(ctx, &self.intakes[f]);
            let counts = self.intakes[f].core.counts();
            ctx.check(feed.is_gone(), || format!("feed {f}: it has not come to its end"));
            ctx.check(counts.inside == 0, || format!("feed {f}: {} frames have no fate: {counts:?}", counts.inside));
        }
        for (p, point) in self.points.iter_mut().enumerate() {
            point.check(ctx);
            let used = point.tally.used();
            ctx.check(used == 0, || format!("point {p}: {used} slots have leaked"));
            ctx.check(point.is_at_rest(), || format!("point {p}: an instance is not at rest"));
            let (delivered, wasted) = (point.tally.delivered, point.tally.wasted);
            let good = !point.healthy || delivered * 100 >= (delivered + wasted) * 95;
            ctx.check(good, || format!("point {p}: {wasted} were computed for nothing, beside {delivered}"));
        }
    }
}

impl SimPoint {
    fn check(&mut self, ctx: &mut Context) {
        let is_idle = self.instances.iter().any(|i| matches!(i.state, InstanceState::Idle(_)));
        self.idle_since = if is_idle { self.idle_since.or(Some(ctx.now)) } else { None };
        let (p, max_pending) = (self.id, self.plan.config.max_pending);
        let own = (self.core.pending(), self.core.in_dispatch());
        let ours = self.tally.count();
        ctx.check(own == ours, || {
            format!("point {p}: {own:?} wait and are computed by its own count, {ours:?} by ours")
        });
        for (lane, key) in self.lanes.iter().flatten().map(|l| (&self.tally.lanes[l.feed], l.key)) {
            let own = self.core.used(key);
            ctx.check(own == lane.used, || {
                format!("point {p}: a lane has {own} slots in use by its own count, {} by ours", lane.used)
            });
        }
        // Beyond the limit each lane may have one frame here, in all its parts.
        let bound = max_pending + self.tally.lanes.iter().filter(|l| l.used > 0).count() * self.plan.regions;
        ctx.check(ours.0 <= bound, || format!("point {p}: {} wait, of at most {bound}", ours.0));
        self.check_wake_ups(ctx);
    }

    /// Whenever something could be dispatched and an instance is idle, one has been woken or will look in time.
    fn check_wake_ups(&self, ctx: &mut Context) {
        let idle = self.instances.iter().filter_map(|i| match i.state {
            InstanceState::Idle(until) => Some(until),
            _ => None,
        });
        // One that was woken looks before it waits.
        let woken = self.instances.iter().any(|i| i.state == InstanceState::Woken);
        if woken || idle.clone().count() == 0 || self.core.phase() != PointPhase::Running {
            return;
        }
        let armed = idle.flatten().min();
        let (p, now, oldest) = (self.id, ctx.now, self.tally.oldest());
        match self.core.decide(now) {
            // One whose time has come is on its way.
            Decision::Dispatch => ctx.check(armed.is_some_and(|at| at <= now), || {
                format!(
                    "point {p}: something can be dispatched, an instance is idle, and nobody looks before {armed:?}"
                )
            }),
            Decision::WaitUntil(at) => ctx.check(armed.is_some_and(|armed| armed <= at), || {
                format!("point {p}: something is to be looked at by {at:?}, and nobody looks before {armed:?}")
            }),
            Decision::Idle => {}
        }
        // The same without asking the core.
        let late = ctx.lateness() * (2 + self.instances.len() as u32) + Duration::from_micros(1);
        let longest = self.plan.config.max_latency + late;
        let since = oldest.zip(self.idle_since).map(|(submitted, idle)| submitted.max(idle));
        ctx.check(since.is_none_or(|at| now.since(at) <= longest), || {
            format!("point {p}: an entry waits since {oldest:?}, and an instance is idle since {:?}", self.idle_since)
        });
    }
}
