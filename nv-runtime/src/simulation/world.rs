//! Virtual time: what happens when, and in which order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use nv_core::{DropReason, MonoTime};

use super::checks::Violation;
use super::feed::SimFeed;
use super::intake::SimIntake;
use super::planted::Planted;
use super::point::{Completion, SimPoint};
use super::scenario::{Scenario, SourceTrouble, time};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A feed is added.
    Comes(usize),
    /// A feed is told to stop, and has so long to drain.
    Leaves(usize, Duration),
    /// Everything is told to end, and has so long to drain.
    Shutdown(Duration),
    /// Feeds that still run are told to stop: time is up.
    TimeIsUp,
    /// A source's thread looks what it can do.
    Source(usize),
    /// A trouble of a source begins.
    Trouble(usize, usize),
    /// A feed's pause ends.
    Resume(usize),
    /// An executor that was woken runs.
    Feed(usize),
    /// An executor looks, since it is time to.
    FeedTimer(usize),
    /// An executor's stage returns.
    Stage(usize),
    /// A sink has written an output, or looks whether there is one.
    Sink(usize),
    /// A result arrives.
    Result(Completion),
    /// An instance that was woken runs.
    Instance(usize, usize),
    /// An instance looks, since it is time to.
    InstanceTimer(usize, usize),
    /// A call of a processor returns: point, instance, number of the call.
    Call(usize, usize, u64),
}

/// What the cores decided, for the trace.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read by its Debug text alone")]
pub(super) enum Note {
    Event(Event),
    Submitted { feed: usize, seq: u64, point: usize },
    Claimed { feed: usize, point: usize, count: usize },
    Dispatched { point: usize, instance: usize, size: usize },
    Closed { point: usize, instance: usize, failed: usize },
    Rebuilt { point: usize, instance: usize, ok: bool },
    Down { point: usize },
    Emitted { feed: usize, seq: u64 },
    Dropped { feed: usize, seq: u64, reason: DropReason },
    Ended { feed: usize },
}

/// The time, what is to come, and what was.
pub(super) struct Context {
    pub(super) now: MonoTime,
    pub(super) rng: Rng,
    pub(super) violation: Option<Violation>,
    /// Feeds and points that the current event had to do with.
    pub(super) touched_feeds: Vec<usize>,
    pub(super) touched_points: Vec<usize>,
    /// By feed: whether its executor's wake-up token is set.
    pub(super) woken: Vec<bool>,
    pub(super) planted: Option<Planted>,
    pub(super) seen: Seen,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pushed: u64,
    lateness: Duration,
    log: VecDeque<(MonoTime, Note)>,
    /// The whole trace, where it is wanted.
    trace: Option<String>,
}

/// What is rare, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) quarantined: u32,
    pub(super) released: u32,
    pub(super) down: u32,
    pub(super) up: u32,
    pub(super) wedged: u32,
    pub(super) retried: u32,
    pub(super) failed_rebuilds: u32,
    pub(super) restarts: u32,
    pub(super) reconnects: u32,
    pub(super) sinks_full: u32,
}

impl Seen {
    fn all(&mut self) -> [&mut u32; 10] {
        let Self {
            quarantined,
            released,
            down,
            up,
            wedged,
            retried,
            failed_rebuilds,
            restarts,
            reconnects,
            sinks_full,
        } = self;
        [quarantined, released, down, up, wedged, retried, failed_rebuilds, restarts, reconnects, sinks_full]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.all().into_iter().zip(other.clone().all()).for_each(|(sum, n)| *sum += *n);
    }

    pub(super) fn is_all(&mut self) -> bool {
        self.all().into_iter().all(|n| *n > 0)
    }
}

