//! Many feeds that come and go, live and from files, with everything failing now and then, from a seed: whatever happens, each
//! frame has its own result and one fate, nobody waits for ever, and nothing is kept.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nv_core::{
    BBox, CancelToken, Frame, FrameError, FrameHeader, FrameMemory, HostView, MemoryKind, Name, PixelFormat, PlaneView,
    Pts, Size,
};
use nv_perception::{
    Attribute, BatchCapabilities, BatchEntry, BatchProcessor, Capabilities, DataKind, FrameSource, Object, ObjectId,
    OutputSink, Region, SinkError, SinkErrorKind, SourceError, SourceErrorKind, SourceEvent, SourceItem, StageError,
    StageErrorKind, StageOutput, StreamInfo, Track, TrackId, TrackState, Value,
};
use nv_runtime::{
    BatchConfig, BatchRequest, QueuePolicy, RegionOptions, RestartConfig, SinkConfig, StageFactory, StepErrorPolicy,
    StepOptions,
};
use nv_tests::{scene_source, stage};

use super::decisions::recorded;
use super::*;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone)]
struct Luck(Arc<AtomicU64>);

impl Luck {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Less than `n`.
    fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One that goes its own way from here.
    fn fork(&self) -> Self {
        Self::new(self.below(u64::MAX))
    }
}

/// Ends the call as a panic does, without the noise.
fn stumble() -> ! {
    resume_unwind(Box::new("stumbled"))
}

/// Frame memory that is counted while it is held.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FrameMemory for Held {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Host
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Ok(HostView::new([PlaneView { data: &[0; 4], stride: 2 }]))
    }
}

fn numbered(n: u64, held: &Arc<AtomicUsize>) -> Frame {
    let header =
        FrameHeader { pts: Pts::from_nanos(n as i64), ..FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8) };
    Frame::new(header, Arc::new(Held::new(held))).unwrap()
}

struct Camera {
    luck: Luck,
    held: Arc<AtomicUsize>,
    live: bool,
    frames: u64,
    next: u64,
    info: StreamInfo,
    cancel: CancelToken,
}

struct Cameras {
    luck: Luck,
    held: Arc<AtomicUsize>,
}

impl SourceFactory for Cameras {
    fn schemes(&self) -> &[&str] {
        &["stress"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        match self.luck.below(40) {
            0 => return Err(SourceError::new(SourceErrorKind::NotFound, &spec.url, "not there")),
            1 => stumble(),
            _ => {}
        }
        let live = self.luck.one_in(2);
        let info = StreamInfo { live, ..scene_source(0).open(spec, cancel)?.info().clone() };
        let (luck, held) = (self.luck.fork(), self.held.clone());
        let frames = self.luck.below(80);
        Ok(Box::new(Camera { luck, held, live, frames, next: 0, info, cancel: cancel.clone() }))
    }
}

impl FrameSource for Camera {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        match self.luck.below(300) {
            0 => return Err(SourceError::new(SourceErrorKind::Damaged, "stress:", "it broke")),
            1 => stumble(),
            2..10 => return Ok(SourceItem::Event(SourceEvent::Gap { count: 2 })),
            10..20 => return Ok(SourceItem::Event(SourceEvent::Discontinuity)),
            20..30 => return Ok(SourceItem::Event(SourceEvent::FormatChanged)),
            30..40 => return Ok(SourceItem::TimedOut),
            // A camera that stands still for a while: only its cancelling ends it sooner.
            40..43 if self.live => {
                self.cancel.wait_timeout(timeout.min(Duration::from_millis(5)));
                return Ok(SourceItem::TimedOut);
            }
            _ => {}
        }
        if self.next == self.frames {
            return Ok(SourceItem::End);
        }
        self.next += 1;
        Ok(SourceItem::Frame(numbered(self.next - 1, &self.held)))
    }
}

/// What any step makes of a frame: so many objects that say whose and which it is.
fn about(feed: &Name, frame: &Frame, ObjectId(first): ObjectId, count: u32) -> StageOutput {
    let number = frame.pts().as_nanos() as u32;
    let object = |id| Object {
        class: Some(feed.clone()),
        ..Object::new(ObjectId(id), number, 1.0, BBox::new(0.0, 0.0, 2.0, 2.0))
    };
    StageOutput { objects: Some((first..first + count).map(object).collect()), ..StageOutput::default() }
}

