use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A duration as config writes it: text with a unit, as in `"40ms"` or `"1m 30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawDuration(pub(crate) Duration);

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = RawDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with a unit, as in \"40ms\" or \"1m 30s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawDuration, E> {
                let duration = humantime::parse_duration(text);
                // The foreign error's words add little to what is expected, and quote nothing that the user can't see.
                duration.map(RawDuration).map_err(|_| E::custom(format_args!("{text:?} is not {}", Expected)))
            }
        }

        struct Expected;

        impl fmt::Display for Expected {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Text.expecting(f)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        fn check(value: &str, expected: Option<u64>) {
            let table: Result<toml::Table, _> = format!("d = {value}").parse();
            let value = table.unwrap()["d"].clone();
            let parsed = RawDuration::deserialize(value).ok();
            assert_eq!(parsed.map(|d| d.0.as_millis() as u64), expected);
        }
        check("'40ms'", Some(40));
        check("'1m 30s'", Some(90_000));
        check("'0s'", Some(0));
        check("'40'", None);
        check("40", None);
        check("'-1s'", None);
        check("'soon'", None);
    }
}
