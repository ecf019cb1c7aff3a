use nv_core::BBox;
use nv_perception::{Artifact, SceneFeature, Signal, Track};
use proptest::prelude::*;

use super::*;

const FRAME: Size = Size::new(640, 480);

fn at(seq: u64) -> StreamPosition {
    StreamPosition { seq, pts: Pts::from_nanos(seq as i64 * 100_000_000), session: 0, cuts: 0 }
}

fn options() -> RegionOptions {
    RegionOptions::default()
}

/// A look a second; the frames of [`at`] are a tenth of a second apart.
fn refreshed() -> RegionOptions {
    RegionOptions { refresh: Some(Duration::from_secs(1)), ..options() }
}

fn cascade(options: RegionOptions) -> Cascade {
    options.validate().unwrap();
    Cascade::new(&"gate".into(), "colour".into(), options, None)
}

fn person(bbox: [f32; 4]) -> Object {
    Object { class: Some("person".into()), ..Object::new(ObjectId(0), 0, 0.9, bbox.into()) }
}

/// A person as wide and high as `side`.
fn sized(side: f32) -> Object {
    person([0.0, 0.0, side, side])
}

fn track(id: u64, object: u32) -> Track {
    Track {
        id: TrackId(id),
        state: TrackState::Confirmed,
        object: Some(ObjectId(object)),
        class_id: 0,
        class: None,
        score: 0.9,
        bbox: BBox::default(),
        age: Duration::ZERO,
    }
}

/// What a detector and a tracker found. Objects are numbered in order.
fn scene(objects: impl IntoIterator<Item = Object>, tracks: impl IntoIterator<Item = Track>) -> Perception {
    let objects = (0..).zip(objects).map(|(id, o)| Object { id: ObjectId(id), ..o }).collect();
    let mut p = Perception::default();
    p.merge(&"detector".into(), ObjectId(0), StageOutput { objects: Some(objects), ..StageOutput::default() });
    let tracks = Some(tracks.into_iter().collect());
    p.merge(&"track".into(), p.next_object_id(), StageOutput { tracks, ..StageOutput::default() });
    p
}

/// One person, followed as track 7.
fn followed() -> Perception {
    scene([sized(50.0)], [track(7, 0)])
}

fn select(cascade: &mut Cascade, seq: u64, perception: &Perception) -> Vec<u32> {
    cascade.select(at(seq), perception, FRAME, 64).iter().map(|r| r.object.0).collect()
}

/// What a classifier says of the object of its region.
fn colour(region: &Region, value: &str) -> StageOutput {
    let attribute = Attribute { object: region.object, name: "colour".into(), value: value.into() };
    StageOutput { attributes: vec![attribute], ..StageOutput::default() }
}

/// Selects, and attaches `value` to each region at once.
fn run(cascade: &mut Cascade, seq: u64, mut perception: Perception, value: &str) -> Perception {
    let regions = cascade.select(at(seq), &perception, FRAME, 64);
    let results = regions.into_iter().map(|r| (r.clone(), Some(colour(&r, value)))).collect();
    cascade.attach(at(seq), &mut perception, results);
    perception
}

/// The colours of the objects, as `id=value`.
fn colours(perception: &Perception) -> String {
    let text = |a: &Attribute| format!("{}={}", a.object.0, if let Value::Text(t) = &a.value { t } else { "?" });
    perception.attributes().iter().map(text).collect::<Vec<_>>().join(" ")
}

mod selection {
    use super::*;

