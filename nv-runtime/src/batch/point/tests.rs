use nv_core::{FrameHeader, FramePool, PixelFormat, Size};

use super::*;
use crate::batch::{Completion, empty_perception};
use crate::feed::Inbox;

#[test]
fn nothing_waits_for_a_processor_that_can_not_be_built_anew() {
    let clock = Arc::new(SystemClock::new());
    let health = HealthHub::new(clock.clone(), 8);
    let point = Point::new("detector".into(), BatchConfig::default(), clock, health, None);
    let lane = point.attach(None, LaneKind::Direct, 1, Arc::default());
    let inbox = Arc::new(Inbox::new());
    let picture = || {
        let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
        FramePool::new(0).take(header).unwrap().freeze()
    };
    let submit = || {
        let entry = BatchEntry::new("direct".into(), 0, picture(), None, empty_perception());
        point.submit(lane, entry, Reply { inbox: inbox.clone(), step: 0 }, None)
    };
    let failed = || {
        let mut results = Vec::new();
        inbox.take(&mut results);
        results.iter().filter(|c: &&Completion| matches!(c.result, Err(BatchError::Unavailable { .. }))).count()
    };
    submit().unwrap();
    for _ in 0..4 {
        point.rebuild_failed("no device".into());
    }
    assert_eq!(failed(), 0, "it may come back");
    point.rebuild_failed("no device".into());
    assert_eq!(failed(), 1, "it is down");
    assert_eq!(submit(), Err(Refusal::Down));
}
