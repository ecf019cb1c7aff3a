//! The shipped trackers, which follow objects from frame to frame. Now one: [`ByteTrack`], of kind `bytetrack`.
//!
//! The crate is the plugin `track`: a host loads its `.so`; a program that links it uses the types, or [`plugin`].
//!
//! ```
//! use nv_plugin_sdk::{
//!     BBox, FrameHeader, FramePool, Object, ObjectId, Perception, PixelFormat, Pts, Size, Stage, StageInput, StageOutput,
//!     StreamContext, TrackState,
//! };
//! use nv_track::{ByteTrack, ByteTrackConfig};
//!
//! let mut tracker = ByteTrack::new(ByteTrackConfig::default())?;
//! let stream = StreamContext::new("gate".into(), "track".into(), 0);
//! let pool = FramePool::new(1);
//! for (ms, expected) in [(0, TrackState::Tentative), (40, TrackState::Confirmed)] {
//!     let pts = Pts::from_nanos(ms * 1_000_000);
//!     let frame = pool.take(FrameHeader { pts, ..FrameHeader::new(Size::new(640, 480), PixelFormat::Gray8) })?.freeze();
//!     let person = Object {
//!         id: ObjectId(0),
//!         parent: None,
//!         source: "detector".into(),
//!         class_id: 0,
//!         class: Some("person".into()),
//!         score: 0.9,
//!         bbox: BBox::new(100.0 + ms as f32 / 10.0, 100.0, 140.0 + ms as f32 / 10.0, 200.0),
//!     };
//!     let mut seen = Perception::default();
//!     seen.merge(&person.source.clone(), ObjectId(0), StageOutput { objects: Some(vec![person]), ..Default::default() });
//!
//!     let tracks = tracker.process(&StageInput::new(&stream, &frame, &seen))?.tracks.unwrap_or_default();
//!     assert_eq!((tracks[0].id.0, tracks[0].state, tracks[0].object), (1, expected, Some(ObjectId(0))));
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The feature `testing` adds a module of that name: trackers measured against ground truth in MOTChallenge text.

mod association;
mod bytetrack;
mod config;
mod kalman;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tracklet;

pub use bytetrack::ByteTrack;
pub use config::ByteTrackConfig;

nv_plugin_sdk::export_plugin! { stages: [ByteTrack] }
