use nv_core::{Frame, FrameHeader, FramePool, PixelFormat, Size};
use shuttle::thread;

use super::{check, check_fails};
use crate::feed::cores::{Glance, IntakeConfig};
use crate::feed::{Inbox, Intake, QueuePolicy};
use crate::health::HealthHub;
use crate::sync::{Arc, SystemClock, lose_notification};

fn frame() -> Frame {
    let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
    FramePool::new(0).take(header).unwrap().freeze()
}

/// A file of six frames, whose source waits for room, and an executor that takes what it sees and asks to be called where it
/// sees nothing.
fn six_frames() {
    let clock = Arc::new(SystemClock::new());
    let health = HealthHub::new(clock.clone(), 8);
    let inbox = Arc::new(Inbox::new());
    let config = IntakeConfig::new(2, QueuePolicy::Block);
    let intake = Arc::new(Intake::new("feed".into(), clock, config, inbox.clone(), None, health));
    let source = thread::spawn({
        let intake = intake.clone();
        move || {
            for _ in 0..6 {
                intake.push(frame(), 0, 0, false);
            }
        }
    });
    let (mut glance, mut taken) = (Glance::default(), Vec::new());
    while taken.len() < 6 {
        inbox.take(&mut Vec::new());
        let arrivals = intake.glance(&mut glance);
        if glance.queued == 0 && intake.await_frame(arrivals) {
            inbox.wait(None);
        }
        taken.extend((0..glance.queued).filter_map(|_| intake.pop()).map(|queued| queued.seq));
    }
    assert!(source.join().is_ok());
    assert!(taken.into_iter().eq(0..6));
}

#[test]
fn every_frame_of_a_source_that_waits_for_room_is_taken() {
    check(six_frames);
}

#[test]
fn a_wake_up_that_is_lost_is_noticed() {
    check_fails("deadlock", || {
        lose_notification(Some(1));
        six_frames();
    });
}
