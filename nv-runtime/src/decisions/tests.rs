use std::io::{self, Write};
use std::time::Duration;

use nv_core::{DropReason, MonoTime};
use proptest::prelude::*;

use super::log::Buffer;
use super::*;
use crate::batch::cores::{BoundPart, LaneRole, PointCore, PointLimits, Verdict};
use crate::batch::{BatchConfig, EntryKey};
use crate::feed::cores::{
    Arrival, BudgetConfig, CoreConfig, CoreStep, FeedCore, FeedPlan, Given, Glance, IntakeConfig, IntakeCore,
    Reconnect, ReconnectConfig, RestartBudget, StepKind,
};
use crate::feed::{QueuePolicy, RestartConfig, StepErrorPolicy};

fn ms(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

/// What `decide` had written, as a whole log.
fn recorded(decide: impl FnOnce(&DecisionLog)) -> String {
    let written = Buffer::default();
    let log = DecisionLog::new("test", written.clone()).unwrap();
    decide(&log);
    log.finish().unwrap();
    String::from_utf8(written.take()).unwrap()
}

fn intake(log: &DecisionLog, policy: QueuePolicy) -> IntakeCore<()> {
    IntakeCore::recorded(IntakeConfig::new(3, policy), Some(log), "gate")
}

/// Those of [`sample`].
const DECISIONS: u64 = 35;

/// A little of everything, the same each time.
fn sample() -> String {
    recorded(|log| {
        let mut gate = intake(log, QueuePolicy::DropOldest);
        let mut source = Reconnect::recorded(
            ReconnectConfig::new(&RestartConfig::default(), u64::MAX - 7, MonoTime::ZERO),
            Some(log),
            "gate",
        );
        let mut restarts =
            RestartBudget::recorded(BudgetConfig::new(&RestartConfig::default(), 1 << 63), Some(log), "gate");
        for at in 0..5 {
            source.frame(ms(at), false);
            gate.push(ms(at), Given::default(), (), |(), _| ());
        }
        gate.add_claims(2);
        gate.bind(ms(7), EntryKey::default(), &mut 0);
        gate.void_claims(ms(8), 1, DropReason::Unavailable);
        gate.drop_frame(ms(9), 3, DropReason::StageError, Some(&"über \"track\"".into()));
        source.lost();
        let mut point = PointCore::recorded(PointLimits::from(&BatchConfig::default()), Some(log), "detector");
        point.instance_started();
        let lane = point.attach(LaneRole::Live, 1);
        point.claim(ms(7), lane, 2, Some(ms(40)));
        let (mut batch, mut frames) =
            (Vec::new(), vec![None, Some(BoundPart { payload: (), received: ms(2), batch_key: 0 })]);
        point.next_batch(ms(9), 0, &mut batch, &mut Vec::new(), |_, _| frames.pop().flatten());
        assert_eq!(batch.len(), 1);
        point.close_batch(ms(19), 0, batch.iter().map(|t| (t.key, Verdict::Computed)), |_| ());
        let limit = Duration::from_secs(5);
        let step =
            CoreStep { kind: StepKind::Batch, gated: false, claims: true, response_timeout: limit, look_after: limit };
        let config = CoreConfig { live: true, max_in_pipeline: None, on_step_error: StepErrorPolicy::Drop };
        let mut feed = FeedCore::recorded(FeedPlan { config, steps: vec![step] }, Some(log), "gate");
        feed.look(1, 0, false);
        feed.set_slots(0, 2);
        feed.next(ms(8), true);
        feed.claimed(ms(8), 1, None);
        feed.bound(2, ms(9), batch[0].key, ());
        feed.answered(2);
        feed.next(ms(20), true);
        feed.passed(2);
        feed.emitted(2);
        while restarts.failed(ms(10)).is_some() {}
    })
}

#[test]
fn a_log_is_played_back_to_its_end() {
    let report = replay(sample().as_bytes()).unwrap();
    assert_eq!(report.end, LogEnd::Whole);
    let cores: Vec<_> = report.cores.iter().map(|(kind, n)| (kind.as_str(), n.cores, n.decisions)).collect();
    let expected = [("batch", 1, 5), ("feed", 1, 9), ("intake", 1, 9), ("reconnect", 1, 6), ("restarts", 1, 6)];
    assert_eq!(cores, expected);
    assert_eq!(report.total(), ReplayedCores { cores: 5, decisions: DECISIONS });
}

#[test]
fn the_form_of_a_log_is_fixed() {
    let log = recorded(|log| {
        let mut gate = intake(log, QueuePolicy::Block);
        gate.push(ms(40), Given { session: 1, cuts: 2, ..Given::default() }, (), |(), _| ());
        gate.drop_frame(ms(50), 0, DropReason::Expired, Some(&"detector".into()));
    });
    let expected = format!(
        r#"{{"schema":"nv.decisions/1","version":"{}"}}
{{"core":"intake gate #1","new":{{"capacity":3,"policy":"block","freshness":null,"period":null,"drop_suspect":false}}}}
{{"core":"intake gate #1","in":{{"push":{{"now":40000000,"given":{{"session":1,"cuts":2,"pts":0,"suspect":false}}}}}},"out":{{"taken":null}}}}
{{"core":"intake gate #1","in":{{"drop":{{"now":50000000,"seq":0,"reason":"expired","step":"detector"}}}},"out":true}}
{{"end":{{"lines":3}}}}
"#,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(log, expected);
}

#[test]
fn a_decision_that_was_changed_is_found() {
    let log = sample();
    let line = log.lines().position(|line| line.contains(r#""in":"lost""#)).unwrap();
    let changed: Vec<String> = log
        .lines()
        .enumerate()
        .map(|(i, text)| if i == line { text.replacen(r#""out":1"#, r#""out":2"#, 1) } else { text.to_owned() })
        .collect();
    let error = replay((changed.join("\n") + "\n").as_bytes()).unwrap_err();
    let ReplayError::Differs(difference) = &error else { panic!("{error}") };
    assert_eq!((difference.line, difference.core.as_str()), (line as u64 + 1, "reconnect gate #2"));
    assert_eq!(difference.recorded, changed[line]);
    assert_eq!(difference.replayed, log.lines().nth(line).unwrap());
    // An input that leads elsewhere shows in what follows from it.
    let other = log.replacen(r#"{"push":{"now":2000000,"#, r#"{"push":{"now":2000001,"#, 1);
    assert!(matches!(replay(other.as_bytes()), Err(ReplayError::Differs(_))));
}

#[test]
fn what_is_no_log_is_refused_by_line_and_reason() {
    fn check(log: &str, expected: &str) {
        let error = replay(log.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nis not\n{expected}");
    }
    let header = r#"{"schema":"nv.decisions/1","version":"0"}"#;
    let after = |lines: &str| format!("{header}\n{lines}\n");
    let made = r#"{"core":"restarts a #1","new":{"max":1,"window":9,"first":4,"most":8,"seed":1}}"#;
    check("", "not a log of decisions in the form nv.decisions/1: it is empty");
    check("{\"schema\":", "its first line is torn");
    check("\u{0}\u{1}\n", "its first line: expected value at line 1 column 1");
    check("{\"schema\":\"nv.output/1\"}\n", "it says that it is \"nv.output/1\"");
    check(&after("what?"), "line 2: expected value at line 1 column 1");
    check(&after("{}"), "line 2: it is neither a core that is made, nor a call of one, nor the end");
    check(&after(r#"{"core":"intake a #1","in":"pop","out":null}"#), "line 2: intake a #1 was not made before");
    check(&after(r#"{"core":"oracle a #1","new":{}}"#), "line 2: there is no kind of core called \"oracle\"");
    check(&after(r#"{"core":"restarts a #1","new":{}}"#), "a config that restarts a #1 does not have: missing field");
    check(&after(&format!("{made}\n{made}")), "line 3: restarts a #1 was made before");
    let guess = r#"{"core":"restarts a #1","in":{"guessed":{}},"out":null}"#;
    check(&after(&format!("{made}\n{guess}")), "line 3: an input that restarts a #1 does not have: unknown variant");
    check(&after(&format!("{made}\n{{\"end\":{{\"lines\":2}}}}")), "line 3: lines are missing or too many");
    check(&after(&format!("{made}\n{{\"end\":{{\"lines\":1}}}}\n{made}")), "line 4: nothing may follow");
}

#[test]
fn a_log_that_was_cut_off_is_played_as_far_as_it_goes() {
    let log = sample();
    let lines = log.lines().count() as u64;
    let end = log.trim_end().rfind('\n').unwrap() + 1;
    let check = |log: &str, decisions: u64, expected: LogEnd| {
        let report = replay(log.as_bytes()).unwrap();
        assert_eq!((report.total().decisions, report.end), (decisions, expected));
    };
    check(&log, DECISIONS, LogEnd::Whole);
    check(&log[..log.len() - 1], DECISIONS, LogEnd::Torn { line: lines });
    check(&log[..end], DECISIONS, LogEnd::Missing);
    check(&log[..end - 1], DECISIONS - 1, LogEnd::Torn { line: lines - 1 });
}

/// Takes so many bytes, and then no more.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_can_not_be_written_says_so_and_stands_in_nobodys_way() {
    let error = DecisionLog::new("small.log", Disk(10)).unwrap_err();
    assert!(error.to_string().starts_with("small.log: can't write decisions: "), "{error}");
    let log = DecisionLog::new("small.log", Disk(300_000)).unwrap();
    let mut gate = intake(&log, QueuePolicy::DropOldest);
    for at in 0..10_000 {
        gate.push(ms(at), Given::default(), (), |(), _| ());
    }
    assert_eq!(gate.counts().received, 10_000);
    for _ in 0..2 {
        let error = log.finish().unwrap_err();
        assert_eq!((error.name.as_str(), error.error.kind()), ("small.log", io::ErrorKind::StorageFull));
    }
    assert!(
        DecisionLog::create("no/such/folder/x.jsonl").unwrap_err().to_string().starts_with("no/such/folder/x.jsonl")
    );
}

#[test]
fn what_is_decided_after_the_end_is_not_recorded() {
    let written = Buffer::default();
    let log = DecisionLog::new("test", written.clone()).unwrap();
    let mut gate = intake(&log, QueuePolicy::DropOldest);
    log.finish().unwrap();
    let ended = written.take();
    gate.push(ms(0), Given::default(), (), |(), _| ());
    assert!(log.finish().is_ok());
    drop((log, gate));
    assert!(written.take().is_empty());
    assert_eq!(replay(&ended[..]).unwrap().end, LogEnd::Whole);
}

proptest! {
    /// Whatever is done to a log: it is replayed, or refused with a reason, and takes neither the process nor its memory.
    #[test]
    fn a_log_that_was_tampered_with_is_refused_at_worst(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..128), 1..4),
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..3),
    ) {
        let mut log: Vec<Vec<u8>> = sample().lines().map(|line| format!("{line}\n").into_bytes()).collect();
        for (a, b) in lines {
            let (a, b) = (a.index(log.len()), b.index(log.len()));
            log.swap(a, b);
        }
        let mut log = log.concat();
        for (at, byte) in changes {
            let at = at.index(log.len());
            // Digits for digits: what else is no JSON any more, and is found at once.
            log[at] = if log[at].is_ascii_digit() { b'0' + byte % 10 } else { log[at] ^ (byte & 1) };
        }
        match replay(&log[..]) {
            Ok(report) => prop_assert!(report.total().decisions <= DECISIONS),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// Whatever an intake is told, it decides again as it did.
    #[test]
    fn an_intake_decides_again_as_it_did(
        policy in prop_oneof![Just(QueuePolicy::DropOldest), Just(QueuePolicy::DropNewest), Just(QueuePolicy::Block)],
        events in prop::collection::vec((0u8..16, 0u64..90), 0..120),
    ) {
        let log = recorded(|log| {
            let mut gate = intake(log, policy);
            let (mut now, mut waiting) = (MonoTime::ZERO, None);
            for (event, n) in events {
                now = now + Duration::from_millis(n);
                match event {
                    0..6 => match waiting.take() {
                        None => if let Arrival::Full(queued) = gate.push(now, Given::default(), (), |(), _| ()) {
                            waiting = Some(queued);
                        },
                        Some(queued) => drop(gate.retry(now, queued)),
                    },
                    6 => drop(gate.pop()),
                    7 => gate.add_claims(n as usize % 3),
                    8 => drop(gate.bind(now, EntryKey::default(), &mut 0)),
                    9 => gate.void_claims(now, 1, DropReason::Shutdown),
                    10 => gate.glance(&mut Glance::default()),
                    11 => gate.set_paused(n % 2 == 0),
                    12 => drop(gate.set_restarting(now, n % 2 == 0)),
                    13 => gate.disconnected(),
                    14 => drop(gate.emit(n % 8)),
                    _ => drop(gate.drop_frame(now, n % 8, DropReason::Timeout, None)),
                }
            }
            gate.end();
            gate.close(now, DropReason::Shutdown);
            gate.abandon(now, DropReason::Shutdown);
        });
        let report = replay(log.as_bytes()).unwrap();
        prop_assert_eq!(report.end, LogEnd::Whole);
        prop_assert_eq!(report.total().decisions, log.lines().count() as u64 - 3);
    }
}