    #[test]
    fn class_score_size_and_step() {
        fn check(options: RegionOptions, object: Object, expected: bool) {
            let perception = scene([object.clone()], []);
            let selected = select(&mut cascade(options.clone()), 0, &perception);
            assert_eq!(!selected.is_empty(), expected, "{options:?} {object:?}");
        }
        let object = || person([10.0, 10.0, 30.0, 60.0]);
        check(options(), object(), true);
        let classes = |names: &[&str]| names.iter().map(|n| Name::new(n)).collect();
        check(RegionOptions { classes: classes(&["car", "person"]), ..options() }, object(), true);
        check(RegionOptions { classes: classes(&["car"]), ..options() }, object(), false);
        check(RegionOptions { classes: classes(&["person"]), ..options() }, Object { class: None, ..object() }, false);
        check(RegionOptions { min_score: 0.9, ..options() }, object(), true);
        check(RegionOptions { min_score: 0.91, ..options() }, object(), false);
        check(options(), Object { score: f32::NAN, ..object() }, false);
        check(RegionOptions { min_width: 20.0, min_height: 50.0, ..options() }, object(), true);
        check(RegionOptions { min_width: 20.5, ..options() }, object(), false);
        check(RegionOptions { min_height: 50.5, ..options() }, object(), false);
        check(RegionOptions { from: Some("detector".into()), ..options() }, object(), true);
        check(RegionOptions { from: Some("faces".into()), ..options() }, object(), false);
    }

    #[test]
    fn boxes_are_clipped_and_what_has_no_pixel_is_left_out() {
        fn check(bbox: [f32; 4], expected: Option<[f32; 4]>) {
            let regions = cascade(options()).select(at(0), &scene([person(bbox)], []), FRAME, 64);
            assert_eq!(regions.first().map(|r| <[f32; 4]>::from(r.bbox)), expected, "{bbox:?}");
        }
        check([-10.0, -5.0, 20.0, 30.0], Some([0.0, 0.0, 20.0, 30.0]));
        check([600.0, 400.0, 700.0, 500.0], Some([600.0, 400.0, 640.0, 480.0]));
        check([5.0, 5.0, 6.0, 6.0], Some([5.0, 5.0, 6.0, 6.0]));
        check([5.0, 5.0, 5.9, 60.0], None);
        check([30.0, 30.0, 10.0, 10.0], None);
        check([-50.0, 0.0, -10.0, 20.0], None);
        check([639.5, 0.0, 700.0, 20.0], None);
        check([f32::NAN, 0.0, 20.0, 20.0], None);
        // Too narrow once it is clipped.
        let narrow = RegionOptions { min_width: 30.0, ..options() };
        assert_eq!(select(&mut cascade(narrow), 0, &scene([person([-20.0, 0.0, 20.0, 50.0])], [])), [0; 0]);
    }

    #[test]
    fn the_largest_first_and_no_more_than_either_limit() {
        let perception = scene([10.0, 40.0, 20.0, 30.0, 40.0].map(sized), []);
        fn check(max_regions: usize, limit: usize, perception: &Perception, expected: &[u32]) {
            let mut cascade = cascade(RegionOptions { max_regions, ..options() });
            let regions = cascade.select(at(0), perception, FRAME, limit);
            assert_eq!(regions.iter().map(|r| r.object.0).collect::<Vec<_>>(), expected);
        }
        check(64, 64, &perception, &[1, 4, 3, 2, 0]);
        check(3, 64, &perception, &[1, 4, 3]);
        check(64, 2, &perception, &[1, 4]);
        let mut surer = scene([sized(40.0), Object { score: 0.95, ..sized(40.0) }], []);
        check(1, 64, &surer, &[1]);
        surer.retain_reported(2.0);
        check(1, 64, &surer, &[]);
    }

    #[test]
    fn without_refresh_every_frame() {
        let mut cascade = cascade(options());
        for seq in 0..3 {
            assert_eq!(select(&mut cascade, seq, &followed()), [0]);
        }
    }

    #[test]
    fn a_track_is_looked_at_so_often_and_an_object_without_one_each_time() {
        let mut cascade = cascade(refreshed());
        let perception = scene([sized(50.0), sized(20.0)], [track(7, 0)]);
        let looks: Vec<_> = (0..22).map(|seq| select(&mut cascade, seq, &perception)).collect();
        for (seq, selected) in looks.iter().enumerate() {
            let expected: &[u32] = if seq % 10 == 0 { &[0, 1] } else { &[1] };
            assert_eq!(selected, expected, "frame {seq}");
        }
    }

