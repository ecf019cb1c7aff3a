use nv_perception::{Output, OutputSink, SinkError, SinkErrorKind, StageOutput};
use nv_runtime::{SinkConfig, SinkStats};
use nv_tests::{Visitor, fed_source, gate, scene_source, stage};

use super::*;

/// A sink that does what a test says to each output.
struct Scripted<F>(F);

impl<F: FnMut(&Output) -> Result<(), SinkError> + Send> OutputSink for Scripted<F> {
    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        (self.0)(output)
    }
}

fn scripted(emit: impl FnMut(&Output) -> Result<(), SinkError> + Send + 'static) -> SinkConfig {
    SinkConfig::new("scripted", Box::new(Scripted(emit)))
}

fn held(visitor: Visitor) -> SinkConfig {
    let mut first = true;
    let sink = scripted(move |_| {
        if std::mem::take(&mut first) {
            visitor.pass();
        }
        Ok(())
    });
    SinkConfig { queue_capacity: 2, ..sink }
}

fn pass_through() -> FeedPipeline {
    FeedPipeline::builder().stage("nothing", stage(|_| Ok(StageOutput::default()))).build().unwrap()
}

fn stats(feed: &FeedHandle, sink: &str) -> SinkStats {
    feed.stats().sinks.into_iter().find(|s| s.sink == *sink).unwrap()
}

#[test]
fn a_file_feed_waits_for_its_sink_and_a_live_one_passes_it_by() {
    let runtime = runtime();
    let (gate_file, visitor) = gate();
    let (file, outputs) = feed(&runtime, "file", scene_source(50), pass_through(), |c| c.sinks.push(held(visitor)));
    gate_file.wait_for_visitor();
    let (gate_live, visitor) = gate();
    let (feeder, source) = fed_source(true);
    let (live, all) = feed(&runtime, "live", source, pass_through(), |c| {
        c.sinks.push(held(visitor));
        c.queue_capacity = 100;
    });
    feeder.frame(0);
    gate_live.wait_for_visitor();
    for n in 1..50 {
        feeder.frame(n);
    }
    drop(feeder);
    assert!(file.stats().end.is_none(), "it waits");
    // The last one has been passed by too: emitted frames are counted before they are handed over.
    while stats(&live, "scripted").passed_by < 47 {
        std::thread::yield_now();
    }
    drop(gate_live);
    check_end(&live, "end_of_stream");
    check_frames(&live, 50, &[]);
    let taken = stats(&live, "scripted");
    assert_eq!((taken.taken, taken.passed_by), (3, 47), "one in hand, two in the queue");
    assert_eq!(all.try_iter().count(), 50, "the other sink got everything");

    drop(gate_file);
    check_end(&file, "end_of_stream");
    assert_eq!(stats(&file, "scripted").taken, 50);
    assert_eq!(outputs.try_iter().count(), 50);
    shut_down(&runtime);
}

#[test]
fn a_sink_in_trouble_leaves_the_feed_and_the_other_sinks_alone() {
    fn check(emit: fn(&Output) -> Result<(), SinkError>, taken: u64, failed: u64) {
        let runtime = runtime();
        let (feed, outputs) = feed(&runtime, "file", scene_source(6), pass_through(), |c| c.sinks.push(scripted(emit)));
        check_end(&feed, "end_of_stream");
        check_frames(&feed, 6, &[]);
        assert_eq!(outputs.try_iter().count(), 6);
        let stats = stats(&feed, "scripted");
        assert_eq!((stats.taken, stats.failed, stats.passed_by), (taken, failed, 0));
        shut_down(&runtime);
    }
    let transient = |o: &Output| match o.frame.seq() {
        2 => Err(SinkError::new(SinkErrorKind::Transient, "try again")),
        _ => Ok(()),
    };
    check(transient, 5, 1);
    let fatal = |o: &Output| match o.frame.seq() {
        2 => Err(SinkError::new(SinkErrorKind::Failed, "disk full")),
        _ => Ok(()),
    };
    check(fatal, 2, 4);
    check(|o| if o.frame.seq() == 2 { panic!("no luck") } else { Ok(()) }, 2, 4);
}

