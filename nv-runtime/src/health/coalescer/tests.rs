use std::fmt::Write as _;

use nv_core::DropReason;
use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

/// A kind by a short name.
fn kind(name: &str) -> HealthKind {
    let batch = || "d".into();
    match name {
        "lost" => HealthKind::SourceLost { reason: "refused".into(), retry_in: Duration::ZERO },
        "opened" => HealthKind::SourceOpened { session: 1, description: String::new() },
        "full" => HealthKind::SinkFull { sink: "s".into() },
        "again" => HealthKind::SinkCaughtUp { sink: "s".into() },
        "failed" => HealthKind::BatchFailed { batch: batch(), entries: 1, error: "no".into() },
        "down" => HealthKind::BatchDown { batch: batch(), error: "no".into() },
        "up" => HealthKind::BatchUp { batch: batch() },
        "drop" => HealthKind::FramesDropped { reason: DropReason::QueueFull, frames: 1 },
        "end" => HealthKind::FeedEnded { reason: "stopped".into(), ok: true },
        _ => panic!("no kind is called {name}"),
    }
}

const NAMES: [&str; 9] = ["lost", "opened", "full", "again", "failed", "down", "up", "drop", "end"];

fn name(of: &HealthKind) -> &'static str {
    NAMES.into_iter().find(|name| of.repeats(&kind(name))).expect("made by `kind`")
}

/// What is told of a script of `at_ms feed what`, each step preceded by the ticks that are due: lines of the same sort, with
/// the count where it is not 1.
fn check(script: &[(u64, &str, &str)], until: u64, expected: &[&str]) {
    let mut coalescer = Coalescer::default();
    let mut lines = Vec::new();
    let mut tell = |at: MonoTime, told: Vec<HealthEvent>| {
        for event in told {
            let feed = event.feed.as_deref().unwrap_or("-").to_owned();
            let mut line = format!("{} {feed} {}", at.as_nanos() / 1_000_000, name(&event.kind));
            if event.count > 1 {
                write!(line, " x{}", event.count).unwrap();
            }
            lines.push(line);
        }
    };
    let ticks = |coalescer: &mut Coalescer, until: MonoTime, tell: &mut dyn FnMut(MonoTime, Vec<HealthEvent>)| {
        while let Some(due) = coalescer.next_due().filter(|due| *due <= until) {
            let mut told = Vec::new();
            coalescer.tick(due, &mut told);
            tell(due, told);
        }
    };
    for (at, feed, what) in script {
        let at = ms(*at);
        ticks(&mut coalescer, at, &mut tell);
        let mut told = Vec::new();
        coalescer.report(HealthEvent::new(at, Some((*feed).into()), kind(what)), &mut told);
        tell(at, told);
    }
    ticks(&mut coalescer, ms(until), &mut tell);
    assert_eq!(lines, expected);
}

#[test]
fn repeats_are_told_once_a_second() {
    check(&[(0, "a", "full")], 9000, &["0 a full"]);
    check(
        &[(0, "a", "full"), (10, "a", "full"), (999, "a", "full"), (1500, "a", "full")],
        9000,
        &["0 a full", "1000 a full x2", "2000 a full"],
    );
    check(&[(0, "a", "full"), (1000, "a", "full")], 9000, &["0 a full", "1000 a full"]);
}

#[test]
fn feeds_and_topics_have_nothing_to_do_with_each_other() {
    check(
        &[(0, "a", "full"), (1, "b", "full"), (2, "a", "failed"), (3, "a", "full"), (4, "b", "failed")],
        1000,
        &["0 a full", "1 b full", "2 a failed", "4 b failed", "1000 a full"],
    );
}

#[test]
fn a_recovery_is_told_after_what_is_held() {
    check(
        &[(0, "a", "failed"), (1, "a", "failed"), (2, "a", "failed"), (3, "a", "down"), (4, "a", "up")],
        9000,
        &["0 a failed", "3 a failed x2", "3 a down", "4 a up"],
    );
}

#[test]
fn what_flaps_is_told_in_the_order_of_its_last_change() {
    check(
        &[(0, "a", "lost"), (100, "a", "opened"), (200, "a", "lost"), (300, "a", "opened"), (400, "a", "lost")],
        9000,
        &["0 a lost", "100 a opened", "1000 a opened", "1000 a lost x2"],
    );
}

