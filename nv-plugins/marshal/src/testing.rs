//! Arbitrary values, for tests that what crosses is what was sent.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use nv_core::{
    Attachment, BBox, Captured, CapturedBy, ColorInfo, ColorMatrix, ColorRange, Frame, FrameHeader, FramePool,
    MonoTime, Name, OwnedPlane, OwnedPlanes, PixelFormat, Pts, Size, WallTime,
};
use nv_perception::{
    Artifact, Attribute, Keypoint, Mask, Object, ObjectId, ObjectTables, Rows, SceneFeature, Signal, StageOutput,
    Track, TrackId, TrackState, Value,
};
use proptest::prelude::*;

/// A value written out to the last digit: unlike `==`, it tells -0 from 0 and finds NaN equal to itself.
pub fn exactly(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// Any name; some come again and again.
pub fn any_name() -> impl Strategy<Value = Name> {
    prop_oneof![4 => "[a-d]", 1 => ".{0,12}", 1 => Just(String::new())].prop_map(Name::from)
}

/// Any value of an attribute, signal or scene feature.
pub fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any_f64().prop_map(Value::Float),
        ".{0,20}".prop_map(Value::Text),
    ]
}

/// Anything that a step may find.
pub fn any_output() -> impl Strategy<Value = StageOutput> {
    (
        prop::option::of(prop::collection::vec(any_object(), 0..6)),
        any_tables(),
        prop::collection::vec(any_attribute(), 0..4),
        prop::option::of(prop::collection::vec(any_track(), 0..4)),
        prop::collection::vec(any_signal(), 0..3),
        prop::collection::vec((any_name(), any_value()), 0..3),
        prop::collection::vec(any_artifact(), 0..3),
    )
        .prop_map(|(objects, tables, attributes, tracks, signals, scene, artifacts)| StageOutput {
            objects,
            tables,
            attributes,
            tracks,
            signals,
            scene: scene.into_iter().map(|(name, value)| SceneFeature { name, value }).collect(),
            artifacts,
        })
}

/// Any frame in host memory, of at most 9×9 pixels, with padded rows and attachments.
pub fn any_frame() -> impl Strategy<Value = Frame> {
    (any_header(), 0usize..5, any::<u8>(), prop::collection::vec(any_attachment(), 0..3), any::<u64>(), any::<u64>())
        .prop_map(|(header, padding, fill, attachments, seq, received)| {
            let frame = if padding == 0 { pooled(header, fill) } else { padded(header, padding, fill) };
            let frame = if attachments.is_empty() { frame } else { frame.with_attachments(attachments) };
            frame.stamped(seq, MonoTime::from_nanos(received))
        })
}

fn pooled(header: FrameHeader, fill: u8) -> Frame {
    let planes = header.format.plane_count();
    let mut buffer = FramePool::new(0).take(header).expect("a picture with pixels");
    for plane in 0..planes {
        buffer.plane_mut(plane).fill(fill.wrapping_add(plane as u8));
    }
    buffer.freeze()
}

fn padded(header: FrameHeader, padding: usize, fill: u8) -> Frame {
    let plane = |i| {
        let shape = header.format.plane_shape(i, header.size);
        let stride = shape.row_bytes + padding;
        let bytes = (0..stride * shape.rows).map(|at| fill.wrapping_add(at as u8)).collect();
        OwnedPlane { data: bytes, stride }
    };
    let planes = OwnedPlanes((0..header.format.plane_count()).map(plane).collect());
    Frame::new(header, Arc::new(planes)).expect("planes that fit the header")
}

fn any_header() -> impl Strategy<Value = FrameHeader> {
    use PixelFormat::{Bgr8, Gray8, I420, Nv12, Rgb8, Rgba8};
    let color = (
        prop::sample::select(vec![ColorRange::Limited, ColorRange::Full]),
        prop::sample::select(vec![ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020]),
    );
    let captured = (any::<u64>(), prop::sample::select(vec![CapturedBy::SenderReport, CapturedBy::Arrival]));
    (
        (1u32..10, 1u32..10),
        prop::sample::select(vec![I420, Nv12, Rgb8, Bgr8, Rgba8, Gray8]),
        color,
        any::<i64>(),
        prop::option::of(captured),
        any::<bool>(),
    )
        .prop_map(|((width, height), format, (range, matrix), pts, captured, suspect)| FrameHeader {
            size: Size::new(width, height),
            format,
            color: ColorInfo { range, matrix },
            pts: Pts::from_nanos(pts),
            captured: captured.map(|(at, by)| Captured { at: WallTime::from_unix_nanos(at), by }),
            suspect,
        })
}

