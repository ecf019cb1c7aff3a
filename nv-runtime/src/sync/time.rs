//! Time in a model: it passes only where somebody waits for it. When it does, beside what else happens, is the model checker's
//! choice: as soon as somebody waits, or long after all else is done.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::Arc;
use super::model::{Condvar, Mutex};
use nv_core::{Clock, MonoTime, WallTime};

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

// All threads of an execution are one thread of the system.
thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// `None`: time stands still.
    static KEEPER: RefCell<Option<Arc<Keeper>>> = const { RefCell::new(None) };
}

/// Shows the model's time, as the system's clock shows the world's.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn instant(&self, at: MonoTime) -> Instant {
        *ORIGIN + Duration::from_nanos(at.as_nanos())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MonoTime {
        MonoTime::ZERO + NOW.get()
    }

    fn wall(&self) -> WallTime {
        WallTime::default()
    }
}

/// Runs `body` while time passes. Where nobody does so, nobody's time is ever up.
#[cfg(test)]
pub(crate) fn pass(body: impl FnOnce()) {
    NOW.set(Duration::ZERO);
    let keeper = Arc::new(Keeper::default());
    KEEPER.set(Some(keeper.clone()));
    let thread = shuttle::thread::spawn({
        let keeper = keeper.clone();
        move || keeper.run()
    });
    body();
    keeper.state.lock().over = true;
    keeper.changed.notify_one();
    KEEPER.set(None);
    assert!(thread.join().is_ok());
}

/// Lets time pass, from one alarm to the next.
#[derive(Default)]
struct Keeper {
    state: Mutex<State>,
    /// Signalled when there is another alarm, or it is over.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    alarms: Vec<(usize, Instant, Condvar)>,
    next: usize,
    #[cfg(test)]
    over: bool,
}

/// An alarm, until it is dropped.
pub(super) struct Alarm(Option<(Arc<Keeper>, usize)>);

pub(super) fn set_alarm(at: Instant, condvar: &Condvar) -> Alarm {
    let Some(keeper) = KEEPER.with_borrow(Clone::clone) else { return Alarm(None) };
    let mut state = keeper.state.lock();
    let number = state.next;
    state.next += 1;
    state.alarms.push((number, at, condvar.clone()));
    drop(state);
    keeper.changed.notify_one();
    Alarm(Some((keeper, number)))
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((keeper, number)) = self.0.take() {
            keeper.state.lock().alarms.retain(|alarm| alarm.0 != number);
        }
    }
}

impl Keeper {
    #[cfg(test)]
    fn run(&self) {
        loop {
            let mut state = self.state.lock();
            while state.alarms.is_empty() && !state.over {
                state = self.changed.wait(state);
            }
            if state.over {
                return;
            }
            let earliest = state.alarms.iter().map(|alarm| alarm.1).min();
            let passed = earliest.map_or(Duration::ZERO, |at| at.saturating_duration_since(*ORIGIN));
            NOW.set(NOW.get().max(passed));
            let now = *ORIGIN + NOW.get();
            let due: Vec<_> = state.alarms.iter().filter(|a| a.1 <= now).map(|a| a.2.clone()).collect();
            drop(state);
            // Again and again, as long as the alarm is there: who has set it may not sleep yet.
            due.iter().for_each(Condvar::notify_all);
            shuttle::thread::yield_now();
        }
    }
}
