//! Where a feed's outputs go, in virtual time.

use super::feed::SimFeed;
use super::intake::SimIntake;
use super::planted::Planted;
use super::world::{Context, Event};

/// A sink and its queue.
#[derive(Default)]
pub(super) struct Sink {
    queued: usize,
    writes: bool,
    /// Whether an output waits for room.
    pub(super) pending: bool,
}

impl SimFeed {
    /// A frame leaves the pipeline.
    pub(super) fn emit(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64) {
        let Some(work) = self.core.emitted(seq) else { return };
        let mut ended = intake.emit(ctx, seq);
        if ctx.planted == Some(Planted::EmitTwice) && ctx.rng.u8(0..16) == 0 {
            ended = intake.emit(ctx, seq);
        }
        ctx.check(ended, || format!("feed {}: frame {seq} has ended before", self.id));
        if ctx.planted == Some(Planted::Reorder) && self.held_back.is_none() && ctx.rng.u8(0..16) == 0 {
            self.held_back = Some((seq, work.session));
            return;
        }
        self.latencies.push(ctx.now.since(work.received));
        self.leaves(ctx, seq, work.session);
        if let Some((seq, session)) = self.held_back.take() {
            self.leaves(ctx, seq, session);
        }
    }

    /// An output leaves.
    fn leaves(&mut self, ctx: &mut Context, seq: u64, session: u32) {
        let in_order = self.left.is_none_or(|(last, before)| last < seq && before <= session);
        ctx.check(in_order, || format!("feed {}: frame {seq} leaves after {:?}", self.id, self.left));
        self.left = Some((seq, session));
        if self.sink.queued < self.plan.sink.capacity {
            self.sink.queued += 1;
        } else {
            // A file feed waits for its sink; a live one passes it by.
            self.sink.pending = !self.plan.live;
            ctx.seen.sinks_full += 1;
        }
        if !std::mem::replace(&mut self.sink.writes, true) {
            ctx.after(self.plan.sink.takes, Event::Sink(self.id));
        }
    }

    /// Its sink has written an output.
    pub(super) fn sink(&mut self, ctx: &mut Context) {
        if let Some((from, to)) = self.plan.sink.stalls
            && (from..to).contains(&ctx.now)
        {
            return ctx.at(to, Event::Sink(self.id));
        }
        self.sink.queued -= 1;
        if std::mem::take(&mut self.sink.pending) {
            self.sink.queued += 1;
            ctx.wake_feed(self.id);
        }
        self.sink.writes = self.sink.queued > 0;
        if self.sink.writes {
            ctx.after(self.plan.sink.takes, Event::Sink(self.id));
        }
    }
}
