//! Batch points that run on some frames only, and those that look at what an earlier step found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use nv_core::{BBox, Name};
use nv_perception::testing::read_frame_number;
use nv_perception::{
    Attribute, BatchEntry, Capabilities, DataKind, Object, ObjectId, Perception, Signal, Stage, StageError, StageInput,
    StageOutput, Track, TrackId, TrackState, Value,
};
use nv_runtime::{
    BatchConfig, BatchHandle, PipelineError, RegionOptions, SkipCondition, StageFactory, StepErrorPolicy, StepOptions,
};
use nv_tests::{fed_source, number_processor, processor, scene_source};

use super::*;

/// A stage that says what it makes.
#[derive(Clone)]
struct Declared<F> {
    produces: Vec<DataKind>,
    process: F,
}

impl<F: FnMut(&StageInput<'_>) -> StageOutput + Send> Stage for Declared<F> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { produces: self.produces.clone(), ..Capabilities::default() }
    }

    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        Ok((self.process)(input))
    }
}

fn declared<F>(produces: Vec<DataKind>, process: F) -> StageFactory
where
    F: FnMut(&StageInput<'_>) -> StageOutput + Send + Sync + Clone + 'static,
{
    Arc::new(move || Ok(Box::new(Declared { produces: produces.clone(), process: process.clone() })))
}

/// A detector that finds `count` persons in each frame, each larger than the one before.
fn persons(count: u32) -> StageFactory {
    declared(vec![DataKind::Objects], move |input| {
        let ObjectId(first) = input.next_object_id();
        let person = |i: u32| Object {
            class: Some("person".into()),
            ..Object::new(ObjectId(first + i), 0, 0.9, BBox::new(0.0, 0.0, 10.0 + i as f32, 20.0))
        };
        StageOutput { objects: Some((0..count).map(person).collect()), ..StageOutput::default() }
    })
}

/// A tracker for which the n-th object is always the same.
fn tracker() -> StageFactory {
    declared(vec![DataKind::Tracks], |input| {
        let track = |o: &Object| Track {
            id: TrackId(u64::from(o.id.0)),
            state: TrackState::Confirmed,
            object: Some(o.id),
            class_id: o.class_id,
            class: o.class.clone(),
            score: o.score,
            bbox: o.bbox,
            age: Duration::ZERO,
        };
        let tracks = Some(input.perception().objects().iter().map(track).collect());
        StageOutput { tracks, ..StageOutput::default() }
    })
}

/// How often a processor has looked at each object, and at each frame.
type Looks = Arc<Mutex<BTreeMap<(u32, u16), u32>>>;

/// A processor that says of the object of each region that it is seen in this frame, and finds a badge in it. What `fails`
/// says yes to, by object and frame, fails.
fn badges(looks: &Looks, fails: impl Fn(u32, u16) -> bool + Send + Sync + Clone + 'static) -> ProcessorFactory {
    let looks = looks.clone();
    processor(move |batch: &mut [BatchEntry]| {
        for entry in batch {
            let region = entry.region().expect("it is given regions").clone();
            let number = read_frame_number(entry.frame()).expect("every frame carries one");
            *looks.lock().unwrap().entry((region.object.0, number)).or_default() += 1;
            if fails(region.object.0, number) {
                entry.finish(Err(StageError::input("told to fail")));
                continue;
            }
            assert_eq!(entry.perception().object(region.object).expect("it exists").bbox, region.bbox);
            let badge = Object::new(entry.next_object_id(), 7, 1.0, region.bbox);
            let seen = Attribute { object: region.object, name: "seen".into(), value: i64::from(number).into() };
            entry.finish(Ok(StageOutput {
                objects: Some(vec![badge]),
                attributes: vec![seen],
                ..StageOutput::default()
            }));
        }
        Ok(())
    })
}

fn point(runtime: &Runtime, name: &str, processor: ProcessorFactory) -> BatchHandle {
    let config = BatchConfig { max_in_flight_per_feed: 1, max_batch_size: 8, max_age: LONG, ..BatchConfig::default() };
    runtime.create_batch(name, processor, config).unwrap()
}

fn on_persons() -> RegionOptions {
    RegionOptions { from: Some("persons".into()), classes: vec!["person".into()], ..RegionOptions::default() }
}

/// In which frame each object was last looked at, by object.
fn seen(perception: &Perception) -> BTreeMap<u32, i64> {
    let number = |a: &Attribute| (a.object.0, if let Value::Int(n) = a.value { n } else { -1 });
    perception.attributes().iter().map(number).collect()
}

/// The frames of `outputs` in which the number processor ran.
fn ran(outputs: &Receiver<Output>) -> Vec<u64> {
    outputs.try_iter().filter(|o| o.perception.has_objects()).map(|o| o.frame.seq()).collect()
}

#[test]
fn every_nth_frame_is_looked_at_and_all_leave_in_order() {
    for live in [false, true] {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let options = StepOptions { every: 3, ..StepOptions::default() };
        let pipeline = FeedPipeline::builder().batch_with(&detector, options).build().unwrap();
        let (feeder, source) = fed_source(live);
        let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |c| c.queue_capacity = 16);
        (0..10).for_each(|n| feeder.frame(n));
        drop(feeder);
        feed.wait();
        check_frames(&feed, 10, &[]);
        let outputs: Vec<_> = outputs.try_iter().collect();
        assert_eq!(outputs.iter().map(|o| o.frame.seq()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let ran: Vec<_> = outputs.iter().filter(|o| o.perception.has_objects()).map(|o| o.frame.seq()).collect();
        assert_eq!(ran, [0, 3, 6, 9], "live: {live}");
        assert_eq!(detector.metrics().processed, 4);
        shut_down(&runtime);
    }
}

#[test]
fn a_rate_is_kept_in_the_streams_own_time() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let options = StepOptions { max_rate: Some(5.0), ..StepOptions::default() };
    let pipeline = FeedPipeline::builder().batch_with(&detector, options).build().unwrap();
    // Three seconds, however fast they are read.
    let (feed, outputs) = feed(&runtime, "file", scene_source(90), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 90, &[]);
    assert_eq!(ran(&outputs), (0..15).map(|i| i * 6).collect::<Vec<_>>());
    shut_down(&runtime);
}

#[test]
fn a_signal_keeps_a_point_from_running() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let still = declared(vec![DataKind::Signal("still".into())], |input| {
        let said = match input.frame().seq() {
            3 => Some(true),
            7 => Some(false),
            _ => None,
        };
        StageOutput { signals: said.map(|v| Signal::new("still", v)).into_iter().collect(), ..StageOutput::default() }
    });
    let skip_while = vec![SkipCondition::SignalIs { signal: "still".into(), value: true.into() }];
    let options = StepOptions { skip_while, ..StepOptions::default() };
    let pipeline = || FeedPipeline::builder().stage("motion", still.clone());
    let (feed, outputs) = {
        let pipeline = pipeline().batch_with(&detector, options.clone()).build().unwrap();
        feed(&runtime, "file", scene_source(10), pipeline, |_| ())
    };
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 10, &[]);
    assert_eq!(ran(&outputs), [0, 1, 2, 7, 8, 9]);
    let without = FeedPipeline::builder().batch_with(&detector, options).build().unwrap_err();
    assert!(matches!(without, PipelineError::Graph(_)), "{without}: no step gives that signal");
    shut_down(&runtime);
}