    #[test]
    fn a_track_that_gets_another_object_id_is_the_same() {
        let mut cascade = cascade(refreshed());
        assert_eq!(select(&mut cascade, 0, &scene([sized(50.0), sized(20.0)], [track(7, 0), track(8, 1)])), [0, 1]);
        assert_eq!(select(&mut cascade, 1, &scene([sized(20.0), sized(50.0)], [track(7, 1), track(9, 0)])), [0]);
    }

    #[test]
    fn those_that_wait_longest_come_first() {
        let mut cascade =
            cascade(RegionOptions { max_regions: 2, refresh: Some(Duration::from_nanos(1)), ..options() });
        let perception =
            || scene([50.0, 40.0, 30.0, 20.0, 60.0].map(sized), [track(1, 0), track(2, 1), track(3, 2), track(4, 3)]);
        let looks: Vec<_> = (0..3).map(|seq| select(&mut cascade, seq, &perception())).collect();
        assert_eq!(looks, [[0, 1], [2, 3], [0, 1]], "and the object that no track has comes last, however large");
    }

    #[test]
    fn after_a_cut_or_when_time_went_back_a_track_is_new() {
        let later = |seq| StreamPosition { session: 1, ..at(seq) };
        let mut cascade = cascade(refreshed());
        assert_eq!(select(&mut cascade, 5, &followed()), [0]);
        assert_eq!(cascade.select(later(6), &followed(), FRAME, 64).len(), 1);
        assert_eq!(cascade.select(StreamPosition { cuts: 1, ..later(7) }, &followed(), FRAME, 64).len(), 1);
        assert_eq!(cascade.select(StreamPosition { cuts: 1, ..later(0) }, &followed(), FRAME, 64).len(), 1);
    }

    #[test]
    fn a_lost_track_selects_nothing_and_is_forgotten() {
        let mut cascade = cascade(refreshed());
        select(&mut cascade, 0, &followed());
        assert_eq!(cascade.selection.looked.kept.len(), 1);
        let lost = Track { state: TrackState::Lost, ..track(7, 0) };
        assert_eq!(select(&mut cascade, 1, &scene([sized(50.0)], [lost])), [0], "as an object without a track");
        assert!(cascade.selection.looked.kept.is_empty());
    }
}

mod attaching {
    use super::*;

    #[test]
    fn what_a_region_gave_is_about_its_object() {
        let mut perception = scene([sized(50.0), sized(40.0)], []);
        let mut cascade = cascade(options());
        let results = cascade
            .select(at(0), &perception, FRAME, 64)
            .into_iter()
            .map(|region| {
                let mut output = colour(&region, if region.object.0 == 0 { "red" } else { "blue" });
                output.tables.embeddings.push(region.object, &[region.object.0 as f32]);
                // Two faces, the second of which belongs to the first; each was told that its first id is 2.
                let face = |id, parent: Option<u32>| Object {
                    parent: parent.map(ObjectId),
                    ..Object::new(ObjectId(id), 0, 0.5, region.bbox)
                };
                output.objects = Some(vec![face(2, None), face(3, Some(2))]);
                output.attributes.push(Attribute { object: ObjectId(3), name: "n".into(), value: "x".into() });
                output.signals.push(Signal::new("helmet", true));
                (region, Some(output))
            })
            .collect();
        cascade.attach(at(0), &mut perception, results);
        let ids: Vec<_> = perception.objects().iter().map(|o| (o.id.0, o.parent.map(|p| p.0), &*o.source)).collect();
        let expected = [
            (0, None, "detector"),
            (1, None, "detector"),
            (2, Some(0), "colour"),
            (3, Some(2), "colour"),
            (4, Some(1), "colour"),
            (5, Some(4), "colour"),
        ];
        assert_eq!(ids, expected);
        assert_eq!(colours(&perception), "0=red 3=x 1=blue 5=x");
        assert_eq!(perception.tables().embeddings.get(ObjectId(1)), Some(&[1.0][..]));
        let about: Vec<_> = perception.signals().iter().map(|s| s.object.map(|o| o.0)).collect();
        assert_eq!(about, [Some(0), Some(1)]);
    }

