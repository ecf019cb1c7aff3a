use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// A moment on the process's monotonic clock, in nanoseconds since the clock was made.
///
/// Everything that decides (deadlines, back-off, fairness) takes one of these as `now`, so that it runs as well in
/// virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);

    /// The moment `ns` nanoseconds after the origin.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the origin, with their fraction.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Serialize for MonoTime {
    /// As milliseconds since the origin.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_millis_f64())
    }
}

/// How durations leave in JSON: as milliseconds with their fraction, under a key that says so. For
/// `#[serde(serialize_with)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_as_ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1e3)
}

impl Add<Duration> for MonoTime {
    type Output = Self;

    /// Saturates, so that "for ever" may be added.
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MonoTime {
    type Output = Self;

    /// Saturates at the origin.
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A frame's presentation time in its stream, in nanoseconds from the stream's own origin. May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pts(i64);

impl Pts {
    /// The presentation time `ns` nanoseconds after the stream's origin.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds from the stream's origin.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds from the stream's origin, with their fraction.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Wall-clock time: nanoseconds since 1970-01-01T00:00:00Z. Serialises as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// The moment `ns` nanoseconds after the Unix epoch.
    pub const fn from_unix_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(self.0)).fmt(f)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a capture time rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CapturedBy {
    /// The camera's own clock, by way of an RTCP sender report: good enough to line up cameras.
    SenderReport,
    /// When the frame arrived here: off by the network's and the encoder's delay.
    Arrival,
}

/// When a frame was taken, by the wall clock, and how far that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The moment.
    pub at: WallTime,
    /// What it rests on.
    pub by: CapturedBy,
}

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// The monotonic time.
    fn now(&self) -> MonoTime;
    /// The wall-clock time.
    fn wall(&self) -> WallTime;
}

/// The machine's clock. Its monotonic origin is the moment it was made.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic origin is now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// The moment as the standard library counts it, for waiting on a condition variable or channel.
    pub fn instant(&self, at: MonoTime) -> Instant {
        // Far enough to mean "for ever", near enough that no platform's Instant overflows.
        const YEAR_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;
        self.origin + Duration::from_nanos(at.0.min(self.now().0.saturating_add(YEAR_NS)))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MonoTime {
        MonoTime(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is told to move: for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    ns: AtomicU64,
}

impl ManualClock {
    /// A clock that shows [`MonoTime::ZERO`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: MonoTime) {
        self.ns.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> MonoTime {
        MonoTime(self.ns.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.ns.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(MonoTime::ZERO - Duration::from_secs(1), MonoTime::ZERO);
        assert_eq!((MonoTime::ZERO + Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(MonoTime::from_nanos(5).since(MonoTime::from_nanos(9)), Duration::ZERO);
        assert_eq!(Pts::from_nanos(-3).since(Pts::from_nanos(-8)), Duration::from_nanos(5));
        assert_eq!(Pts::from_nanos(i64::MIN).since(Pts::from_nanos(i64::MAX)), Duration::ZERO);
    }

    #[test]
    fn wall_time_is_rfc_3339() {
        let at = WallTime::from_unix_nanos(1_795_331_703_120_456_789);
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2026-11-22T07:15:03.120Z\"");
    }

    #[test]
    fn for_ever_is_an_instant() {
        let clock = SystemClock::new();
        assert!(clock.instant(MonoTime::from_nanos(u64::MAX)) > Instant::now());
    }
}
