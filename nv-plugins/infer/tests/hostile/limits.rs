//! How much memory and time something takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The system's allocator, which notes how much is in use at most.
pub(crate) struct PeakAllocator;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What something took.
pub(crate) struct Taken {
    /// The most memory that was in use at a time, beyond what was before, in bytes.
    pub(crate) bytes: usize,
    /// The processor's time, of all threads.
    pub(crate) time: Duration,
}

/// Calls `f` and says what it took. One caller at a time: all threads of the process count.
pub(crate) fn measured<T>(f: impl FnOnce() -> T) -> (T, Taken) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = IN_USE.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let clock = Clock::start();
    let value = f();
    let time = clock.elapsed();
    (value, Taken { bytes: PEAK.load(Ordering::SeqCst).saturating_sub(before), time })
}

/// The processor's time of this process where the system tells it, else the time on the wall.
struct Clock {
    wall: Instant,
    processor: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_time() }
    }

    fn elapsed(&self) -> Duration {
        match (self.processor, processor_time()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => self.wall.elapsed(),
        }
    }
}

/// What Linux counts, in hundredths of a second.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may have anything in it but ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

fn note(more: usize, less: usize) {
    if more >= less {
        let now = IN_USE.fetch_add(more - less, Ordering::Relaxed) + (more - less);
        PEAK.fetch_max(now, Ordering::Relaxed);
    } else {
        IN_USE.fetch_sub(less - more, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe to write; this one leaves all the work to the system's")]
// SAFETY: every call goes on to the system's allocator as it came; counting touches memory of its own alone.
unsafe impl GlobalAlloc for PeakAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the old memory is copied both are there.
        note(size, 0);
        note(0, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn the_peak_is_what_is_in_use_at_a_time() {
    let (_, taken) = measured(|| {
        for _ in 0..4 {
            drop(std::hint::black_box(vec![1u8; 3 << 20]));
        }
    });
    assert!((3 << 20..4 << 20).contains(&taken.bytes), "{}", taken.bytes);
    assert!(taken.time < Duration::from_secs(5), "{:?}", taken.time);
}