    #[test]
    fn what_it_says_of_others_is_left_out() {
        let mut perception = scene([sized(50.0), sized(40.0)], [track(7, 0)]);
        let before = perception.clone();
        let mut cascade = cascade(options());
        let region = cascade.select(at(0), &perception, FRAME, 1).remove(0);
        let mut output = StageOutput {
            objects: Some(vec![Object::new(ObjectId(2), 0, 0.5, region.bbox)]),
            ..StageOutput::default()
        };
        output.objects.as_mut().unwrap()[0].parent = Some(ObjectId(1));
        // 3 is no object of its own; another region's might get that number.
        for id in [ObjectId(1), ObjectId(3)] {
            output.attributes.push(Attribute { object: id, name: "n".into(), value: "x".into() });
            output.tables.embeddings.push(id, &[1.0]);
            output.signals.push(Signal { object: Some(id), ..Signal::new("s", true) });
        }
        output.signals.push(Signal { track: Some(TrackId(7)), ..Signal::new("s", true) });
        output.scene.push(SceneFeature { name: "brightness".into(), value: 0.5.into() });
        output.tracks = Some(vec![]);
        output.artifacts.push(Artifact { schema: "a/1".into(), encoding: "raw".into(), bytes: [1].into() });
        cascade.attach(at(0), &mut perception, vec![(region, Some(output))]);
        assert_eq!(perception.object(ObjectId(2)).unwrap().parent, Some(ObjectId(0)));
        assert_eq!(perception.tracks(), before.tracks());
        assert!(perception.attributes().is_empty() && perception.tables().is_empty());
        assert!(perception.signals().is_empty() && perception.scene().is_empty());
        assert!(perception.artifact("a/1").is_some());
    }

    #[test]
    fn between_looks_an_object_keeps_what_is_known_of_its_track() {
        let mut cascade = cascade(refreshed());
        assert_eq!(colours(&run(&mut cascade, 0, followed(), "red")), "0=red");
        // The same person is now object 1; the other has no track.
        let moved = scene([sized(20.0), sized(50.0)], [track(7, 1)]);
        assert_eq!(colours(&run(&mut cascade, 1, moved, "blue")), "0=blue 1=red");
        assert_eq!(colours(&run(&mut cascade, 10, followed(), "green")), "0=green");
        assert_eq!(colours(&run(&mut cascade, 11, followed(), "")), "0=green");
        let coasted = Track { object: None, ..track(7, 0) };
        assert_eq!(colours(&run(&mut cascade, 12, scene([], [coasted]), "")), "");
    }

    #[test]
    fn embeddings_are_kept_and_children_are_not() {
        let mut cascade = cascade(refreshed());
        let mut first = followed();
        let region = cascade.select(at(0), &first, FRAME, 64).remove(0);
        let mut output = StageOutput {
            objects: Some(vec![Object::new(ObjectId(1), 0, 0.5, region.bbox)]),
            ..StageOutput::default()
        };
        output.tables.embeddings.push(region.object, &[0.5, 0.25]);
        cascade.attach(at(0), &mut first, vec![(region, Some(output))]);
        assert_eq!(first.objects().len(), 2);
        let second = run(&mut cascade, 1, followed(), "");
        assert_eq!(second.objects().len(), 1);
        assert_eq!(second.tables().embeddings.get(ObjectId(0)), Some(&[0.5, 0.25][..]));
    }

    #[test]
    fn a_frame_on_which_the_step_did_not_run_is_told_what_is_known() {
        let mut cascade = cascade(refreshed());
        run(&mut cascade, 0, followed(), "red");
        let mut skipped = followed();
        cascade.attach(at(50), &mut skipped, vec![]);
        assert_eq!(colours(&skipped), "0=red");
        assert_eq!(select(&mut cascade, 51, &followed()), [0], "and the track is due");
    }