#[test]
fn a_feeds_end_is_told_after_what_is_held_of_it() {
    check(
        &[
            (0, "a", "full"),
            (1, "a", "failed"),
            (2, "b", "full"),
            (3, "a", "failed"),
            (4, "a", "full"),
            (5, "b", "full"),
            (6, "a", "end"),
            (7, "a", "full"),
        ],
        9000,
        &["0 a full", "1 a failed", "2 b full", "6 a failed", "6 a full", "6 a end", "7 a full", "1002 b full"],
    );
}

#[test]
fn what_is_quiet_is_forgotten() {
    let mut coalescer = Coalescer::default();
    for feed in 0..100 {
        let feed: Name = format!("feed {feed}").into();
        coalescer.report(HealthEvent::new(ms(feed.len() as u64), Some(feed), kind("full")), &mut Vec::new());
    }
    assert_eq!(coalescer.topics.len(), 100);
    coalescer.tick(ms(5000), &mut Vec::new());
    assert!(coalescer.topics.is_empty() && coalescer.ends.is_empty() && coalescer.next_due().is_none());
}

proptest! {
    /// Events come at any times, the thread wakes as late as it likes after what is due.
    #[test]
    fn nothing_is_lost_and_the_last_word_is_right(
        events in prop::collection::vec((0u64..400, 0usize..2, 0usize..NAMES.len()), 1..120),
        late in 0u64..50,
    ) {
        let feeds: [Name; 2] = ["a".into(), "b".into()];
        let mut coalescer = Coalescer::default();
        let mut now = 0;
        let mut told: Vec<(u64, HealthEvent)> = Vec::new();
        let mut came: Vec<(u64, HealthEvent)> = Vec::new();
        let tick = |coalescer: &mut Coalescer, until: u64, told: &mut Vec<(u64, HealthEvent)>| {
            while let Some(due) = coalescer.next_due() {
                let due = due.as_nanos() / 1_000_000 + late;
                if due > until {
                    break;
                }
                let mut out = Vec::new();
                coalescer.tick(ms(due), &mut out);
                told.extend(out.into_iter().map(|e| (due, e)));
            }
        };
        for (pause, feed, what) in events {
            tick(&mut coalescer, now + pause, &mut told);
            now += pause;
            let event = HealthEvent::new(ms(now), Some(feeds[feed].clone()), kind(NAMES[what]));
            came.push((now, event.clone()));
            let mut out = Vec::new();
            coalescer.report(event, &mut out);
            told.extend(out.into_iter().map(|e| (now, e)));
            prop_assert!(coalescer.topics.len() <= 2 * 4);
            prop_assert!(coalescer.topics.values().all(|w| w.held.is_empty() || coalescer.next_due() <= Some(w.ends)));
            // A window ends a second after it began, and began with an event or had held one of the second before.
            let recent = came.iter().filter(|(at, _)| at + 2 * (1000 + late) >= now).count();
            prop_assert!(coalescer.ends.len() <= recent);
        }
        tick(&mut coalescer, now + 5000, &mut told);
        prop_assert!(coalescer.topics.is_empty());
        for feed in &feeds {
            let of = |events: &[(u64, HealthEvent)], what: &str| -> Vec<(u64, HealthEvent)> {
                let same = |e: &HealthEvent| e.feed.as_ref() == Some(feed) && name(&e.kind) == what;
                events.iter().filter(|(_, e)| same(e)).cloned().collect()
            };
            for what in NAMES {
                let (came, told) = (of(&came, what), of(&told, what));
                prop_assert_eq!(came.len() as u64, told.iter().map(|(_, e)| e.count).sum::<u64>(), "all of {} are told", what);
                for (at, event) in &came {
                    let known = told.iter().any(|(then, e)| then >= at && *then <= at + 1000 + late && e.at >= event.at);
                    prop_assert!(known, "{} at {} is told within a second", what, at);
                }
            }
            for topic in NAMES.map(|name| kind(name).topic()) {
                let last = |events: &[(u64, HealthEvent)]| {
                    let of = |e: &&(u64, HealthEvent)| e.1.feed.as_ref() == Some(feed) && e.1.kind.topic() == topic;
                    events.iter().rfind(of).map(|(_, e)| (e.at, name(&e.kind)))
                };
                prop_assert_eq!(last(&came), last(&told), "the last that is told is the last that happened");
            }
        }
    }
}
