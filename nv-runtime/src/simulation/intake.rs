//! The shell of an intake in virtual time: the core's, and who is woken when.

use nv_core::{DropReason, Name};

use super::planted::Planted;
use super::scenario::FeedPlan;
use super::world::{Context, Event, Note};
use crate::batch::EntryKey;
use crate::feed::cores::{Arrival, Given, IntakeConfig, IntakeCore, Queued};

/// A feed's intake.
pub(super) struct SimIntake {
    feed: usize,
    pub(super) core: IntakeCore<()>,
    /// Whether the source's thread waits until there is room.
    pub(super) source_waits: bool,
    /// Whether the executor wants to hear of the next frame.
    wanted: bool,
}

impl SimIntake {
    pub(super) fn new(feed: usize, plan: &FeedPlan) -> Self {
        let period = plan.per_second.map(|n| 1_000_000_000 / i64::from(n));
        let drop_suspect = plan.suspect.is_some();
        let config = IntakeConfig { period, drop_suspect, ..IntakeConfig::new(plan.queue, plan.policy) };
        Self { feed, core: IntakeCore::new(config), source_waits: false, wanted: false }
    }

    // --- The source's side.

    pub(super) fn push(&mut self, ctx: &mut Context, given: Given) -> Arrival<()> {
        let arrival = self.core.push(ctx.now, given, (), |(), _| ());
        self.arrived(ctx, arrival)
    }

    pub(super) fn retry(&mut self, ctx: &mut Context, queued: Queued<()>) -> Arrival<()> {
        let arrival = self.core.retry(ctx.now, queued);
        self.arrived(ctx, arrival)
    }

    fn arrived(&mut self, ctx: &mut Context, arrival: Arrival<()>) -> Arrival<()> {
        ctx.touched_feeds.push(self.feed);
        if ctx.planted == Some(Planted::Panic) && ctx.rng.u8(0..16) == 0 {
            // As a panic, but without its noise.
            std::panic::resume_unwind(Box::new("a planted panic"));
        }
        let wanted = matches!(arrival, Arrival::Taken(_)) && std::mem::take(&mut self.wanted);
        match &arrival {
            Arrival::Taken(dropped) => {
                let forgotten = ctx.planted == Some(Planted::ForgetFrame) && ctx.rng.u8(0..16) == 0;
                if wanted && !forgotten {
                    ctx.wake_feed(self.feed);
                }
                if let Some(dropped) = dropped {
                    self.log_drop(ctx, dropped.seq, DropReason::QueueFull);
                }
            }
            Arrival::Discarded(queued, reason) | Arrival::Closed(queued, reason) => {
                self.log_drop(ctx, queued.seq, *reason);
            }
            Arrival::Full(_) => self.source_waits = true,
            Arrival::Refused(()) => {}
        }
        arrival
    }

    pub(super) fn disconnected(&mut self, ctx: &mut Context) {
        self.core.disconnected();
        ctx.wake_feed(self.feed);
    }

    pub(super) fn end(&mut self, ctx: &mut Context) {
        self.core.end();
        ctx.wake_feed(self.feed);
    }

    // --- The executor's side.

    /// Has the executor called when a frame comes in. False: there are more already than it has seen.
    pub(super) fn await_frame(&mut self, seen: usize) -> bool {
        self.wanted = self.core.queued() <= seen;
        self.wanted
    }

    pub(super) fn pop(&mut self, ctx: &mut Context) -> Option<Queued<()>> {
        let queued = self.core.pop()?;
        self.room(ctx);
        Some(queued)
    }

    pub(super) fn emit(&mut self, ctx: &mut Context, seq: u64) -> bool {
        ctx.note(Note::Emitted { feed: self.feed, seq });
        self.core.emit(seq)
    }

    pub(super) fn drop_frame(&mut self, ctx: &mut Context, seq: u64, reason: DropReason, step: Option<&Name>) -> bool {
        self.log_drop(ctx, seq, reason);
        self.core.drop_frame(ctx.now, seq, reason, step)
    }

    pub(super) fn close(&mut self, ctx: &mut Context, reason: DropReason) {
        for queued in self.core.close(ctx.now, reason) {
            self.log_drop(ctx, queued.seq, reason);
        }
        self.let_go(ctx);
    }

    /// Closes it and ends every frame that has not ended yet.
    pub(super) fn abandon(&mut self, ctx: &mut Context, reason: DropReason) {
        self.close(ctx, reason);
        self.core.abandon(ctx.now, reason);
    }

    /// Drops the frames that wait and those that come in, until it is told otherwise.
    pub(super) fn set_restarting(&mut self, ctx: &mut Context, restarting: bool) {
        for queued in self.core.set_restarting(ctx.now, restarting) {
            self.log_drop(ctx, queued.seq, DropReason::FeedRestarted);
        }
        self.let_go(ctx);
    }

    // --- The batch point's side.

    pub(super) fn bind(&mut self, ctx: &mut Context, key: EntryKey, superseded: &mut u64) -> Option<Queued<()>> {
        ctx.touched_feeds.push(self.feed);
        let queued = self.core.bind(ctx.now, key, superseded);
        if queued.is_some() {
            self.room(ctx);
        }
        ctx.wake_feed(self.feed);
        queued
    }

    pub(super) fn void_claims(&mut self, ctx: &mut Context, count: usize, reason: DropReason) {
        ctx.touched_feeds.push(self.feed);
        self.core.void_claims(ctx.now, count, reason);
        self.let_go(ctx);
    }

    // --- The owner's side.

    pub(super) fn set_paused(&mut self, ctx: &mut Context, paused: bool) {
        self.core.set_paused(paused);
        self.let_go(ctx);
    }

    fn room(&mut self, ctx: &mut Context) {
        if self.core.has_room() {
            self.wake_source(ctx);
        }
    }

    fn let_go(&mut self, ctx: &mut Context) {
        self.wake_source(ctx);
        ctx.wake_feed(self.feed);
    }

    fn wake_source(&mut self, ctx: &mut Context) {
        if std::mem::take(&mut self.source_waits) {
            ctx.soon(Event::Source(self.feed));
        }
    }

    fn log_drop(&self, ctx: &mut Context, seq: u64, reason: DropReason) {
        ctx.note(Note::Dropped { feed: self.feed, seq, reason });
    }
}