fn any_attachment() -> impl Strategy<Value = Attachment> {
    (any_name(), any_bytes()).prop_map(|(schema, data)| Attachment { schema, data })
}

fn any_bytes() -> impl Strategy<Value = Arc<[u8]>> {
    prop::collection::vec(any::<u8>(), 0..9).prop_map(Arc::from)
}

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -1e4f32..1e4, 1 => any::<u32>().prop_map(f32::from_bits)]
}

fn any_f64() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn any_bbox() -> impl Strategy<Value = BBox> {
    [any_f32(), any_f32(), any_f32(), any_f32()].prop_map(BBox::from)
}

fn any_object_id() -> impl Strategy<Value = ObjectId> {
    // Small enough that a perception of such objects has a next id.
    prop_oneof![4 => 0u32..8, 1 => 0u32..u32::MAX].prop_map(ObjectId)
}

fn any_object() -> impl Strategy<Value = Object> {
    (
        any_object_id(),
        prop::option::of(any_object_id()),
        any_name(),
        any::<u32>(),
        prop::option::of(any_name()),
        any_f32(),
        any_bbox(),
    )
        .prop_map(|(id, parent, source, class_id, class, score, bbox)| Object {
            id,
            parent,
            source,
            class_id,
            class,
            score,
            bbox,
        })
}

fn any_rows<T: Copy + Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Rows<T>> {
    prop::collection::vec((any_object_id(), prop::collection::vec(value, 0..5)), 0..4).prop_map(|rows| {
        let mut table = Rows::default();
        for (object, row) in rows {
            table.push(object, &row);
        }
        table
    })
}

fn any_tables() -> impl Strategy<Value = ObjectTables> {
    let keypoint = [any_f32(), any_f32(), any_f32()].prop_map(|[x, y, score]| Keypoint { x, y, score });
    let mask = any::<(u32, u32)>().prop_map(|(width, height)| Mask { width, height });
    (any_rows(any_f32()), any_rows(keypoint), any_rows(mask), any_rows(any::<u8>()), any_rows(any_f32())).prop_map(
        |(angles, keypoints, mask_sizes, masks, embeddings)| ObjectTables {
            angles,
            keypoints,
            mask_sizes,
            masks,
            embeddings,
        },
    )
}

fn any_attribute() -> impl Strategy<Value = Attribute> {
    (any_object_id(), any_name(), any_value()).prop_map(|(object, name, value)| Attribute { object, name, value })
}

fn any_track() -> impl Strategy<Value = Track> {
    use TrackState::{Coasted, Confirmed, Lost, Tentative};
    (
        any::<u64>(),
        prop::sample::select(vec![Tentative, Confirmed, Coasted, Lost]),
        prop::option::of(any_object_id()),
        any::<u32>(),
        prop::option::of(any_name()),
        any_f32(),
        any_bbox(),
        (any::<u64>(), 0u32..1_000_000_000),
    )
        .prop_map(|(id, state, object, class_id, class, score, bbox, (secs, nanos))| Track {
            id: TrackId(id),
            state,
            object,
            class_id,
            class,
            score,
            bbox,
            age: Duration::new(secs, nanos),
        })
}

fn any_signal() -> impl Strategy<Value = Signal> {
    (any_name(), any_value(), prop::option::of(any_object_id()), prop::option::of(any::<u64>()))
        .prop_map(|(name, value, object, track)| Signal { name, value, object, track: track.map(TrackId) })
}

fn any_artifact() -> impl Strategy<Value = Artifact> {
    (any_name(), any_name(), any_bytes()).prop_map(|(schema, encoding, bytes)| Artifact { schema, encoding, bytes })
}
