/// Lets so many frames a second pass. Runs are due at an even pace; each takes the frame that seems nearest to its moment, by
/// the last interval, so that the average is kept whatever the rate of frames is. Nanoseconds of stream time.
#[derive(Debug)]
pub(super) struct Rate {
    period: i64,
    next: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    /// When the next run is due.
    at: i64,
    /// The frame that was last asked about.
    last: i64,
}

impl Rate {
    /// One that lets a frame pass in every `period` nanoseconds, on average.
    pub(super) fn new(period: i64) -> Self {
        Self { period, next: None }
    }

    /// The period of so many frames a second.
    pub(super) fn period_of(per_second: f64) -> i64 {
        // Rounded up: rather a nanosecond too seldom. A float that is too large becomes the largest integer.
        (1e9 / per_second).ceil() as i64
    }

    /// Forgets when the next one is due: it is at once.
    pub(super) fn start_over(&mut self) {
        self.next = None;
    }

    /// Whether the frame at `pts` passes; if so it counts.
    pub(super) fn take(&mut self, pts: i64) -> bool {
        let (mut due, interval) = match self.next {
            None => (pts, 0),
            // Time went back: what was left to wait is waited from here.
            Some(due) if pts < due.last => (pts.saturating_add(due.at.saturating_sub(due.last)), 0),
            Some(due) => (due.at, pts.saturating_sub(due.last)),
        };
        let late = pts.saturating_sub(due);
        let run = late >= -(interval.min(self.period) / 2);
        if run {
            // After a longer pause the pace begins anew: what was missed is not made up for.
            let base = if late > self.period / 2 { pts } else { due };
            due = base.saturating_add(self.period);
        }
        self.next = Some(Due { at: due, last: pts });
        run
    }
}
