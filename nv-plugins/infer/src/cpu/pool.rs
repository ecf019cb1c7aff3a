//! A set number of threads that share the work of one step at a time.

#![expect(unsafe_code, reason = "workers call a closure that borrows from the caller, who waits for them")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker without work looks for some before it sleeps: longer than the short steps of a network that nobody
/// shares, shorter than the time between two frames.
const PATIENCE: Duration = Duration::from_micros(50);

/// Threads that run pieces of work for a caller, who takes part. Joined when it is dropped.
///
/// Several callers may use it at the same time: one of them gets the workers, the others do their work alone.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whom the workers help.
    caller: Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    /// The number of the job, whether it is open ([`OPEN`]), and how many workers are in it.
    state: AtomicU64,
    /// The first piece of the job that nobody has taken.
    next: AtomicUsize,
    /// Written by the caller while the job is closed and no worker is in it; read by workers that are in it.
    job: UnsafeCell<Option<Job>>,
    /// What a worker panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Whether the pool is being dropped.
    ended: Mutex<bool>,
    wake: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    pieces: usize,
}

// SAFETY: `job` is the only field that isn't already Send and Sync. Who may touch it when is said there, and `state` orders
// it; the closure that it points to is Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Workers may enter the job.
const OPEN: u64 = 1 << 31;
/// How many workers are in the job.
const INSIDE: u64 = OPEN - 1;
/// One job more.
const JOB: u64 = 1 << 32;

impl Pool {
    /// A pool of `threads`, the caller among them: with 1 there is no further thread.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            ended: Mutex::new(false),
            wake: Condvar::new(),
        });
        let spawn = |i| {
            let shared = Arc::clone(&shared);
            // Where the system has no thread to give, there are fewer.
            thread::Builder::new().name(format!("infer-{i}")).spawn(move || shared.work()).ok()
        };
        let workers = (1..threads).filter_map(spawn).collect();
        Self { shared, workers, caller: Mutex::new(()) }
    }

    /// How many threads take part in a job.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for each number below `pieces`, in any order, on any of the threads. Returns when all calls have.
    ///
    /// # Panics
    /// With what a call panicked with.
    pub(crate) fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let caller = (pieces > 1 && !self.workers.is_empty()).then(|| self.caller.try_lock());
        let Some(Ok(_caller)) = caller else { return (0..pieces).for_each(work) };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers use the reference while they are in the job, and this function doesn't
        // return, nor unwind, before the last of them has left it.
        let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        // SAFETY: the job is closed and no worker is in it: that is how the last call left it, and `_caller` keeps others out.
        unsafe { *shared.job.get() = Some(Job { work, pieces }) };
        shared.next.store(0, Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) & !(JOB - 1);
        // SeqCst, as the count of sleepers: either a worker that is about to sleep sees the job, or it is seen here.
        shared.state.store(number.wrapping_add(JOB) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.ended));
            shared.wake.notify_all();
        }
        let own = panic::catch_unwind(AssertUnwindSafe(|| shared.take_pieces(work, pieces)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut turns = 0u32;
        while shared.state.load(Ordering::Acquire) & INSIDE > 0 {
            turns += 1;
            // A worker that was preempted needs this core.
            if turns.is_multiple_of(1024) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Some(payload) = own.err().or_else(|| lock(&shared.panic).take()) {
            lock(&shared.panic).take();
            panic::resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *lock(&self.shared.ended) = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics are caught and passed on.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn work(&self) {
        let mut done = 0;
        while let Some(state) = self.await_job(done) {
            done = state & !(JOB - 1);
            // One more is inside, if the job is still the same and open.
            let mut seen = state;
            let entered = loop {
                if seen & !INSIDE != state & !INSIDE {
                    break false;
                }
                match self.state.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break true,
                    Err(now) => seen = now,
                }
            };
            if !entered {
                continue;
            }
            // SAFETY: this worker is in the job, so the caller doesn't write it, and what it points to is alive.
            let job = unsafe { (*self.job.get()).expect("an open job is there") };
            // SAFETY: as above.
            let work = unsafe { &*job.work };
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| self.take_pieces(work, job.pieces))) {
                lock(&self.panic).get_or_insert(payload);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Does pieces as long as there are any.
    fn take_pieces(&self, work: &(dyn Fn(usize) + Sync), pieces: usize) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return;
            }
            work(piece);
        }
    }

    /// The state with an open job other than `done`; `None` when the pool ends.
    fn await_job(&self, done: u64) -> Option<u64> {
        let open = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN > 0 && state & !(JOB - 1) != done).then_some(state)
        };
        let begin = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(state) = open() {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        let mut ended = lock(&self.ended);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            if *ended {
                break None;
            }
            if let Some(state) = open() {
                break Some(state);
            }
            ended = self.wake.wait(ended).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        state
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for pieces in (0..40).chain([1000]) {
                let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                pool.run(pieces, &|i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1), "{threads} threads, {pieces} pieces");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for round in 0..50 {
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                pool.run(20, &|i| assert!(i != round % 20, "piece {i}"));
            }));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref::<String>(), Some(&format!("piece {}", round % 20)));
            let sum = AtomicUsize::new(0);
            pool.run(20, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 190);
        }
    }

    #[test]
    fn callers_may_share_it_and_nest() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(8, &|_| {
                            pool.run(2, &|i| {
                                sum.fetch_add(i, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 100 * 8);
    }
}
