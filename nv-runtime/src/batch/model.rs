//! The protocol between those who submit to a batch point, its instances and its owner, in a model checker.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nv_core::{Clock as _, Frame, FrameHeader, FramePool, MonoTime, PixelFormat, Size};
use nv_perception::{BatchCapabilities, BatchEntry, BatchProcessor, StageError, StageOutput};
use shuttle::thread::{self, JoinHandle};

use super::core::Verdict;
use super::instance::{Instance, instance_thread};
use super::point::Batch;
use super::route::BatchReport;
use super::{
    BatchConfig, BatchError, Completion, EntryKey, LaneKey, LaneKind, Point, Refusal, Reply, empty_perception,
};
use crate::feed::Inbox;
use crate::health::HealthHub;
use crate::model::{check, check_fails};
use crate::sync::{Arc, SystemClock, lose_notification, time_passes};

/// Finds nothing.
struct Blind;

impl BatchProcessor for Blind {
    fn capabilities(&self) -> BatchCapabilities {
        BatchCapabilities::default()
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        batch.iter_mut().for_each(|entry| entry.finish(Ok(StageOutput::default())));
        Ok(())
    }
}

fn frame() -> Frame {
    let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
    FramePool::new(0).take(header).unwrap().freeze()
}

/// A point without instances.
fn point(config: BatchConfig) -> Arc<Point> {
    let clock = Arc::new(SystemClock::new());
    let health = HealthHub::new(clock.clone(), 8);
    Arc::new(Point::new("detector".into(), config, clock, health, None))
}

/// Small batches that are never held.
fn at_once(max_batch_size: usize, instances: usize) -> BatchConfig {
    BatchConfig { max_batch_size, instances, max_latency: Duration::ZERO, ..BatchConfig::default() }
}

fn start(point: &Arc<Point>) -> Vec<JoinHandle<()>> {
    let start = |index| {
        let instance = Instance::new(point.clone(), Arc::new(|| Ok(Box::new(Blind))), index);
        let (started, _) = crossbeam_channel::unbounded();
        thread::spawn(move || instance_thread(&instance, &started))
    };
    (0..point.config.instances).map(start).collect()
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|t| assert!(t.join().is_ok()));
}

/// A feed at a point: what it has submitted and how often each of it was answered.
struct Feed {
    point: Arc<Point>,
    lane: LaneKey,
    inbox: Arc<Inbox<Completion>>,
    /// Taken out of the inbox and not looked at yet.
    taken: VecDeque<Completion>,
    answers: HashMap<EntryKey, usize>,
}

impl Feed {
    fn new(point: &Arc<Point>) -> Self {
        let lane = point.attach(None, LaneKind::File, 1, Arc::default());
        let (inbox, taken) = (Arc::new(Inbox::new()), VecDeque::new());
        Self { point: point.clone(), lane, inbox, taken, answers: HashMap::new() }
    }

    fn submit(&mut self) -> Result<(), Refusal> {
        self.submit_before(None)
    }

    /// Submits an entry; the next one is due at `next_due`.
    fn submit_before(&mut self, next_due: Option<MonoTime>) -> Result<(), Refusal> {
        let entry = BatchEntry::new("feed".into(), 0, frame(), None, empty_perception());
        let reply = Reply { inbox: self.inbox.clone(), step: 0 };
        let key = self.point.submit(self.lane, entry, reply, next_due)?;
        // It may have been answered before it is known.
        self.answers.entry(key).or_default();
        Ok(())
    }

    /// Waits for the next answer.
    fn answer(&mut self) -> Result<StageOutput, BatchError> {
        let completion = loop {
            if let Some(completion) = self.taken.pop_front() {
                break completion;
            }
            self.inbox.wait(None);
            self.look();
        };
        *self.answers.entry(completion.key).or_default() += 1;
        completion.result
    }

    fn look(&mut self) {
        let mut taken = Vec::new();
        self.inbox.take(&mut taken);
        self.taken.extend(taken);
    }

    fn is_waiting(&self) -> bool {
        self.answers.values().any(|n| *n == 0)
    }

    /// Waits for the answers that are missing; checks that there is one for each entry.
    fn finish(&mut self) {
        while self.is_waiting() {
            let _ = self.answer();
        }
        self.look();
        assert!(self.taken.is_empty(), "answered twice");
        assert!(self.answers.values().all(|n| *n == 1), "answered once: {:?}", self.answers);
    }
}

/// Nothing is left at a point that is done.
fn check_empty(point: &Point) {
    let metrics = point.metrics();
    assert_eq!((metrics.pending, metrics.in_dispatch), (0, 0));
}