struct Scheduled {
    /// The time; luck, among what happens at the same time; and a number, so that there is an order in any case.
    when: (MonoTime, u32, u64),
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl Eq for Scheduled {}

/// Events that a failure is reported with.
const REMEMBERED: usize = 48;

impl Context {
    /// Something happens at `at`. What happens at the same time happens in any order.
    pub(super) fn at(&mut self, at: MonoTime, event: Event) {
        let luck = self.rng.u32(..);
        self.pushed += 1;
        self.queue.push(Reverse(Scheduled { when: (at.max(self.now), luck, self.pushed), event }));
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// A thread is woken, and will run soon.
    pub(super) fn soon(&mut self, event: Event) {
        let late = self.late();
        self.after(late, event);
    }

    /// Sets an executor's wake-up token.
    pub(super) fn wake_feed(&mut self, feed: usize) {
        if !std::mem::replace(&mut self.woken[feed], true) {
            self.soon(Event::Feed(feed));
        }
    }

    /// How late a thread is, this time.
    pub(super) fn late(&mut self) -> Duration {
        match self.lateness.as_nanos() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_nanos(self.rng.u64(0..most)),
        }
    }

    /// The latest that any thread is.
    pub(super) fn lateness(&self) -> Duration {
        self.lateness
    }

    pub(super) fn note(&mut self, note: Note) {
        if self.log.len() == REMEMBERED {
            self.log.pop_front();
        }
        self.log.push_back((self.now, note));
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>14.6} ms  {note:?}", self.now.as_millis_f64());
        }
    }

    /// A check failed. The first counts.
    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { what: what(), at: self.now });
        }
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }
}

/// A run.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) context: Context,
    pub(super) feeds: Vec<SimFeed>,
    pub(super) intakes: Vec<SimIntake>,
    pub(super) points: Vec<SimPoint>,
    /// Whether everything was told to end.
    pub(super) closing: bool,
    pub(super) events: u64,
}

/// After its sources' end, so long may a run take until its feeds are told to stop.
const PATIENCE: Duration = Duration::from_secs(1_000);
/// The most events of a run: beyond, something goes round in circles.
const MOST_EVENTS: u64 = 20_000_000;

impl World {
    pub(super) fn new(scenario: Scenario, planted: Option<Planted>, trace: bool) -> Self {
        let mut context = Context {
            now: MonoTime::ZERO,
            // Not the generator's own sequence.
            rng: Rng::with_seed(scenario.seed ^ 0x5eed_0f7e_a51e_4a11),
            violation: None,
            touched_feeds: Vec::new(),
            touched_points: Vec::new(),
            woken: vec![false; scenario.feeds.len()],
            planted,
            seen: Seen::default(),
            queue: BinaryHeap::new(),
            pushed: 0,
            lateness: scenario.lateness,
            log: VecDeque::new(),
            trace: trace.then(String::new),
        };
        for (id, feed) in scenario.feeds.iter().enumerate() {
            context.at(time(feed.comes), Event::Comes(id));
            if let Some((at, drain)) = feed.leaves {
                context.at(time(at), Event::Leaves(id, drain));
            }
            for (n, (at, _)) in feed.troubles.iter().enumerate() {
                context.at(time(*at), Event::Trouble(id, n));
            }
        }
        if let Some((at, drain)) = scenario.shutdown {
            context.at(time(at), Event::Shutdown(drain));
        }
        context.at(time(scenario.span + PATIENCE), Event::TimeIsUp);
        let points = scenario.points.iter().enumerate();
        let points: Vec<_> =
            points.map(|(id, plan)| SimPoint::new(id, plan.clone(), scenario.feeds.len(), planted)).collect();
        let intakes = scenario.feeds.iter().enumerate().map(|(id, plan)| SimIntake::new(id, plan)).collect();
        let end = time(scenario.span);
        let feeds =
            scenario.feeds.iter().enumerate().map(|(id, plan)| SimFeed::new(id, plan.clone(), end, &points)).collect();
        let mut world = Self { scenario, context, feeds, intakes, points, closing: false, events: 0 };
        for point in &mut world.points {
            point.start(&mut world.context);
        }
        world
    }

