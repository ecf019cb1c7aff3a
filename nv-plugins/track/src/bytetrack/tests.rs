use nv_plugin_sdk::{BBox, FrameHeader, FramePool, Name, ObjectId, Perception, PixelFormat, Point, Size};
use proptest::prelude::*;

use super::*;

/// A tracker with its feed. What its objects' steps are called is up to them.
struct World {
    tracker: ByteTrack,
    stream: StreamContext,
    pool: FramePool,
}

impl World {
    fn new(config: ByteTrackConfig) -> Self {
        let stream = StreamContext::new("gate".into(), "track".into(), 0);
        Self { tracker: ByteTrack::new(config).unwrap(), stream, pool: FramePool::new(1) }
    }

    /// The frame at `ms` with these objects; `None`: no detector ran.
    fn frame(&mut self, ms: i64, objects: Option<&[Object]>) -> Vec<Track> {
        let pts = Pts::from_nanos(ms * 1_000_000);
        let header = FrameHeader { pts, ..FrameHeader::new(Size::new(640, 480), PixelFormat::Gray8) };
        let frame = self.pool.take(header).unwrap().freeze();
        let mut perception = Perception::default();
        // With a first id above them all, objects keep the ids that they have.
        let mut found = |step: &Name, objects| {
            perception.merge(
                step,
                ObjectId(u32::MAX),
                StageOutput { objects: Some(objects), ..StageOutput::default() },
            );
        };
        if let Some(objects) = objects {
            found(&"detector".into(), vec![]);
            objects.iter().for_each(|o| found(&o.source, vec![o.clone()]));
        }
        let input = StageInput::new(&self.stream, &frame, &perception);
        self.tracker.process(&input).unwrap().tracks.expect("a tracker always tracks")
    }
}

/// A person 40 by 100 pixels, centred at (x, y).
fn person(id: u32, score: f32, x: f32, y: f32) -> Object {
    Object {
        id: ObjectId(id),
        parent: None,
        source: "detector".into(),
        class_id: 0,
        class: Some("person".into()),
        score,
        bbox: BBox::from_center(Point::new(x, y), 40.0, 100.0),
    }
}