/// What is found in a region: an object in it, and whose its object is.
fn about_region(entry: &BatchEntry, region: &Region) -> StageOutput {
    assert!(entry.perception().object(region.object).is_some(), "a region of nothing");
    let whose = Attribute { object: region.object, name: "whose".into(), value: entry.feed().as_str().into() };
    let found = about(entry.feed(), entry.frame(), entry.next_object_id(), 1);
    StageOutput { attributes: vec![whose], ..found }
}

/// Follows the n-th object of each frame as one and the same.
fn follower() -> StageFactory {
    stage(|input| {
        let track = |(i, o): (usize, &Object)| Track {
            id: TrackId(i as u64),
            state: TrackState::Confirmed,
            object: Some(o.id),
            class_id: o.class_id,
            class: None,
            score: o.score,
            bbox: o.bbox,
            age: Duration::ZERO,
        };
        let tracks = Some(input.perception().objects().iter().enumerate().map(track).collect());
        Ok(StageOutput { tracks, ..StageOutput::default() })
    })
}

struct Unsteady(Luck);

impl BatchProcessor for Unsteady {
    fn capabilities(&self) -> BatchCapabilities {
        let step = Capabilities { produces: vec![DataKind::Objects], ..Capabilities::default() };
        BatchCapabilities { step, ..BatchCapabilities::default() }
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        match self.0.below(120) {
            0 => return Err(StageError::new(StageErrorKind::Transient, "not this time")),
            1 => stumble(),
            2 => return Err(StageError::new(StageErrorKind::DeviceLost, "the device is gone")),
            // So slow that answers are overdue and what waits grows too old, where the point is strict.
            3 => drop(CancelToken::new().wait_timeout(Duration::from_millis(3))),
            4..30 => batch.reverse(),
            _ => {}
        }
        for entry in batch {
            match self.0.below(60) {
                0 => entry.finish(Err(StageError::input("not this one"))),
                1 => {}
                _ => {
                    let found = match entry.region().cloned() {
                        Some(region) => about_region(entry, &region),
                        None => {
                            let count = 1 + self.0.below(20) as u32;
                            about(entry.feed(), entry.frame(), entry.next_object_id(), count)
                        }
                    };
                    entry.finish(Ok(found));
                }
            }
        }
        Ok(())
    }
}

fn unsteady(luck: &Luck) -> ProcessorFactory {
    let (luck, built) = (luck.clone(), AtomicUsize::new(0));
    Arc::new(move || match luck.below(24) {
        // Once it runs, it can't be built anew now and then.
        0 if built.load(Ordering::SeqCst) > 2 => Err(StageError::fatal("no device")),
        _ => {
            built.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(Unsteady(luck.fork())))
        }
    })
}

fn clumsy(luck: &Luck) -> StageFactory {
    let luck = luck.clone();
    stage(move |input| match luck.below(150) {
        0 => Err(StageError::input("not this one")),
        1 => Err(StageError::fatal("worn out")),
        2 => stumble(),
        _ => Ok(about(&input.stream().feed, input.frame(), input.next_object_id(), 1)),
    })
}

/// A sink that keeps what it was given, and fails now and then.
struct Memory {
    luck: Luck,
    seen: Arc<Mutex<Vec<Output>>>,
    steady: bool,
}

impl OutputSink for Memory {
    fn wants_frames(&self) -> bool {
        !self.steady
    }

    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        match self.luck.below(200) {
            _ if self.steady => self.seen.lock().unwrap().push(output.clone()),
            0 => return Err(SinkError::new(SinkErrorKind::Transient, "not this one")),
            1 => return Err(SinkError::new(SinkErrorKind::Failed, "disk full")),
            2 => stumble(),
            _ => {}
        }
        Ok(())
    }
}

struct World<'a> {
    luck: Luck,
    runtime: &'a Runtime,
    points: [BatchHandle; 2],
    held: Arc<AtomicUsize>,
    feeds: Vec<(FeedHandle, Arc<Mutex<Vec<Output>>>)>,
}

