//! The main job on real video: decode, detect at a shared batch point, track; with plugins linked and loaded.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nv_perception::{BuildContext, Creator, Output, PluginDescriptor, SourceSpec, TrackState};
use nv_plugin_loader::Registry;
use nv_runtime::{BatchConfig, FeedConfig, FeedPipeline, FeedStats, Runtime, RuntimeConfig};
use nv_sources::EmbeddedSources;
use nv_tests::recording_sink;
use nv_track::testing::mot::{MotRow, MotSummary, parse};

use crate::support::{assets, plugin_file};

const CLIP_FRAMES: u64 = 795;

/// The shipped plugins as parts of this program.
fn linked() -> Registry {
    let mut registry = Registry::new();
    for plugin in [nv_models::plugin(), nv_track::plugin()] as [PluginDescriptor; 2] {
        registry.link(plugin).unwrap();
    }
    registry
}

/// The shipped plugins from their `.so` files.
fn loaded() -> Registry {
    let mut registry = Registry::new();
    for file in ["libnv_models.so", "libnv_track.so"] {
        registry.load(plugin_file(file)).unwrap();
    }
    registry
}

/// Runs `feeds` feeds of the first `frames` frames of the pedestrians' clip through detector and tracker.
fn run(registry: &Registry, assets: &Path, feeds: usize, frames: u64) -> Vec<(Vec<Output>, FeedStats)> {
    let context = BuildContext::new(assets);
    let config =
        serde_json::json!({"model": "models/yolox_nano_coco_416.onnx", "labels": "coco", "classes": ["person"]});
    let Creator::Batch(create) = registry.find("models/detect").unwrap().creator.clone() else {
        panic!("a batch kind")
    };
    let Creator::Stage(track) = registry.find("track/bytetrack").unwrap().creator.clone() else {
        panic!("a stage kind")
    };

    let runtime = Runtime::new(RuntimeConfig::default());
    let detector = {
        let context = context.clone();
        // On a busy machine a frame may take long; what is shown here is that none is lost.
        let patient = BatchConfig { response_timeout: Duration::from_secs(300), ..BatchConfig::default() };
        runtime.create_batch("detector", Arc::new(move || create(&config, &context)), patient).unwrap()
    };
    let feeds: Vec<_> = (0..feeds)
        .map(|i| {
            let (context, track) = (context.clone(), track.clone());
            let pipeline = FeedPipeline::builder()
                .batch(&detector)
                .stage("track", Arc::new(move || track(&serde_json::Value::Null, &context)))
                .build()
                .unwrap();
            let spec = SourceSpec { base_dir: assets.to_owned(), ..SourceSpec::new("file:video/vtest_h264_high.mp4") };
            let (outputs, sink) = recording_sink();
            let mut config = FeedConfig::new(format!("feed {i}"), Arc::new(EmbeddedSources::default()), spec, pipeline);
            config.sinks.push(sink);
            config.report_threshold = 0.35;
            config.provenance = false;
            config.frame_limit = Some(frames);
            (runtime.add_feed(config).unwrap(), outputs)
        })
        .collect();
    let results = feeds
        .into_iter()
        .map(|(feed, outputs)| {
            assert!(feed.wait().is_ok(), "{}", feed.wait());
            let stats = feed.stats();
            (outputs.try_iter().collect(), stats)
        })
        .collect();
    assert!(runtime.shutdown(Duration::from_secs(30)).abandoned.is_empty());
    results
}

/// The outputs as they would be written, but for the feed's name.
fn written(outputs: &[Output]) -> Vec<String> {
    let line = |o: &Output| serde_json::to_string(&Output { feed: "feed".into(), ..o.clone() }).unwrap();
    outputs.iter().map(line).collect()
}

/// What goes into MOTChallenge text: confirmed tracks, which are those seen in that frame.
fn mot_rows(outputs: &[Output]) -> Vec<MotRow> {
    let rows = outputs.iter().flat_map(|o| {
        let confirmed = o.perception.tracks().iter().filter(|t| t.state == TrackState::Confirmed);
        confirmed.map(|t| MotRow {
            frame: o.frame.seq() as u32 + 1,
            id: t.id.0 as i64,
            bbox: t.bbox,
            confidence: t.score,
        })
    });
    rows.collect()
}

fn check_all_emitted(stats: &FeedStats, frames: u64) {
    let counts = &stats.frames;
    assert_eq!((counts.received, counts.emitted, counts.inside), (frames, frames, 0), "{counts:?}");
    assert!(counts.dropped.is_empty() && counts.lost_upstream == 0, "{counts:?}");
}

#[test]
fn people_are_tracked_well_and_loaded_plugins_write_what_linked_ones_do() {
    let Some(assets) = assets("people_are_tracked_well_and_loaded_plugins_write_what_linked_ones_do") else { return };
    let (outputs, stats) = run(&linked(), &assets, 1, CLIP_FRAMES).remove(0);
    check_all_emitted(&stats, CLIP_FRAMES);

    let truth = fs::read_to_string(assets.join("mot/PETS09-S2L1/gt.txt")).unwrap();
    let truth: Vec<MotRow> = parse(&truth).unwrap().into_iter().filter(|row| row.confidence == 1.0).collect();
    let summary = MotSummary::new(&truth, &mot_rows(&outputs), 0.5);
    let (mota, idf1) = (summary.mota(), summary.idf1());
    assert!(mota >= 0.68 && idf1 >= 0.60, "MOTA {mota:.3}, IDF1 {idf1:.3}");

    let (again, stats) = run(&loaded(), &assets, 1, CLIP_FRAMES).remove(0);
    check_all_emitted(&stats, CLIP_FRAMES);
    assert_eq!(written(&again), written(&outputs));
}

#[test]
fn four_feeds_at_once_give_what_one_gives() {
    let Some(assets) = assets("four_feeds_at_once_give_what_one_gives") else { return };
    // The whole clip in a deep run; the rest of it says nothing that its beginning does not.
    let frames = if std::env::var_os("NV_TEST_DEEP").is_some() { CLIP_FRAMES } else { 150 };
    let (one, _) = run(&loaded(), &assets, 1, frames).remove(0);
    for (outputs, stats) in run(&loaded(), &assets, 4, frames) {
        check_all_emitted(&stats, frames);
        assert_eq!(written(&outputs), written(&one));
    }
}
