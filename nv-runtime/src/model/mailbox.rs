use shuttle::thread;

use super::{check, check_fails};
use crate::mailbox::{Refused, mailbox};
use crate::sync::{Arc, Condvar, Mutex, lose_notification};

/// A token that a sender waits for.
#[derive(Default)]
struct Room {
    has: Mutex<bool>,
    changed: Condvar,
}

impl Room {
    fn tell(&self) {
        *self.has.lock() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut has = self.has.lock();
        while !*has {
            has = self.changed.wait(has);
        }
        *has = false;
    }
}

/// A patient sender of five, with room for two, and a receiver who takes `most`.
fn patient_sender(most: usize) {
    let room = Arc::new(Room::default());
    let teller = room.clone();
    let (sender, receiver) = mailbox(2, Box::new(move || teller.tell()));
    let taker = thread::spawn(move || std::iter::from_fn(|| receiver.take()).take(most).collect::<Vec<_>>());
    let mut sent = 0;
    while sent < 5 {
        match sender.offer(sent) {
            Ok(()) => sent += 1,
            Err(Refused::Full(_)) => room.wait(),
            Err(Refused::Closed(_)) => break,
        }
    }
    drop(sender);
    let taken = taker.join().unwrap();
    assert!(taken.into_iter().eq(0..most.min(5)), "in order, and none is lost");
}

#[test]
fn all_that_is_sent_is_taken_and_the_close_is_seen() {
    check(|| patient_sender(usize::MAX));
}

#[test]
fn a_sender_that_waits_for_room_is_told_when_nobody_receives() {
    check(|| patient_sender(1));
}

#[test]
fn an_impatient_sender_never_waits() {
    check(|| {
        let (sender, receiver) = mailbox(1, Box::new(|| ()));
        let taker = thread::spawn(move || std::iter::from_fn(|| receiver.take()).count());
        let taken = (0..4).filter(|n| sender.offer(*n).is_ok()).count();
        drop(sender);
        assert_eq!(taker.join().unwrap(), taken);
    });
}

/// A sender that leaves what it has and goes on only once all of it was taken.
fn leave_and_call(call: bool) {
    let seen = Arc::new(Room::default());
    let (sender, receiver) = mailbox(8, Box::new(|| ()));
    let taker = thread::spawn({
        let seen = seen.clone();
        move || {
            for n in 1.. {
                if receiver.take().is_none() {
                    break;
                }
                if n % 3 == 0 {
                    seen.tell();
                }
            }
        }
    });
    for _ in 0..2 {
        (0..3).for_each(|n| assert_eq!(sender.leave(n), Ok(())));
        if call {
            sender.call();
        }
        seen.wait();
    }
    drop(sender);
    assert!(taker.join().is_ok());
}

#[test]
fn what_was_left_is_taken_once_the_receiver_is_called() {
    check(|| leave_and_call(true));
}

#[test]
fn what_was_left_and_not_called_for_is_noticed() {
    check_fails("deadlock", || leave_and_call(false));
}

#[test]
fn a_notification_that_is_lost_is_noticed() {
    check_fails("deadlock", || {
        lose_notification(Some(0));
        patient_sender(usize::MAX);
    });
}