#[test]
fn twenty_regions_ride_under_one_slot() {
    let runtime = runtime();
    let looks = Looks::default();
    let faces = point(&runtime, "faces", badges(&looks, |_, _| false));
    let pipeline = || {
        let options = StepOptions::on_regions(on_persons());
        FeedPipeline::builder().stage("persons", persons(20)).batch_with(&faces, options).build().unwrap()
    };
    // Live ones, since a file feed has as many slots as it takes to fill the batches.
    let feeds = ["a", "b"].map(|name| {
        let (feeder, source) = fed_source(true);
        let fed = feed(&runtime, name, source, pipeline(), |c| c.queue_capacity = 16);
        (0..12).for_each(|n| feeder.frame(n));
        fed
    });
    for (feed, outputs) in &feeds {
        feed.wait();
        check_frames(feed, 12, &[]);
        for (n, output) in (0..).zip(outputs.try_iter()) {
            let p = &output.perception;
            assert_eq!(seen(p), (0..20).map(|id| (id, n)).collect());
            let badges: BTreeMap<u32, u32> =
                p.objects()[20..].iter().map(|o| (o.id.0, o.parent.expect("it was found in a person").0)).collect();
            assert_eq!(badges.keys().copied().collect::<Vec<_>>(), (20..40).collect::<Vec<_>>());
            let mut parents: Vec<_> = badges.into_values().collect();
            parents.sort_unstable();
            assert_eq!(parents, (0..20).collect::<Vec<_>>());
            assert!(p.objects()[20..].iter().all(|o| o.source == "faces"));
        }
    }
    assert!(looks.lock().unwrap().values().all(|n| *n == 2), "each frame of each feed once");
    assert_eq!(faces.metrics().processed, 2 * 12 * 20);
    shut_down(&runtime);
}