    /// Runs until nothing more is to come.
    ///
    /// # Errors
    /// A check failed.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(Scheduled { when: (at, ..), event })) = self.context.queue.pop() {
            debug_assert!(at >= self.context.now, "time goes forward");
            self.context.now = at;
            self.events += 1;
            self.happens(event);
            if self.context.violation.is_none() {
                self.check_touched();
            }
            if self.events > MOST_EVENTS {
                self.context.fail(|| "it comes to no end".to_owned());
            }
            if let Some(violation) = self.context.violation.take() {
                return Err(violation);
            }
        }
        self.check_rest();
        self.context.violation.take().map_or(Ok(()), Err)
    }

    fn happens(&mut self, event: Event) {
        let Self { context: ctx, feeds, intakes, points, .. } = self;
        if !matches!(event, Event::FeedTimer(_) | Event::InstanceTimer(..)) {
            ctx.note(Note::Event(event));
        }
        match event {
            Event::Comes(f) => {
                if !self.closing {
                    feeds[f].comes(ctx, points);
                }
            }
            Event::Leaves(f, drain) => feeds[f].stop(ctx, &mut intakes[f], drain, DropReason::FeedStopped),
            Event::Shutdown(drain) => self.shutdown(drain, DropReason::Shutdown),
            Event::TimeIsUp => self.time_is_up(),
            Event::Source(f) => feeds[f].source(ctx, &mut intakes[f]),
            Event::Trouble(f, n) => match feeds[f].plan().troubles[n].1 {
                SourceTrouble::Paused(lasts) => {
                    feeds[f].pause(ctx, &mut intakes[f], true);
                    ctx.after(lasts, Event::Resume(f));
                }
                SourceTrouble::Lost(lasts) => feeds[f].source_away(ctx, lasts, true),
                SourceTrouble::Silent(lasts) => feeds[f].source_away(ctx, lasts, false),
            },
            Event::Resume(f) => feeds[f].pause(ctx, &mut intakes[f], false),
            Event::Feed(f) => {
                ctx.woken[f] = false;
                feeds[f].run(ctx, &mut intakes[f], points);
            }
            Event::FeedTimer(f) => feeds[f].timer(ctx, &mut intakes[f], points),
            Event::Stage(f) => feeds[f].stage_returns(ctx, &mut intakes[f], points),
            Event::Sink(f) => feeds[f].sink(ctx),
            Event::Result(completion) => feeds[completion.feed].result(ctx, completion),
            Event::Instance(p, i) => points[p].run(ctx, intakes, i),
            Event::InstanceTimer(p, i) => points[p].timer(ctx, intakes, i),
            Event::Call(p, i, call) => points[p].call_returns(ctx, intakes, i, call),
        }
        // As the runtime does: batch points go once the feeds have gone.
        if self.closing && self.feeds.iter().all(SimFeed::is_gone) {
            for point in &mut self.points {
                point.drain(&mut self.context);
            }
        }
    }

    /// Only a processor that never returns is an excuse for feeds that still run.
    fn time_is_up(&mut self) {
        let hangs = |p: &SimPoint| matches!(p.plan.processor.faults.hangs, Some((_, None)));
        let excused = self.points.iter().any(hangs);
        let stuck = self.feeds.iter().position(|f| !f.is_gone());
        self.context.check(excused || stuck.is_none(), || format!("feed {stuck:?} comes to no end"));
        self.shutdown(Duration::ZERO, DropReason::FeedStopped);
    }

    fn shutdown(&mut self, drain: Duration, reason: DropReason) {
        self.closing = true;
        for (feed, intake) in self.feeds.iter_mut().zip(&mut self.intakes) {
            feed.stop(&mut self.context, intake, drain, reason);
        }
    }

    /// The latest events, and the whole trace where it was wanted.
    pub(super) fn story(&self) -> String {
        if let Some(trace) = &self.context.trace {
            return trace.clone();
        }
        let mut story = String::new();
        for (at, note) in &self.context.log {
            let _ = writeln!(story, "{:>14.6} ms  {note:?}", at.as_millis_f64());
        }
        story
    }
}
