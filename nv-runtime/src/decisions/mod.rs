//! What the pure cores were told and what they decided, written down as they go and played back afterwards.
//!
//! A log is JSON Lines. The first line says what it is, the last one that it is whole. Between them each core has a line when
//! it is made, with its config, and one for each call that changes it or asks it for a decision:
//!
//! ```json
//! {"schema":"nv.decisions/1","version":"0.1.0"}
//! {"core":"restarts gate #1","new":{"max":5,"window":300000000000,"first":1000000000,"most":30000000000,"seed":7}}
//! {"core":"restarts gate #1","in":{"failed":{"now":1000000000}},"out":[1,730269152]}
//! {"end":{"lines":2}}
//! ```
//!
//! Times are nanoseconds. The order of fields and the form of numbers are fixed, so that lines can be compared byte for byte.
//! The lines of one core are in the order of its calls; those of different cores may interleave. A core's name begins with
//! its kind and ends with a number, so that a feed that comes again is another one.
//!
//! A core has a [`CoreLog`]. Every method of it that changes it, or that decides, ends with one [`CoreLog::note`]; what such
//! methods share is private and notes nothing. Whatever decides its outcome is in its arguments, or in what the callbacks that
//! it was given returned; both are part of the note, but payloads, which decide nothing, are not. A change that is not noted
//! shows in a replay of what follows from it: half of the runs of the stress test are recorded and replayed.

mod log;
mod replay;
#[cfg(test)]
mod tests;

use std::time::Duration;

use nv_core::MonoTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use log::CoreLog;
pub use log::{DecisionLog, DecisionLogError};
pub use replay::{Difference, LogEnd, ReplayError, ReplayReport, ReplayedCores, replay};

/// What a log says of itself in its first line.
const SCHEMA: &str = "nv.decisions/1";

/// A pure core whose decisions are recorded, and made again from the record.
pub(crate) trait Recorded: Sized {
    /// What its names in a log begin with; one word.
    const KIND: &'static str;
    /// What it is made with.
    type Config: Serialize + DeserializeOwned;
    /// A call of it, with all that decides its outcome.
    type Input: DeserializeOwned;

    /// Makes it, to note its calls in `log`.
    fn with_log(config: Self::Config, log: CoreLog) -> Self;

    /// Refuses a config from a log that no core was ever made with.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(_config: &Self::Config) -> Result<(), String> {
        Ok(())
    }

    /// Refuses a call from a log that nobody ever made as things are.
    ///
    /// # Errors
    /// What is wrong with it.
    fn fits(&self, _input: &Self::Input) -> Result<(), String> {
        Ok(())
    }

    /// Makes a call again. What it decides goes to its log.
    fn call(&mut self, input: Self::Input);

    /// Makes it, to note its calls in `log` if there is one.
    fn recorded(config: Self::Config, log: Option<&DecisionLog>, name: &str) -> Self {
        let log = Self::begin(&config, log, name);
        Self::with_log(config, log)
    }

    /// Notes that one is made with `config`, if there is a log.
    fn begin(config: &Self::Config, log: Option<&DecisionLog>, name: &str) -> CoreLog {
        log.map_or_else(CoreLog::default, |log| log.core(Self::KIND, name, config))
    }
}

/// Refuses a number from a log that is beyond any that is ever in one, and would take up memory.
///
/// # Errors
/// It is.
pub(crate) fn within(field: &str, value: usize) -> Result<(), String> {
    const MOST: usize = 1 << 20;
    if value <= MOST { Ok(()) } else { Err(format!("{field} is {value}, which is beyond any use")) }
}

/// A moment as it is in a log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct At(#[serde(with = "nanos")] pub(crate) MonoTime);

/// A duration as it is in a log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct For(#[serde(with = "nanos")] pub(crate) Duration);

/// Times as they are in a log, in nanoseconds; for `#[serde(with = "nanos")]`.
pub(crate) mod nanos {
    use std::time::Duration;

    use nv_core::MonoTime;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    /// What is so many nanoseconds, or none at all.
    pub(crate) trait Nanos: Copy {
        fn nanos(self) -> Option<u64>;
        /// `None` where there is always a number.
        fn of(nanos: Option<u64>) -> Option<Self>;
    }

    impl Nanos for MonoTime {
        fn nanos(self) -> Option<u64> {
            Some(self.as_nanos())
        }

        fn of(nanos: Option<u64>) -> Option<Self> {
            nanos.map(Self::from_nanos)
        }
    }

    impl Nanos for Duration {
        fn nanos(self) -> Option<u64> {
            // Half a thousand years are as good as for ever.
            Some(u64::try_from(self.as_nanos()).unwrap_or(u64::MAX))
        }

        fn of(nanos: Option<u64>) -> Option<Self> {
            nanos.map(Self::from_nanos)
        }
    }

    impl<T: Nanos> Nanos for Option<T> {
        fn nanos(self) -> Option<u64> {
            self.and_then(T::nanos)
        }

        fn of(nanos: Option<u64>) -> Option<Self> {
            Some(T::of(nanos))
        }
    }

    pub(crate) fn serialize<T: Nanos, S: Serializer>(time: &T, serializer: S) -> Result<S::Ok, S::Error> {
        time.nanos().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Nanos, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let nanos = Option::<u64>::deserialize(deserializer)?;
        T::of(nanos).ok_or_else(|| serde::de::Error::custom("a time is missing"))
    }
}
