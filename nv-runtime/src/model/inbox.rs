use shuttle::thread;

use super::{check, check_fails};
use crate::feed::Inbox;
use crate::sync::{Arc, Mutex, lose_notification};

/// Two who hand things over, one who calls after having left something elsewhere, and the owner.
fn hand_over() {
    let inbox = Arc::new(Inbox::new());
    let elsewhere = Arc::new(Mutex::new(0));
    let pushers = [0, 10].map(|first| {
        let inbox = inbox.clone();
        thread::spawn(move || (first..first + 3).for_each(|item| inbox.push(item)))
    });
    let caller = thread::spawn({
        let (inbox, elsewhere) = (inbox.clone(), elsewhere.clone());
        move || {
            for _ in 0..2 {
                *elsewhere.lock() += 1;
                inbox.call();
            }
        }
    });
    let (mut items, mut seen) = (Vec::new(), 0);
    while items.len() < 6 || seen < 2 {
        inbox.wait(None);
        inbox.take(&mut items);
        seen = *elsewhere.lock();
    }
    for first in [0, 10] {
        let of_one = items.iter().copied().filter(|item| (first..first + 3).contains(item));
        assert!(of_one.eq(first..first + 3), "each once, in order: {items:?}");
    }
    pushers.into_iter().chain([caller]).for_each(|t| assert!(t.join().is_ok()));
}

#[test]
fn whatever_is_handed_over_or_called_for_is_noticed() {
    check(hand_over);
}

#[test]
fn a_wake_up_that_is_lost_is_noticed() {
    check_fails("deadlock", || {
        lose_notification(Some(0));
        hand_over();
    });
}