impl World<'_> {
    fn add_feed(&mut self, number: u64) {
        let luck = &self.luck;
        let mut pipeline = FeedPipeline::builder();
        let mut looked = false;
        for (place, point) in self.points.iter().enumerate() {
            if luck.one_in(2) {
                pipeline = pipeline.stage(format!("stage {place}"), clumsy(&luck.fork()));
            }
            if luck.one_in(4) {
                continue;
            }
            let mut options = StepOptions::default();
            if luck.one_in(3) {
                options.every = 1 + luck.below(3) as u32;
                // Frames are a nanosecond apart.
                options.max_rate = luck.one_in(2).then_some(4e8);
            }
            if looked && !luck.one_in(3) {
                pipeline = pipeline.stage("follower", follower());
                let refresh = luck.one_in(2).then(|| Duration::from_nanos(1 + luck.below(12)));
                let max_regions = 1 + luck.below(25) as usize;
                options.regions = Some(RegionOptions { max_regions, refresh, ..RegionOptions::default() });
            }
            pipeline = pipeline.batch_with(point, options);
            looked = true;
        }
        let cameras = Cameras { luck: luck.fork(), held: self.held.clone() };
        let spec = SourceSpec::new("stress:");
        let mut config = FeedConfig::new(format!("feed {number}"), Arc::new(cameras), spec, pipeline.build().unwrap());
        config.restart = RestartConfig::never();
        config.queue_capacity = 1 + luck.below(5) as usize;
        config.queue_policy =
            [None, Some(QueuePolicy::DropOldest), Some(QueuePolicy::DropNewest), Some(QueuePolicy::Block)]
                [luck.below(4) as usize];
        config.freshness = luck.one_in(3).then_some(Duration::ZERO);
        config.max_in_pipeline = luck.one_in(4).then(|| 1 + luck.below(4) as usize);
        config.frame_limit = luck.one_in(8).then(|| luck.below(40));
        if luck.one_in(3) {
            config.on_step_error = StepErrorPolicy::Pass;
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        for steady in [true, false] {
            let sink = Memory { luck: luck.fork(), seen: seen.clone(), steady };
            // The one that is looked at has room for all.
            let queue_capacity = if steady { 200 } else { 1 + luck.below(3) as usize };
            config.sinks.push(SinkConfig { queue_capacity, ..SinkConfig::new("memory", Box::new(sink)) });
        }
        self.feeds.push((self.runtime.add_feed(config).unwrap(), seen));
    }

    /// Does something to a feed that somebody might do.
    fn meddle(&self) {
        let (feed, _) = &self.feeds[self.luck.below(self.feeds.len() as u64) as usize];
        match self.luck.below(8) {
            0 => feed.stop(Duration::ZERO),
            1 => feed.stop(Duration::from_micros(self.luck.below(3000))),
            2 => feed.stop(LONG),
            3 => drop(self.runtime.remove_feed(feed.name(), Duration::from_micros(self.luck.below(3000)))),
            _ => drop(feed.wait_timeout(Duration::from_micros(self.luck.below(3000)))),
        }
        let frames = feed.stats().frames;
        assert!(frames.is_balanced(), "{frames:?}");
    }

    fn check_ended(&self) {
        for (feed, seen) in &self.feeds {
            let end = feed.wait_timeout(LONG).unwrap_or_else(|| panic!("{feed:?} has not ended"));
            assert_ne!(end.as_str(), "internal", "{end}");
            let stats = feed.stats();
            let frames = &stats.frames;
            assert!(frames.is_balanced() && frames.inside == 0, "{frames:?}");
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert_eq!(seen.len() as u64, frames.emitted, "{stats:?}");
            assert!(seen.is_sorted_by(|a, b| a.frame.seq() < b.frame.seq()), "outputs leave in order");
            for output in seen {
                let mut ids: Vec<_> = output.perception.objects().iter().map(|o| o.id).collect();
                ids.sort_unstable();
                assert!(ids.is_sorted_by(|a, b| a < b), "two objects with one id: {ids:?}");
                for Attribute { object, value, .. } in output.perception.attributes() {
                    assert!(ids.binary_search(object).is_ok(), "an attribute of nothing");
                    assert_eq!(*value, Value::from(output.feed.as_str()), "what is known of another feed's object");
                }
                for object in output.perception.objects() {
                    assert_eq!(object.class.as_ref(), Some(&output.feed), "a result of another feed");
                    assert_eq!(i64::from(object.class_id), output.frame.pts().as_nanos(), "a result of another frame");
                }
            }
            for sink in &stats.sinks {
                assert_eq!(sink.taken + sink.failed + sink.passed_by, frames.emitted, "{sink:?}");
            }
        }
    }
}

