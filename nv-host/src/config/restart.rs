use nv_runtime::{RestartConfig, RestartTrigger};
use serde::Deserialize;
use toml::Spanned;

use super::duration::RawDuration;

/// How a feed gets over failures, as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRestart {
    trigger: Option<RestartTrigger>,
    max_restarts: Option<u32>,
    window: Option<RawDuration>,
    backoff: Option<RawDuration>,
    max_backoff: Option<RawDuration>,
    reconnect_backoff: Option<RawDuration>,
    max_reconnect_backoff: Option<RawDuration>,
    stall_timeout: Option<RawDuration>,
}

impl RawRestart {
    /// What a feed says, and for the rest what the defaults say; with the place of the one that says anything.
    pub(super) fn of_feed(feed: Option<Spanned<Self>>, defaults: Option<&Spanned<Self>>) -> Option<Spanned<Self>> {
        let (Some(feed), Some(defaults)) = (&feed, defaults) else { return feed.or_else(|| defaults.cloned()) };
        let (f, d) = (feed.get_ref(), defaults.get_ref());
        let merged = Self {
            trigger: f.trigger.or(d.trigger),
            max_restarts: f.max_restarts.or(d.max_restarts),
            window: f.window.or(d.window),
            backoff: f.backoff.or(d.backoff),
            max_backoff: f.max_backoff.or(d.max_backoff),
            reconnect_backoff: f.reconnect_backoff.or(d.reconnect_backoff),
            max_reconnect_backoff: f.max_reconnect_backoff.or(d.max_reconnect_backoff),
            stall_timeout: f.stall_timeout.or(d.stall_timeout),
        };
        Some(Spanned::new(feed.span(), merged))
    }

    /// In the runtime's terms. A longest back-off that is left out is not shorter than the first.
    pub(super) fn settings(self) -> RestartConfig {
        let d = RestartConfig::default();
        let backoff = self.backoff.map_or(d.backoff, |t| t.0);
        let reconnect_backoff = self.reconnect_backoff.map_or(d.reconnect_backoff, |t| t.0);
        RestartConfig {
            on: self.trigger.unwrap_or(d.on),
            max_restarts: self.max_restarts.unwrap_or(d.max_restarts),
            window: self.window.map_or(d.window, |t| t.0),
            backoff,
            max_backoff: self.max_backoff.map_or(d.max_backoff.max(backoff), |t| t.0),
            reconnect_backoff,
            max_reconnect_backoff: self
                .max_reconnect_backoff
                .map_or(d.max_reconnect_backoff.max(reconnect_backoff), |t| t.0),
            stall_timeout: self.stall_timeout.map_or(d.stall_timeout, |t| t.0),
        }
    }
}