    #[test]
    fn without_refresh_nothing_is_kept() {
        let mut cascade = cascade(options());
        run(&mut cascade, 0, followed(), "red");
        let mut skipped = followed();
        cascade.attach(at(1), &mut skipped, vec![]);
        assert_eq!(skipped, followed());
        assert!(cascade.known.kept.is_empty() && cascade.selection.looked.kept.is_empty());
    }

    #[test]
    fn several_frames_may_be_under_way() {
        let mut cascade = cascade(refreshed());
        let mut frames = [followed(), followed(), followed()];
        let regions: Vec<_> = (0..3).map(|i| cascade.select(at(i), &frames[i as usize], FRAME, 64)).collect();
        assert_eq!(regions.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
        for (i, regions) in (0..).zip(regions) {
            let results = regions.into_iter().map(|r| (r.clone(), Some(colour(&r, "red")))).collect();
            cascade.attach(at(i), &mut frames[i as usize], results);
            assert_eq!(colours(&frames[i as usize]), "0=red", "frame {i}");
        }
    }

    #[test]
    fn after_a_failure_a_track_is_looked_at_again_and_keeps_what_was_known() {
        let mut cascade = cascade(refreshed());
        run(&mut cascade, 0, followed(), "red");
        let mut failed = followed();
        let region = cascade.select(at(10), &failed, FRAME, 64).remove(0);
        assert_eq!(select(&mut cascade, 11, &followed()), [0; 0], "under way");
        cascade.attach(at(10), &mut failed, vec![(region, None)]);
        assert_eq!(colours(&failed), "0=red");
        assert_eq!(select(&mut cascade, 12, &followed()), [0]);
        assert_eq!(select(&mut cascade, 13, &followed()), [0; 0]);
        // That of an older frame says nothing about a newer look.
        cascade.attach(at(11), &mut followed(), vec![(Region { object: ObjectId(0), bbox: BBox::default() }, None)]);
        assert_eq!(select(&mut cascade, 14, &followed()), [0; 0]);
    }

    #[test]
    fn a_frame_that_is_lost_gives_its_looks_back() {
        let mut cascade = cascade(refreshed());
        let two = || scene([sized(50.0), sized(40.0)], [track(7, 0), track(8, 1)]);
        assert_eq!(select(&mut cascade, 0, &followed()), [0]);
        assert_eq!(select(&mut cascade, 1, &two()), [1]);
        cascade.lost(1);
        assert_eq!(select(&mut cascade, 2, &two()), [1]);
        cascade.lost(1);
        assert_eq!(select(&mut cascade, 3, &two()), [0; 0]);
    }

    #[test]
    fn a_cut_forgets_on_each_side_in_its_turn() {
        let mut cascade = cascade(refreshed());
        run(&mut cascade, 0, followed(), "red");
        // The next session is selected before the last frame of this one is attached.
        let next = StreamPosition { session: 1, ..at(2) };
        assert_eq!(cascade.select(next, &followed(), FRAME, 64).len(), 1);
        let mut last = followed();
        cascade.attach(at(1), &mut last, vec![]);
        assert_eq!(colours(&last), "0=red");
        let mut first = followed();
        cascade.attach(next, &mut first, vec![]);
        assert_eq!(colours(&first), "");
    }

    #[test]
    fn a_result_with_wrong_numbers_is_discarded_as_failed() {
        fn check(ids: &[u32], expected: usize) {
            let mut cascade = cascade(refreshed());
            let mut perception = followed();
            let region = cascade.select(at(0), &perception, FRAME, 64).remove(0);
            let objects = ids.iter().map(|id| Object::new(ObjectId(*id), 0, 0.5, region.bbox)).collect();
            let output = StageOutput { objects: Some(objects), ..colour(&region, "red") };
            cascade.attach(at(0), &mut perception, vec![(region, Some(output))]);
            assert_eq!(perception.objects().len(), 1 + expected, "{ids:?}");
            let fine = expected == ids.len();
            assert_eq!(colours(&perception), if fine { "0=red" } else { "" }, "{ids:?}");
            assert_eq!(select(&mut cascade, 1, &followed()).len(), usize::from(!fine), "{ids:?}");
        }
        check(&[], 0);
        check(&[1, 2], 2);
        check(&[0], 0);
        check(&[1, 1], 0);
        check(&[2], 0);
        check(&[1, u32::MAX], 0);
    }
}

#[test]
fn tracks_unseen_for_ten_seconds_are_forgotten() {
    let mut cascade = cascade(refreshed());
    run(&mut cascade, 0, followed(), "red");
    run(&mut cascade, 99, scene([], []), "");
    assert_eq!((cascade.selection.looked.kept.len(), cascade.known.kept.len()), (1, 1));
    run(&mut cascade, 109, scene([], []), "");
    assert_eq!((cascade.selection.looked.kept.len(), cascade.known.kept.len()), (0, 0));
}

#[test]
fn a_track_that_is_seen_is_not_forgotten_however_seldom_it_is_looked_at() {
    let mut cascade = cascade(RegionOptions { refresh: Some(Duration::from_secs(3600)), ..options() });
    run(&mut cascade, 0, followed(), "red");
    for seq in 1..300 {
        assert_eq!(colours(&run(&mut cascade, seq, followed(), "blue")), "0=red");
    }
}

#[test]
fn no_more_tracks_are_kept_than_there_is_room_for() {
    let mut cascade = cascade(RegionOptions { max_regions: usize::MAX, ..refreshed() });
    for seq in 0..6u64 {
        let tracks = (0..1000).map(|i| track(seq * 1000 + u64::from(i), i));
        let mut perception = scene((0..1000).map(|_| sized(20.0)), tracks);
        let regions = cascade.select(at(seq), &perception, FRAME, usize::MAX);
        let results = regions.into_iter().map(|r| (r.clone(), Some(colour(&r, "red")))).collect();
        cascade.attach(at(seq), &mut perception, results);
    }
    for kept in [cascade.selection.looked.kept.len(), cascade.known.kept.len()] {
        assert_eq!(kept, MAX_TRACKS);
    }
    assert!(cascade.known.get(TrackId(5999)).is_some() && cascade.known.get(TrackId(0)).is_none());
}

#[test]
fn errors_name_the_field_and_the_reason() {
    fn check(options: RegionOptions, expected: Option<&str>) {
        assert_eq!(options.validate().err().map(|e| e.to_string()).as_deref(), expected);
    }
    check(options(), None);
    check(RegionOptions { min_score: 1.5, ..options() }, Some("regions.min_score is 1.5: scores are from 0 to 1"));
    check(RegionOptions { min_score: f32::NAN, ..options() }, Some("regions.min_score is NaN: scores are from 0 to 1"));
    let pixels = "it must be a number of pixels, 0 or more";
    check(RegionOptions { min_width: -1.0, ..options() }, Some(&format!("regions.min_width is -1: {pixels}")));
    check(
        RegionOptions { min_height: f32::INFINITY, ..options() },
        Some(&format!("regions.min_height is inf: {pixels}")),
    );
}

/// One frame of a random run.
#[derive(Clone, Debug)]
struct Step {
    /// For each object its track and side.
    objects: Vec<(Option<u64>, f32)>,
    interval_ms: i64,
    cut: bool,
    /// How many frames may be under way before the oldest is attached.
    under_way: usize,
    /// Whether the frame is lost, and for each region whether its run fails and how many children it finds.
    lost: bool,
    runs: Vec<(bool, u32)>,
}

fn step() -> impl Strategy<Value = Step> {
    let objects = prop::collection::vec((prop::option::of(0u64..12), 0.5f32..60.0), 0..8);
    let runs = prop::collection::vec((prop::bool::weighted(0.2), 0u32..3), 8);
    (objects, -50i64..700, prop::bool::weighted(0.05), 1usize..4, prop::bool::weighted(0.1), runs).prop_map(
        |(objects, interval_ms, cut, under_way, lost, runs)| Step { objects, interval_ms, cut, under_way, lost, runs },
    )
}

proptest! {
    /// Whatever is seen, lost and fails: ids are unique, every region's object exists, what is attached to an object was said
    /// of its own track, a track is not looked at twice within `refresh` unless a look failed, and the memory is bounded.
    #[test]
    fn what_is_attached_belongs_where_it_is(steps in prop::collection::vec(step(), 1..60), limit in 1usize..6) {
        let mut cascade = cascade(refreshed());
        let mut waiting: std::collections::VecDeque<(StreamPosition, Perception, Vec<Region>, Step)> = Default::default();
        let (mut pts, mut cuts) = (0, 0);
        let mut looked: HashMap<(u32, u64), Vec<(Pts, u64)>> = HashMap::new();
        let mut failed = std::collections::HashSet::new();
        let mut drained = steps.clone();
        drained.push(Step { objects: vec![], interval_ms: 0, cut: false, under_way: 0, lost: false, runs: vec![] });
        for (seq, step) in (0..).zip(drained) {
            pts = (pts + step.interval_ms * 1_000_000).max(0);
            cuts += u32::from(step.cut);
            let at = StreamPosition { seq, pts: Pts::from_nanos(pts), session: 0, cuts };
            let tracks = (0..).zip(&step.objects).filter_map(|(i, (t, _))| Some(track((*t)?, i)));
            let mut seen = std::collections::HashSet::new();
            let tracks: Vec<_> = tracks.filter(|t| seen.insert(t.id)).collect();
            let perception = scene(step.objects.iter().map(|(_, side)| sized(*side)), tracks);
            let regions = cascade.select(at, &perception, FRAME, limit);
            prop_assert!(regions.len() <= limit);
            for region in &regions {
                prop_assert!(perception.object(region.object).is_some());
                if let Some(t) = perception.tracks().iter().find(|t| t.object == Some(region.object)) {
                    let looks = looked.entry((cuts, t.id.0)).or_default();
                    if let Some((last, of)) = looks.last() {
                        let apart = at.pts < *last || at.pts.since(*last) >= Duration::from_secs(1);
                        prop_assert!(apart || failed.contains(of), "track {} at {:?}", t.id.0, at);
                    }
                    looks.push((at.pts, seq));
                }
            }
            let under_way = step.under_way;
            waiting.push_back((at, perception, regions, step));
            while waiting.len() > under_way {
                let (at, mut perception, regions, step) = waiting.pop_front().unwrap();
                if step.lost {
                    failed.insert(at.seq);
                    cascade.lost(at.seq);
                    continue;
                }
                let tracks: HashMap<u32, u64> =
                    perception.tracks().iter().map(|t| (t.object.unwrap().0, t.id.0)).collect();
                let first = perception.next_object_id().0;
                let results = regions.into_iter().zip(&step.runs).map(|(region, (fails, children))| {
                    if *fails {
                        failed.insert(at.seq);
                        return (region, None);
                    }
                    let whose = tracks.get(&region.object.0).map_or("none".into(), |t| format!("{cuts}/{t}", cuts = at.cuts));
                    let mut output = colour(&region, &whose);
                    let child = |i| Object::new(ObjectId(first + i), 0, 0.5, region.bbox);
                    output.objects = Some((0..*children).map(child).collect());
                    (region, Some(output))
                });
                let results: Vec<_> = results.collect();
                let earlier = perception.objects().len();
                cascade.attach(at, &mut perception, results);
                let mut ids: Vec<_> = perception.objects().iter().map(|o| o.id).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), perception.objects().len());
                for child in &perception.objects()[earlier..] {
                    prop_assert!(child.parent.is_some_and(|p| p.0 < first));
                }
                let mut told = std::collections::HashSet::new();
                for a in perception.attributes() {
                    prop_assert!(told.insert(a.object), "an object is told of once");
                    let whose = tracks.get(&a.object.0).map_or("none".into(), |t| format!("{cuts}/{t}", cuts = at.cuts));
                    prop_assert_eq!(&a.value, &Value::Text(whose));
                }
            }
        }
        prop_assert!(cascade.selection.looked.kept.len() <= 12 && cascade.known.kept.len() <= 12);
    }
}