/// The kinds of cores whose decisions were recorded and made again, for every other seed.
fn run(seed: u64) -> Vec<String> {
    let luck = Luck::new(seed);
    let recorded = (seed % 2 == 1).then(recorded);
    let (runtime, recording) = recorded.map_or_else(|| (runtime(), None), |(r, recording)| (r, Some(recording)));
    let point = |name: &str| {
        let config = BatchConfig {
            max_batch_size: 1 + luck.below(6) as usize,
            instances: 1 + luck.below(3) as usize,
            max_latency: Duration::from_micros(luck.below(500)),
            max_in_flight_per_feed: 1 + luck.below(4) as usize,
            max_pending: 8 + luck.below(40) as usize,
            max_regions_per_frame: 1 + luck.below(30) as usize,
            ..BatchConfig::default()
        };
        let config = match luck.one_in(2) {
            true => {
                BatchConfig { response_timeout: Duration::from_millis(2), max_age: Duration::from_millis(2), ..config }
            }
            false => config,
        };
        runtime.create_batch(name, unsteady(&luck), config).unwrap()
    };
    let points = [point("first"), point("second")];
    let held = Arc::new(AtomicUsize::new(0));
    let mut world = World { luck: luck.clone(), runtime: &runtime, points, held: held.clone(), feeds: Vec::new() };
    std::thread::scope(|scope| {
        let (asked, luck, held) = (world.points[0].clone(), luck.fork(), held.clone());
        scope.spawn(move || {
            for n in 0..100 {
                if let Ok(found) = asked.submit_and_wait(BatchRequest::new("direct", numbered(n, &held))) {
                    assert_eq!(u64::from(found.objects.unwrap()[0].class_id), n);
                }
                if luck.one_in(10) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..40 {
            world.add_feed(number);
            for _ in 0..world.luck.below(4) {
                world.meddle();
            }
        }
        // Now and then the runtime goes while everybody is at work.
        if world.luck.one_in(3) {
            assert_eq!(runtime.shutdown(Duration::ZERO).abandoned, Vec::<String>::new());
        }
    });
    world.check_ended();
    shut_down(&runtime);
    for point in &world.points {
        let metrics = point.metrics();
        assert_eq!((metrics.pending, metrics.in_dispatch), (0, 0), "{metrics:?}");
    }
    assert_eq!(held.load(Ordering::SeqCst), 0, "frames are still held");
    recording.map(|recording| recording.check().cores.into_keys().collect()).unwrap_or_default()
}

#[test]
fn whatever_happens_each_frame_has_its_own_result_and_one_fate() {
    if let Ok(seed) = std::env::var("NV_STRESS_SEED") {
        run(seed.parse().expect("NV_STRESS_SEED is a number"));
        return;
    }
    let seeds = if std::env::var_os("NV_TEST_DEEP").is_some() { 0..200 } else { 0..12 };
    let mut replayed = BTreeSet::new();
    for seed in seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(kinds) => replayed.extend(kinds),
            Err(_) => panic!("run it alone: NV_STRESS_SEED={seed} cargo test -p nv-tests --test it stress::whatever"),
        }
    }
    let all = ["attempt", "batch", "cascade", "feed", "gate", "intake", "reconnect", "restarts"];
    assert!(replayed.iter().eq(all), "{replayed:?}");
}

#[test]
fn files_that_come_and_go_cost_each_other_nothing() {
    let runtime = runtime();
    let counting = || {
        nv_tests::processor(|batch: &mut [BatchEntry]| {
            batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
            Ok(())
        })
    };
    let first = runtime.create_batch("first", counting(), BatchConfig::default()).unwrap();
    let second = BatchConfig { max_batch_size: 3, instances: 2, max_pending: 12, ..BatchConfig::default() };
    let second = runtime.create_batch("second", counting(), second).unwrap();
    let mut feeds = Vec::new();
    for number in 0..24u64 {
        let pipeline = FeedPipeline::builder().batch(&first).batch(&second).build().unwrap();
        // The first ones stay while the others come and go, and the slots of all change.
        let frames = if number < 4 { 400 } else { 10 };
        feeds.push((feed(&runtime, &format!("file {number}"), scene_source(frames), pipeline, |_| ()).0, frames));
        if number >= 10 {
            let (feed, frames) = &feeds[number as usize - 4];
            check_end(feed, "end_of_stream");
            check_frames(feed, *frames, &[]);
            runtime.remove_feed(feed.name(), LONG);
        }
    }
    for (feed, frames) in &feeds {
        check_end(feed, "end_of_stream");
        check_frames(feed, *frames, &[]);
    }
    shut_down(&runtime);
}