/// `1T 2C`: the tracks of a frame, T(entative), C(onfirmed), ~ (coasted), L(ost).
fn brief(tracks: &[Track]) -> String {
    let letter = |state| match state {
        TrackState::Tentative => 'T',
        TrackState::Confirmed => 'C',
        TrackState::Coasted => '~',
        TrackState::Lost => 'L',
    };
    tracks.iter().map(|t| format!("{}{}", t.id.0, letter(t.state))).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_life_of_a_track() {
    /// A frame every 100 ms with one walking person: `#` seen, `o` seen with a low score, `.` not seen, `-` no detector ran.
    fn check(frames: &str, expected: &[&str]) {
        let mut world = World::new(ByteTrackConfig::default());
        let told: Vec<String> = (0i16..)
            .zip(frames.chars())
            .map(|(i, c)| {
                let seen = |score| vec![person(0, score, 100.0 + 6.0 * f32::from(i), 200.0)];
                let objects = match c {
                    '#' => Some(seen(0.9)),
                    'o' => Some(seen(0.3)),
                    '.' => Some(vec![]),
                    _ => None,
                };
                brief(&world.frame(i64::from(i) * 100, objects.as_deref()))
            })
            .collect();
        assert_eq!(told, expected, "{frames}");
    }
    fn times(state: &str, n: usize) -> Vec<&str> {
        vec![state; n]
    }
    check("....", &["", "", "", ""]);
    check("###", &["1T", "1C", "1C"]);
    // Unseen in its second frame, a track is nothing.
    check("#.#", &["1T", "1L", "2T"]);
    check("##.#", &["1T", "1C", "1~", "1C"]);
    // A second of hiding is bridged; more is not, and is told once.
    let hidden = [vec!["1T", "1C"], times("1~", 9), vec!["1C"]].concat();
    check("##.........#", &hidden);
    let lost = [vec!["1T", "1C"], times("1~", 10), vec!["1L", "", "2T", "2C"]].concat();
    check("##............##", &lost);
    let lost_as_it_returns = [vec!["1T", "1C"], times("1~", 10), vec!["1L 2T", "2C"]].concat();
    check("##..........##", &lost_as_it_returns);
    // Low scores start nothing and are not enough for a new track …
    check("oo", &["", ""]);
    check("#o", &["1T", "1L"]);
    // … keep one that was seen, for half a second …
    check("##oo#", &["1T", "1C", "1C", "1C", "1C"]);
    check("##oooooo#", &["1T", "1C", "1C", "1C", "1C", "1C", "1C", "1~", "1C"]);
    // … and don't bring one back.
    check("##.o#", &["1T", "1C", "1~", "1~", "1C"]);
    // Where nobody looked, nothing was missed.
    check("##-#", &["1T", "1C", "1~", "1C"]);
    check("##-o", &["1T", "1C", "1~", "1C"]);
    check("#-#", &["1T", "", "1C"]);
}

#[test]
fn an_object_between_the_thresholds_continues_a_track_but_starts_none() {
    let mut world = World::new(ByteTrackConfig::default());
    assert_eq!(brief(&world.frame(0, Some(&[person(0, 0.55, 100.0, 200.0)]))), "");
    assert_eq!(brief(&world.frame(100, Some(&[person(0, 0.65, 100.0, 200.0)]))), "1T");
    assert_eq!(brief(&world.frame(200, Some(&[person(0, 0.55, 100.0, 200.0)]))), "1C");
}

#[test]
fn a_track_says_what_it_was_matched_with() {
    let mut world = World::new(ByteTrackConfig::default());
    for i in 0..10 {
        world.frame(i * 100, Some(&[person(7, 0.8, 100.0 + 6.0 * i as f32, 200.0)]));
    }
    let seen = &world.frame(1000, Some(&[person(4, 0.9, 160.0, 200.0)]))[0];
    assert_eq!((seen.object, seen.score, seen.class_id), (Some(ObjectId(4)), 0.9, 0));
    assert_eq!((seen.class.as_deref(), seen.age), (Some("person"), Duration::from_secs(1)));
    assert!(seen.bbox.iou(&person(0, 1.0, 160.0, 200.0).bbox) > 0.95, "{:?}", seen.bbox);

    // Half a second later it is half a second further.
    let coasted = &world.frame(1500, Some(&[]))[0];
    assert_eq!((coasted.object, coasted.score, coasted.age), (None, 0.9, Duration::from_millis(1500)));
    assert!((coasted.bbox.center().x - 190.0).abs() < 2.0, "{:?}", coasted.bbox);
}

#[test]
fn objects_that_cross_keep_their_ids() {
    /// Two walk towards and past each other; `hidden` frames of the one that is farther away are not seen.
    fn check(interval_ms: i64, hidden: std::ops::Range<i64>) {
        let mut world = World::new(ByteTrackConfig::default());
        let mut ends = Vec::new();
        let frames = 4000 / interval_ms;
        for i in 0..=frames {
            let t = (i * interval_ms) as f32 / 1000.0;
            let mut objects = vec![person(0, 0.9, 100.0 + 60.0 * t, 210.0)];
            if !hidden.contains(&(i * interval_ms)) {
                objects.push(person(1, 0.8, 340.0 - 60.0 * t, 190.0));
            }
            ends = world.frame(i * interval_ms, Some(&objects));
        }
        assert_eq!(brief(&ends), "1C 2C", "{interval_ms} ms, hidden {hidden:?}");
        assert_eq!(ends[0].object, Some(ObjectId(0)), "{interval_ms} ms, hidden {hidden:?}");
    }
    for interval_ms in [33, 40, 100, 140] {
        check(interval_ms, 0..0);
        check(interval_ms, 1800..2300);
    }
}

#[test]
fn uneven_intervals_are_no_trouble() {
    let mut world = World::new(ByteTrackConfig::default());
    let mut ms = 0;
    for (i, interval) in
        [40, 40, 40, 200, 20, 500, 33, 33, 900, 40, 1, 0, 300].into_iter().cycle().take(100).enumerate()
    {
        ms += interval;
        let tracks = world.frame(ms, Some(&[person(0, 0.9, 0.02 * ms as f32, 200.0)]));
        assert_eq!(brief(&tracks), if i == 0 { "1T" } else { "1C" }, "at {ms} ms");
    }
}

#[test]
fn frames_further_apart_than_the_buffer_still_follow_each_other() {
    let mut world = World::new(ByteTrackConfig::default());
    let told: Vec<String> =
        (0..5).map(|i| brief(&world.frame(i * 3000, Some(&[person(0, 0.9, 100.0, 200.0)])))).collect();
    // Until it is known how far apart frames come here, the buffer counts.
    assert_eq!(told, ["1T", "1L 2T", "2C", "2C", "2C"]);
    assert_eq!(brief(&world.frame(15_000, Some(&[]))), "2~");
    assert_eq!(brief(&world.frame(18_000, Some(&[]))), "2L");
}

#[test]
fn a_cut_ends_all_tracks_and_ids_go_on() {
    fn check(cut: impl Fn(&mut World) -> i64) {
        let mut world = World::new(ByteTrackConfig::default());
        let objects = [person(0, 0.9, 100.0, 200.0), person(1, 0.8, 300.0, 200.0)];
        for ms in [5000, 5100] {
            world.frame(ms, Some(&objects));
        }
        let ms = cut(&mut world);
        let told = world.frame(ms, Some(&objects[..1]));
        assert_eq!(brief(&told), "1L 2L 3T");
        assert_eq!((told[0].object, told[0].age), (None, Duration::from_millis(100)));
        assert_eq!((told[2].object, told[2].age), (Some(ObjectId(0)), Duration::ZERO));
        assert_eq!(brief(&world.frame(ms + 100, Some(&objects[..1]))), "3C");
    }
    // The stream's time runs backwards.
    check(|_| 4000);
    check(|world| {
        let stream = StreamContext::new("gate".into(), "track".into(), 1);
        world.tracker.discontinuity(&stream);
        world.tracker.discontinuity(&stream);
        0
    });
}

#[test]
fn tracks_stay_with_their_class_and_step() {
    let mut world = World::new(ByteTrackConfig::default());
    let one = person(0, 0.9, 100.0, 200.0);
    let of_class = Object { class_id: 2, ..person(1, 0.8, 100.0, 200.0) };
    let of_step = Object { source: "plates".into(), ..person(2, 0.7, 100.0, 200.0) };
    assert_eq!(brief(&world.frame(0, Some(&[one.clone(), of_class.clone(), of_step.clone()]))), "1T 2T 3T");
    assert_eq!(brief(&world.frame(100, Some(&[one, of_class.clone(), of_step.clone()]))), "1C 2C 3C");
    let told = world.frame(200, Some(&[of_class.clone(), of_step.clone()]));
    assert_eq!(brief(&told), "1~ 2C 3C");
    assert_eq!((told[1].object, told[2].object), (Some(ObjectId(1)), Some(ObjectId(2))));

    let mut world = World::new(ByteTrackConfig { sources: vec!["plates".into()], ..ByteTrackConfig::default() });
    assert_eq!(world.frame(0, Some(&[of_class, of_step]))[0].object, Some(ObjectId(2)));
}

#[test]
fn of_two_tracks_on_one_object_the_elder_stays() {
    let mut world = World::new(ByteTrackConfig::default());
    for i in 0..20 {
        world.frame(i * 50, Some(&[person(0, 0.9, 300.0, 200.0)]));
    }
    // It is seen no more; another comes from the left and takes its place.
    let mut told = Vec::new();
    for i in 20..32 {
        let x = 200.0 + 10.0 * (i - 20) as f32;
        told.push(brief(&world.frame(i * 50, Some(&[person(0, 0.9, x, 200.0)]))));
    }
    assert_eq!(&told[..2], ["1~ 2T", "1~ 2C"]);
    assert_eq!(&told[told.len() - 2..], ["1C 2L", "1C"], "{told:?}");
}

#[test]
fn what_can_not_be_followed_is_as_if_it_were_not_there() {
    let odd = |bbox: [f32; 4], score| Object { bbox: bbox.into(), ..person(9, score, 0.0, 0.0) };
    let odd = [
        odd([f32::NAN, 0.0, 10.0, 10.0], 0.9),
        odd([0.0, 0.0, f32::INFINITY, 10.0], 0.9),
        odd([10.0, 10.0, 10.0, 20.0], 0.9),
        odd([20.0, 10.0, 10.0, 20.0], 0.9),
        odd([80.0, 150.0, 120.0, 250.0], f32::NAN),
        odd([80.0, 150.0, 120.0, 250.0], -1.0),
    ];
    let (mut plain, mut mixed) = (World::new(ByteTrackConfig::default()), World::new(ByteTrackConfig::default()));
    for i in 0..5 {
        let one = person(0, 0.9, 100.0 + i as f32, 200.0);
        let with_odd: Vec<Object> = odd.iter().cloned().chain([one.clone()]).collect();
        assert_eq!(mixed.frame(i * 100, Some(&with_odd)), plain.frame(i * 100, Some(&[one])));
        assert_eq!(brief(&mixed.frame(i * 100 + 50, Some(&odd))), brief(&plain.frame(i * 100 + 50, Some(&[]))));
    }
}

/// Some frame of a feed that has everything go wrong.
#[derive(Clone, Debug)]
struct AnyFrame {
    interval_ms: i64,
    cut: bool,
    objects: Option<Vec<Object>>,
}

fn any_feed() -> impl Strategy<Value = Vec<AnyFrame>> {
    // Few places and scores, so that boxes meet and tie.
    let object =
        (0u8..12, 0u8..4, prop_oneof![Just(0.05f32), Just(0.3), Just(0.55), Just(0.9), Just(f32::NAN)], 0u32..2)
            .prop_map(|(x, y, score, class_id)| Object {
                class_id,
                ..person(0, score, 30.0 * f32::from(x), 40.0 * f32::from(y))
            });
    let objects = prop::collection::vec(object, 0..8).prop_map(|objects| {
        Some(objects.into_iter().zip(0..).map(|(o, id)| Object { id: ObjectId(id), ..o }).collect())
    });
    let objects = prop_oneof![9 => objects, 1 => Just(None)];
    let interval = prop_oneof![20 => 0i64..150, 1 => Just(1500), 1 => Just(-300)];
    let frame = (interval, prop::bool::weighted(0.03), objects).prop_map(|(interval_ms, cut, objects)| AnyFrame {
        interval_ms,
        cut,
        objects,
    });
    prop::collection::vec(frame, 0..60)
}

fn run(feed: &[AnyFrame], order: impl Fn(&mut Vec<Object>)) -> Vec<Vec<Track>> {
    let mut world = World::new(ByteTrackConfig::default());
    let mut ms = 0;
    feed.iter()
        .map(|frame| {
            ms += frame.interval_ms;
            if frame.cut {
                let stream = world.stream.clone();
                world.tracker.discontinuity(&stream);
            }
            let mut objects = frame.objects.clone();
            objects.iter_mut().for_each(&order);
            world.frame(ms, objects.as_deref())
        })
        .collect()
}

#[test]
fn a_weak_object_in_the_place_of_a_good_one_changes_nothing_by_its_order() {
    let objects = vec![person(0, 0.9, 0.0, 0.0), person(1, 0.05, 0.0, 0.0)];
    let feed = [AnyFrame { interval_ms: 0, cut: false, objects: Some(objects) }];
    let told = run(&feed, |_| ());
    assert_eq!(told, run(&feed, |objects| objects.reverse()));
    assert_eq!(told[0].iter().map(|t| t.object).collect::<Vec<_>>(), [Some(ObjectId(0))]);
}

proptest! {
    #[test]
    fn the_order_of_objects_makes_no_difference(feed in any_feed()) {
        let told = run(&feed, |_| ());
        prop_assert_eq!(&told, &run(&feed, |_| ()), "a second time");
        prop_assert_eq!(&told, &run(&feed, |objects| objects.reverse()));
        prop_assert_eq!(&told, &run(&feed, |objects| objects.sort_by(|a, b| a.bbox.x1.total_cmp(&b.bbox.x1))));
    }

    #[test]
    fn every_id_lives_once_and_ends_once(feed in any_feed()) {
        use std::collections::BTreeMap;
        let mut last: BTreeMap<TrackId, TrackState> = BTreeMap::new();
        let mut newest = TrackId(0);
        for (tracks, frame) in run(&feed, |_| ()).iter().zip(&feed) {
            prop_assert!(tracks.windows(2).all(|w| w[0].id < w[1].id), "sorted: {}", brief(tracks));
            let mut objects: Vec<ObjectId> = tracks.iter().filter_map(|t| t.object).collect();
            let named = objects.len();
            objects.sort();
            objects.dedup();
            prop_assert_eq!(objects.len(), named, "an object has one track");
            // Where a detector ran, whoever was there and is not named has ended.
            let alive = last.iter().filter(|(_, s)| **s != TrackState::Lost).map(|(id, _)| *id);
            let gone: Vec<_> = alive.filter(|id| !tracks.iter().any(|t| t.id == *id)).collect();
            prop_assert!(gone.is_empty() || frame.objects.is_none(), "{:?} vanished", gone);
            for track in tracks {
                prop_assert!(!track.bbox.is_empty(), "{:?}", track);
                let seen = matches!(track.state, TrackState::Tentative | TrackState::Confirmed);
                prop_assert_eq!(track.object.is_some(), seen);
                let before = last.insert(track.id, track.state);
                use TrackState::{Coasted, Confirmed, Lost, Tentative};
                match (before, track.state) {
                    (None, Tentative) => {
                        prop_assert!(track.id > newest, "{:?} used again", track.id);
                        newest = track.id;
                    }
                    (Some(Tentative), Confirmed | Lost) => {}
                    (Some(Confirmed | Coasted), Confirmed | Coasted | Lost) => {}
                    (before, now) => prop_assert!(false, "{:?} from {:?} to {:?}", track.id, before, now),
                }
            }
        }
    }
}