#[test]
fn frames_without_regions_pass() {
    let runtime = runtime();
    let faces = point(&runtime, "faces", badges(&Looks::default(), |_, _| false));
    let options = StepOptions::on_regions(RegionOptions { min_score: 0.95, ..on_persons() });
    let pipeline = FeedPipeline::builder().stage("persons", persons(3)).batch_with(&faces, options).build().unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(5), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 5, &[]);
    assert!(outputs.try_iter().all(|o| o.perception.objects().len() == 3));
    assert_eq!(faces.metrics().submitted, 0);
    let step = &feed.stats().steps[1];
    assert_eq!((step.processed, step.failed, step.skipped), (5, 0, 0), "that there is nothing to see is a result");
    shut_down(&runtime);
}

#[test]
fn a_frame_counts_once_however_many_of_its_regions_fail() {
    for policy in [StepErrorPolicy::Pass, StepErrorPolicy::Drop] {
        let runtime = runtime();
        // Two of three persons, in every other frame.
        let faces = point(&runtime, "faces", badges(&Looks::default(), |id, frame| id < 2 && frame % 2 == 0));
        let options = StepOptions::on_regions(on_persons());
        let pipeline =
            FeedPipeline::builder().stage("persons", persons(3)).batch_with(&faces, options).build().unwrap();
        let (feed, _) = feed(&runtime, "file", scene_source(6), pipeline, |c| c.on_step_error = policy);
        check_end(&feed, "end_of_stream");
        let step = &feed.stats().steps[1];
        assert_eq!((step.processed, step.failed), (3, 3), "{policy:?}");
        shut_down(&runtime);
    }
}

#[test]
fn the_largest_are_looked_at_where_there_are_too_many() {
    let runtime = runtime();
    let looks = Looks::default();
    let faces = point(&runtime, "faces", badges(&looks, |_, _| false));
    let options = StepOptions::on_regions(RegionOptions { max_regions: 2, ..on_persons() });
    let pipeline = FeedPipeline::builder().stage("persons", persons(5)).batch_with(&faces, options).build().unwrap();
    let (feed, _) = feed(&runtime, "file", scene_source(2), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    assert_eq!(looks.lock().unwrap().keys().copied().collect::<Vec<_>>(), [(3, 0), (3, 1), (4, 0), (4, 1)]);
    shut_down(&runtime);
}

#[test]
fn a_track_is_looked_at_once_a_second_and_keeps_what_was_said() {
    let runtime = runtime();
    let looks = Looks::default();
    let faces = point(&runtime, "faces", badges(&looks, |_, _| false));
    let options = StepOptions::on_regions(RegionOptions { refresh: Some(Duration::from_secs(1)), ..on_persons() });
    let pipeline = FeedPipeline::builder()
        .stage("persons", persons(3))
        .stage("track", tracker())
        .batch_with(&faces, options)
        .build()
        .unwrap();
    // 30 frames a second.
    let (feed, outputs) = feed(&runtime, "file", scene_source(65), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 65, &[]);
    let looks = looks.lock().unwrap();
    for person in 0..3 {
        let frames: Vec<_> = looks.keys().filter(|(id, _)| *id == person).map(|(_, frame)| *frame).collect();
        assert_eq!(frames, [0, 30, 60], "person {person}");
    }
    for (n, output) in (0i64..).zip(outputs.try_iter()) {
        assert_eq!(seen(&output.perception), (0..3).map(|id| (id, n / 30 * 30)).collect(), "frame {n}");
        let badges = output.perception.objects().len() - 3;
        assert_eq!(badges, if n % 30 == 0 { 3 } else { 0 }, "frame {n}: what was found inside is not repeated");
    }
    shut_down(&runtime);
}

#[test]
fn what_is_known_of_a_track_is_said_on_frames_without_a_run_too() {
    let runtime = runtime();
    let faces = point(&runtime, "faces", badges(&Looks::default(), |_, _| false));
    let regions = RegionOptions { refresh: Some(Duration::from_millis(1)), ..on_persons() };
    let options = StepOptions { every: 4, ..StepOptions::on_regions(regions) };
    let pipeline = FeedPipeline::builder()
        .stage("persons", persons(3))
        .stage("track", tracker())
        .batch_with(&faces, options)
        .build()
        .unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(10), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 10, &[]);
    for (n, output) in (0i64..).zip(outputs.try_iter()) {
        assert_eq!(seen(&output.perception), (0..3).map(|id| (id, n / 4 * 4)).collect(), "frame {n}");
        let asked = output.provenance.expect("it is asked for").steps.iter().any(|s| s.step == "faces");
        assert_eq!(asked, n % 4 == 0, "frame {n}");
    }
    shut_down(&runtime);
}