/// Two feeds with a slot each, which submit as soon as they see a result.
fn submit_again(start: impl Fn(&Arc<Point>) -> Vec<JoinHandle<()>>) {
    let point = point(at_once(1, 1));
    let feeds = [Feed::new(&point), Feed::new(&point)];
    let instances = start(&point);
    let feeds = feeds.map(|mut feed| {
        thread::spawn(move || {
            for _ in 0..3 {
                assert_eq!(feed.submit(), Ok(()), "a slot is free before its result can be seen");
                assert!(feed.answer().is_ok());
            }
            feed.finish();
        })
    });
    join(feeds.into());
    point.drain();
    join(instances);
    check_empty(&point);
}

#[test]
fn a_slot_is_free_before_its_result_can_be_seen() {
    check(|| submit_again(start));
}

/// An instance that gives its results out before it frees their slots.
fn start_hasty(point: &Arc<Point>) -> Vec<JoinHandle<()>> {
    let point = point.clone();
    let run = move || {
        point.instance_started(BatchCapabilities::default());
        let (mut batch, mut wanted) = (Batch::default(), Vec::new());
        while point.next_batch(0, &mut batch).is_some() {
            let keys: Vec<_> = batch.taken.iter().map(|t| (t.key, Verdict::Computed)).collect();
            for taken in batch.taken.drain(..) {
                taken.payload.reply.send((taken.key, taken.part), Ok(StageOutput::default()), None);
            }
            let report = BatchReport { instance: 0, took: Duration::ZERO, retried: false, error: None };
            point.close_batch(keys.into_iter(), &report, &mut wanted);
        }
    };
    vec![thread::spawn(run)]
}

#[test]
fn a_slot_that_is_freed_too_late_is_noticed() {
    check_fails("NoSlot", || submit_again(start_hasty));
}

/// Two instances that go to sleep while two feeds submit.
fn submit_to_sleepers() {
    let point = point(at_once(2, 2));
    let feeds = [Feed::new(&point), Feed::new(&point)];
    let instances = start(&point);
    let feeds = feeds.map(|mut feed| {
        thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!((feed.submit(), feed.submit()), (Ok(()), Ok(())));
                feed.finish();
            }
        })
    });
    join(feeds.into());
    point.drain();
    join(instances);
    check_empty(&point);
}

#[test]
fn what_is_submitted_while_instances_go_to_sleep_is_dispatched() {
    check(submit_to_sleepers);
}

#[test]
fn an_instance_that_is_not_woken_is_noticed() {
    check_fails("deadlock", || {
        lose_notification(Some(0));
        submit_to_sleepers();
    });
}

/// Two instances, and two feeds each of which is expected while the other waits.
fn submit_while_expected() {
    let config = BatchConfig { max_latency: Duration::from_millis(2), ..at_once(4, 2) };
    let point = point(config);
    let feeds = [Feed::new(&point), Feed::new(&point)];
    let instances = start(&point);
    let feeds = feeds.map(|mut feed| {
        thread::spawn(move || {
            for _ in 0..3 {
                let next_due = feed.point.clock.now() + Duration::from_millis(1);
                assert_eq!(feed.submit_before(Some(next_due)), Ok(()));
                feed.finish();
            }
        })
    });
    join(feeds.into());
    point.drain();
    join(instances);
    check_empty(&point);
}

#[test]
fn what_is_held_for_others_is_dispatched_when_its_time_is_up() {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    check(|| {
        time_passes(submit_while_expected);
        HELD.fetch_add(usize::from(SystemClock::new().now() > MonoTime::ZERO), Ordering::Relaxed);
    });
    assert!(HELD.load(Ordering::Relaxed) > 0, "under some schedules an instance waits until the hold is over");
}

#[test]
fn an_instance_without_an_alarm_is_noticed() {
    // Time stands still: nobody ever looks again.
    check_fails("deadlock", submit_while_expected);
}

/// Feeds that submit until they are refused, while `end` ends the point.
fn submit_until_refused(config: BatchConfig, end: impl Fn(&Point) + Send + 'static) {
    let point = point(config);
    let feeds = [Feed::new(&point), Feed::new(&point)];
    let instances = start(&point);
    let feeds = feeds.map(|mut feed| {
        thread::spawn(move || {
            // As if for ever: it ends before the point does under some schedules only.
            for _ in 0..6 {
                match feed.submit() {
                    Ok(()) => {}
                    Err(Refusal::NoSlot) => drop(feed.answer()),
                    Err(Refusal::NoLane) => break,
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            feed.finish();
        })
    });
    end(&point);
    join(instances);
    join(feeds.into());
    check_empty(&point);
}

#[test]
fn what_is_submitted_while_the_point_ends_is_refused_or_answered_once() {
    for instances in [1, 2] {
        check(move || submit_until_refused(at_once(2, instances), Point::drain));
        check(move || submit_until_refused(at_once(2, instances), Point::stop));
        check(move || {
            submit_until_refused(at_once(1, instances), |point| {
                point.drain();
                point.stop();
            });
        });
    }
}
