use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use nv_runtime::{FeedHandle, FeedStats};

use crate::console::Console;

/// The most lines; what is more is in the last one, together.
const MAX_LINES: usize = 16;

/// A line for each feed on the terminal: frame, fps, time left.
pub(crate) struct Progress {
    lines: Vec<ProgressBar>,
    limits: Vec<Option<u64>>,
}

impl Progress {
    /// Lines for feeds of these names, which end after so many frames at most.
    pub(crate) fn start(console: &Console, feeds: &[(String, Option<u64>)]) -> Self {
        let width = feeds.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).clamp(4, 24);
        let mut lines = Vec::new();
        for (name, _) in feeds.iter().take(MAX_LINES) {
            let line = console.bars().add(ProgressBar::no_length());
            line.set_style(open_style());
            line.set_prefix(format!("{:width$}", cut(name, width)));
            lines.push(line);
        }
        if feeds.len() > MAX_LINES {
            let line = console.bars().add(ProgressBar::no_length());
            line.set_style(open_style());
            line.set_prefix(format!("{:width$}", format!("+ {}", feeds.len() - MAX_LINES)));
            lines.push(line);
        }
        Self { lines, limits: feeds.iter().map(|(_, limit)| *limit).collect() }
    }

    /// Shows how far the feeds are.
    pub(crate) fn show(&self, feeds: &[FeedHandle]) {
        let stats: Vec<FeedStats> = feeds.iter().map(FeedHandle::stats).collect();
        for (i, line) in self.lines.iter().enumerate() {
            let of = if i < MAX_LINES { i..i + 1 } else { MAX_LINES..stats.len() };
            let (stats, limits) = (&stats[of.clone()], &self.limits[of]);
            let total = stats.iter().zip(limits).map(|(stats, limit)| total_frames(stats, *limit)).sum::<Option<u64>>();
            let done: u64 = stats.iter().map(|s| s.frames.emitted + s.frames.dropped_total()).sum();
            if line.length() != total
                && let Some(total) = total
            {
                line.set_length(total);
                line.set_style(bar_style());
            }
            line.set_position(done);
            line.set_message(message(stats, done, total));
        }
    }

    /// Takes the lines away: the end is told in words.
    pub(crate) fn finish(self) {
        for line in self.lines {
            line.finish_and_clear();
        }
    }
}

/// The name, with its end left out where it is too long.
fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn total_frames(stats: &FeedStats, limit: Option<u64>) -> Option<u64> {
    let count = stats.source.as_ref().and_then(|source| source.frame_count);
    match (count, limit) {
        (Some(count), Some(limit)) => Some(count.min(limit)),
        (count, limit) => count.or(limit),
    }
}

fn message(stats: &[FeedStats], done: u64, total: Option<u64>) -> String {
    let fps: f64 = stats.iter().filter(|s| s.end.is_none()).map(|s| s.fps).sum();
    let dropped: u64 = stats.iter().map(|s| s.frames.dropped_total()).sum();
    let mut message = if stats.iter().all(|s| s.end.is_some()) {
        "ended".to_owned()
    } else if stats.iter().all(|s| s.source.is_none()) {
        "opening".to_owned()
    } else {
        format!("{fps:6.1} fps")
    };
    if dropped > 0 {
        message += &format!(", {dropped} dropped");
    }
    if let Some(left) = total.map(|total| total.saturating_sub(done)).filter(|&left| left > 0 && fps > 0.0) {
        message += &format!(", {} left", short(Duration::from_secs_f64((left as f64 / fps).min(1e7))));
    }
    message
}

/// A duration as a clock shows it: `0:07`, `12:30`, `1:02:03`.
fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

fn open_style() -> ProgressStyle {
    style("{prefix:.bold} {pos:>7} frames  {msg}")
}

fn bar_style() -> ProgressStyle {
    style("{prefix:.bold} {bar:24.cyan/dim} {pos:>7}/{len:<7} {msg}").progress_chars("━━─")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let check = |seconds: f64, expected| assert_eq!(short(Duration::from_secs_f64(seconds)), expected);
        check(0.2, "0:01");
        check(59.9, "1:00");
        check(750.0, "12:30");
        check(3723.0, "1:02:03");
    }

    #[test]
    fn names_are_cut_to_their_column() {
        assert_eq!(cut("gate", 4), "gate");
        assert_eq!(cut("Tür-drüben", 6), "Tür-d…");
    }

    #[test]
    fn the_templates_are_sound() {
        for template in
            ["{prefix:.bold} {pos:>7} frames  {msg}", "{prefix:.bold} {bar:24.cyan/dim} {pos:>7}/{len:<7} {msg}"]
        {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