#[test]
fn pixels_are_kept_only_for_a_sink_that_wants_them() {
    struct Wants(bool, crossbeam_channel::Sender<bool>);
    impl OutputSink for Wants {
        fn wants_frames(&self) -> bool {
            self.0
        }

        fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
            let _ = self.1.send(output.frame.host().is_ok());
            Ok(())
        }
    }
    for wants in [false, true] {
        let runtime = runtime();
        let (sender, seen) = crossbeam_channel::bounded(16);
        let (feed, _) = feed(&runtime, "file", scene_source(2), pass_through(), |c| {
            c.sinks.push(SinkConfig::new("wants", Box::new(Wants(wants, sender))));
        });
        check_end(&feed, "end_of_stream");
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [wants; 2]);
        shut_down(&runtime);
    }
}

#[test]
fn what_is_below_the_report_threshold_is_left_out_at_the_end_only() {
    use nv_core::BBox;
    use nv_perception::{Object, ObjectId, Track, TrackId, TrackState};
    let finds = stage(|_| {
        let object = |id: u32, score| Object {
            id: ObjectId(id),
            parent: None,
            source: "".into(),
            class_id: id,
            class: None,
            score,
            bbox: BBox::new(0.0, 0.0, 4.0, 4.0),
        };
        Ok(StageOutput {
            objects: Some(vec![object(0, 0.2), object(1, 0.35), object(2, 0.9)]),
            ..StageOutput::default()
        })
    });
    let tracks = stage(|input| {
        let track = |o: &Object| Track {
            id: TrackId(u64::from(o.id.0)),
            state: TrackState::Confirmed,
            object: Some(o.id),
            class_id: o.class_id,
            class: None,
            score: o.score,
            bbox: o.bbox,
            age: Duration::ZERO,
        };
        let tracks = input.perception().objects().iter().map(track).collect();
        Ok(StageOutput { tracks: Some(tracks), ..StageOutput::default() })
    });
    let runtime = runtime();
    let pipeline = FeedPipeline::builder().stage("find", finds).stage("track", tracks).build().unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(1), pipeline, |c| c.report_threshold = 0.35);
    check_end(&feed, "end_of_stream");
    let output = outputs.try_recv().unwrap();
    assert_eq!(output.perception.objects().iter().map(|o| o.id.0).collect::<Vec<_>>(), [1, 2]);
    let matched: Vec<_> = output.perception.tracks().iter().map(|t| (t.id.0, t.object.map(|o| o.0))).collect();
    assert_eq!(matched, [(0, None), (1, Some(1)), (2, Some(2))], "the tracker saw all three");
    shut_down(&runtime);
}

#[test]
fn nothing_holds_a_picture_once_its_output_has_left() {
    use nv_core::{Frame, FrameError, FrameHeader, FrameMemory, HostView, MemoryKind, PixelFormat, PlaneView};
    struct Counted(#[expect(dead_code, reason = "its clones are counted")] Arc<()>);
    impl FrameMemory for Counted {
        fn kind(&self) -> MemoryKind {
            MemoryKind::Host
        }

        fn host(&self) -> Result<HostView<'_>, FrameError> {
            Ok(HostView::new([PlaneView { data: &[0; 4], stride: 2 }]))
        }
    }
    let runtime = runtime();
    let blind = nv_tests::processor(|batch: &mut [nv_perception::BatchEntry]| {
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, blind, BatchConfig::default());
    for live in [false, true] {
        let count = Arc::new(());
        let (feeder, source) = fed_source(live);
        let pipeline = FeedPipeline::builder().batch(&detector).stage("nothing", stage(|_| Ok(StageOutput::default())));
        let (feed, outputs) = feed(&runtime, &format!("live {live}"), source, pipeline.build().unwrap(), |_| ());
        for _ in 0..5 {
            let header = FrameHeader::new(nv_core::Size::new(2, 2), PixelFormat::Gray8);
            let frame = Frame::new(header, Arc::new(Counted(count.clone()))).unwrap();
            feeder.item(nv_perception::SourceItem::Frame(frame));
            let output = outputs.recv_timeout(LONG).unwrap();
            // The feed goes on, and so does the output: neither keeps the picture.
            assert_eq!(Arc::strong_count(&count), 1, "frame {}", output.frame.seq());
        }
        drop(feeder);
        check_end(&feed, "end_of_stream");
    }
    shut_down(&runtime);
}
