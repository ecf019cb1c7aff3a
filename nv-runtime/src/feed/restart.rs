use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FeedConfigError;

/// Which failures a feed of a live source gets over by itself. A file is never opened again, and its feed ends with the first
/// failure that it can't go on after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartTrigger {
    /// Those of its source and those of its stages.
    #[default]
    Any,
    /// A source that was lost, stalls or breaks. A stage that can't be built anew ends the feed.
    Source,
    /// A stage that can't be built anew. A lost source ends the feed.
    Stage,
    /// None: the feed ends with its source, and with a stage that can't be built anew.
    Never,
}

/// How a feed of a live source gets over failures.
///
/// A connection that is lost, ends or stalls is made again for as long as it takes: with a back-off from
/// `reconnect_backoff`, which begins anew only after good frames. Any other failure is a restart, of which there may be
/// `max_restarts` within `window`; then the feed ends. Of each back-off a random half is taken off, so that feeds which
/// failed together don't come back together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// What is got over. Default: any failure.
    pub on: RestartTrigger,
    /// The most restarts within `window`. Default 5.
    pub max_restarts: u32,
    /// Default 300 s.
    pub window: Duration,
    /// Until the first restart; doubles with each that is within `window`. Default 1 s.
    pub backoff: Duration,
    /// The longest back-off of a restart. Default 30 s.
    pub max_backoff: Duration,
    /// Until a lost connection is made again; doubles with each try. Default 200 ms.
    pub reconnect_backoff: Duration,
    /// The longest back-off of a lost connection. Default 30 s.
    pub max_reconnect_backoff: Duration,
    /// A live source without a frame for so long counts as lost. Default 10 s.
    pub stall_timeout: Duration,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            on: RestartTrigger::default(),
            max_restarts: 5,
            window: Duration::from_secs(300),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(200),
            max_reconnect_backoff: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(10),
        }
    }
}

impl RestartConfig {
    /// A feed that ends with the first failure, and with its source.
    #[must_use]
    pub fn never() -> Self {
        Self { on: RestartTrigger::Never, ..Self::default() }
    }

    pub(crate) fn covers_source(&self) -> bool {
        matches!(self.on, RestartTrigger::Any | RestartTrigger::Source)
    }

    pub(crate) fn covers_stages(&self) -> bool {
        matches!(self.on, RestartTrigger::Any | RestartTrigger::Stage)
    }

    /// Checks every field. [`FeedConfig::validate`](super::FeedConfig::validate) does so.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), FeedConfigError> {
        let check = |field, value: Duration, least: Duration, reason| {
            if value < least {
                return Err(FeedConfigError { field, value: format!("{value:?}"), reason });
            }
            Ok(())
        };
        // Without a pause at all, a camera that is away would keep a core busy.
        let least = Duration::from_millis(1);
        check("restart.window", self.window, least, "it must be at least 1 ms")?;
        check("restart.backoff", self.backoff, least, "it must be at least 1 ms")?;
        check("restart.max_backoff", self.max_backoff, self.backoff, "it must be at least restart.backoff")?;
        check("restart.reconnect_backoff", self.reconnect_backoff, least, "it must be at least 1 ms")?;
        let reason = "it must be at least restart.reconnect_backoff";
        check("restart.max_reconnect_backoff", self.max_reconnect_backoff, self.reconnect_backoff, reason)?;
        check("restart.stall_timeout", self.stall_timeout, least, "it must be at least 1 ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        fn check(change: impl FnOnce(&mut RestartConfig), expected: &str) {
            let mut config = RestartConfig::default();
            assert_eq!(config.validate(), Ok(()));
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        let second = Duration::from_secs(1);
        check(|c| c.window = Duration::ZERO, "restart.window is 0ns: it must be at least 1 ms");
        check(|c| c.backoff = Duration::ZERO, "restart.backoff is 0ns: it must be at least 1 ms");
        check(|c| c.backoff = 31 * second, "restart.max_backoff is 30s: it must be at least restart.backoff");
        check(|c| c.reconnect_backoff = Duration::ZERO, "restart.reconnect_backoff is 0ns: it must be at least 1 ms");
        check(
            |c| c.reconnect_backoff = 31 * second,
            "restart.max_reconnect_backoff is 30s: it must be at least restart.reconnect_backoff",
        );
        check(|c| c.stall_timeout = Duration::ZERO, "restart.stall_timeout is 0ns: it must be at least 1 ms");
    }
}