/// Of `frames` frames with three persons each, the look at person 1 fails in frame `failing`.
fn with_a_failure(
    policy: StepErrorPolicy,
    regions: RegionOptions,
    frames: u64,
    failing: u16,
) -> (Vec<Output>, Looks, Vec<(DropReason, u64)>) {
    let runtime = runtime();
    let looks = Looks::default();
    let faces = point(&runtime, "faces", badges(&looks, move |object, frame| (object, frame) == (1, failing)));
    let pipeline = FeedPipeline::builder()
        .stage("persons", persons(3))
        .stage("track", tracker())
        .batch_with(&faces, StepOptions::on_regions(regions))
        .build()
        .unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(frames), pipeline, |c| {
        c.on_step_error = policy;
        c.max_in_pipeline = Some(3);
    });
    check_end(&feed, "end_of_stream");
    shut_down(&runtime);
    let dropped = feed.stats().frames.dropped.into_iter().collect();
    (outputs.try_iter().collect(), looks, dropped)
}

#[test]
fn a_region_that_fails_costs_its_frame() {
    let (outputs, looks, dropped) = with_a_failure(StepErrorPolicy::Drop, on_persons(), 5, 2);
    assert_eq!(dropped, [(DropReason::ProcessingFailed, 1)]);
    assert_eq!(outputs.iter().map(|o| o.frame.seq()).collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert!(outputs.iter().all(|o| seen(&o.perception).len() == 3));
    assert!(looks.lock().unwrap().values().all(|n| *n == 1), "the slot was freed once, and nothing is looked at twice");
}

#[test]
fn a_region_that_fails_costs_itself_alone_where_the_feed_says_so() {
    let (outputs, _, dropped) = with_a_failure(StepErrorPolicy::Pass, on_persons(), 5, 2);
    assert_eq!(dropped, []);
    for (n, output) in (0i64..).zip(&outputs) {
        let expected: BTreeMap<_, _> = (0..3).filter(|id| (n, *id) != (2, 1)).map(|id| (id, n)).collect();
        assert_eq!(seen(&output.perception), expected, "frame {n}");
    }
    assert_eq!(outputs.len(), 5);
}

#[test]
fn a_track_whose_look_failed_is_due_again() {
    // Every tenth of 30 frames a second.
    let refresh = Some(Duration::from_millis(320));
    for policy in [StepErrorPolicy::Pass, StepErrorPolicy::Drop] {
        let (outputs, looks, _) = with_a_failure(policy, RegionOptions { refresh, ..on_persons() }, 25, 10);
        let looks = looks.lock().unwrap();
        let frames = |person: u32| looks.keys().filter(|(id, _)| *id == person).map(|k| k.1).collect::<Vec<_>>();
        assert_eq!(frames(1)[..2], [0, 10]);
        // The two frames that were inside the pipeline with it may have been decided about already.
        assert!((11..=13).contains(&frames(1)[2]), "{looks:?}");
        if policy == StepErrorPolicy::Pass {
            assert_eq!(frames(0), [0, 10, 20], "those that did not fail have their results");
        }
        assert!(outputs.iter().all(|o| seen(&o.perception).len() == 3), "and what was known stays");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let runtime = runtime();
    let faces = point(&runtime, "faces", number_processor());
    let build = |options| {
        let pipeline = FeedPipeline::builder().stage("persons", persons(1)).batch_with(&faces, options).build();
        pipeline.unwrap_err().to_string()
    };
    let told = build(StepOptions { every: 0, ..StepOptions::default() });
    assert_eq!(told, r#"step "faces": every is 0: it must be at least 1, which is every frame"#);
    let elsewhere = RegionOptions { from: Some(Name::new("cars")), ..on_persons() };
    let told = build(StepOptions::on_regions(elsewhere));
    assert!(told.contains(r#""faces""#) && told.contains(r#""cars""#) && told.contains("persons"), "{told}");
    let of_tracks = StepOptions::on_regions(RegionOptions { from: Some(Name::new("track")), ..on_persons() });
    let steps = FeedPipeline::builder().stage("persons", persons(1)).stage("track", tracker());
    let told = steps.batch_with(&faces, of_tracks).build().unwrap_err().to_string();
    assert_eq!(told, r#"step "faces" looks at the objects of "track", which makes none"#);
    let first = FeedPipeline::builder().batch_with(&faces, StepOptions::on_regions(RegionOptions::default())).build();
    assert!(matches!(first.unwrap_err(), PipelineError::Graph(_)), "there are no objects to look at");
    shut_down(&runtime);
}
