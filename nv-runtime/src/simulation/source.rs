//! The shell of a source's thread in virtual time, and what a feed's owner does to it.

use std::time::Duration;

use nv_core::MonoTime;

use super::feed::SimFeed;
use super::intake::SimIntake;
use super::scenario::{FeedPlan, time};
use super::world::{Context, Event};
use crate::decisions::{CoreLog, Recorded as _};
use crate::feed::RestartConfig;
use crate::feed::cores::{Arrival, Given, Queued, Reconnect, ReconnectConfig};

/// A source and its thread.
pub(super) struct Source {
    /// When it ends, if it is live.
    end: MonoTime,
    /// The number of the frame that comes next.
    next: u64,
    pub(super) due: MonoTime,
    /// A frame that waits for room.
    pub(super) waiting: Option<Queued<()>>,
    session: u32,
    paused: bool,
    /// Until when it gives nothing, and whether its session is lost.
    away: Option<(MonoTime, bool)>,
    reconnect: Reconnect,
    ended: bool,
}

impl Source {
    pub(super) fn new(id: usize, plan: &FeedPlan, end: MonoTime) -> Self {
        let config = ReconnectConfig::new(&RestartConfig::default(), id as u64, time(plan.comes));
        Self {
            end,
            next: 0,
            due: time(plan.comes + plan.phase),
            waiting: None,
            session: 0,
            paused: false,
            away: None,
            reconnect: Reconnect::with_log(config, CoreLog::default()),
            ended: false,
        }
    }
}

impl SimFeed {
    // --- The owner's side.

    pub(super) fn pause(&mut self, ctx: &mut Context, intake: &mut SimIntake, paused: bool) {
        if self.is_gone() || (paused && self.is_stopping()) {
            return;
        }
        self.source.paused = paused;
        intake.set_paused(ctx, paused);
        ctx.soon(Event::Source(self.id));
    }

    /// The source is closed, and not held back any more.
    pub(super) fn close_source(&mut self, ctx: &mut Context, intake: &mut SimIntake) {
        if std::mem::take(&mut self.source.paused) {
            intake.set_paused(ctx, false);
        }
        ctx.soon(Event::Source(self.id));
    }

    /// The source gives nothing for so long; its session may be lost with it.
    pub(super) fn source_away(&mut self, ctx: &mut Context, lasts: Duration, lost: bool) {
        self.source.away = Some((ctx.now + lasts, lost));
        ctx.soon(Event::Source(self.id));
    }

    // --- The source's thread.

    /// The source's thread looks what it can do.
    pub(super) fn source(&mut self, ctx: &mut Context, intake: &mut SimIntake) {
        if self.is_gone() || self.source.ended {
            return;
        }
        if let Some(waiting) = self.source.waiting.take() {
            let arrival = intake.retry(ctx, waiting);
            return self.arrived(ctx, intake, arrival);
        }
        if intake.source_waits {
            return;
        }
        let plan = self.plan();
        let over = if plan.live { ctx.now >= self.source.end } else { self.source.next >= plan.frames };
        if self.is_stopping() || over {
            self.source.ended = true;
            return intake.end(ctx);
        }
        if let Some((until, lost)) = self.source.away {
            if ctx.now < until {
                return self.is_away(ctx, intake, until, lost);
            }
            self.source.away = None;
            self.source.due = self.source.due.max(ctx.now);
        }
        if ctx.now < self.source.due {
            return ctx.at(self.source.due, Event::Source(self.id));
        }
        if !self.plan().live && intake.core.holds_back() {
            intake.source_waits = true;
            return;
        }
        let plan = self.plan();
        let next = self.source.next;
        let given = Given {
            session: self.source.session,
            cuts: 0,
            pts: plan.interval.as_nanos() as i64 * next as i64,
            suspect: plan.suspect.is_some_and(|every| next.is_multiple_of(every)),
        };
        let arrival = intake.push(ctx, given);
        self.source.reconnect.frame(ctx.now, false);
        self.source.next += 1;
        self.source.due = self.next_due(ctx);
        self.arrived(ctx, intake, arrival);
    }

    fn is_away(&mut self, ctx: &mut Context, intake: &mut SimIntake, until: MonoTime, lost: bool) {
        let stalls_at = self.source.reconnect.stalls_at();
        let end = self.source.end.max(ctx.now);
        if !lost && ctx.now < stalls_at {
            return ctx.at(until.min(stalls_at).min(end), Event::Source(self.id));
        }
        // Lost now, or tried in vain.
        intake.disconnected(ctx);
        ctx.seen.reconnects += 1;
        self.source.session += 1;
        let retry = ctx.now + self.source.reconnect.lost();
        self.source.away = Some((until.max(retry), true));
        if retry >= until {
            self.source.reconnect.opened(retry);
        }
        ctx.at(retry.min(end), Event::Source(self.id));
    }

    fn arrived(&mut self, ctx: &mut Context, intake: &mut SimIntake, arrival: Arrival<()>) {
        match arrival {
            Arrival::Full(queued) => self.source.waiting = Some(queued),
            Arrival::Taken(_) | Arrival::Discarded(..) => ctx.at(self.source.due, Event::Source(self.id)),
            Arrival::Closed(..) | Arrival::Refused(()) => {
                self.source.ended = true;
                intake.end(ctx);
            }
        }
    }

    /// When the next frame comes.
    fn next_due(&self, ctx: &mut Context) -> MonoTime {
        let FeedPlan { interval, burst, jitter, live, .. } = self.plan();
        if !live {
            return ctx.now + *interval;
        }
        if !self.source.next.is_multiple_of(u64::from(*burst)) {
            return self.source.due.max(ctx.now);
        }
        let late = interval.mul_f64(jitter * ctx.rng.f64());
        (self.source.due + *interval * *burst + late).max(ctx.now)
    }
}
