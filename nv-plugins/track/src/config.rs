use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use nv_plugin_sdk::serde::{Deserialize, Deserializer, de};
use nv_plugin_sdk::{Name, StageError};

/// What can be set of [`ByteTrack`](crate::ByteTrack). Scores and IoUs are 0 to 1.
///
/// ```
/// # use nv_plugin_sdk::serde_json;
/// # use nv_track::ByteTrackConfig;
/// let config: ByteTrackConfig = serde_json::from_str(r#"{ "buffer": "2s", "new_track": 0.7 }"#)?;
/// assert_eq!(config.buffer.as_secs(), 2);
/// assert_eq!(config.high, 0.5);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct ByteTrackConfig {
    /// From this score on, an object may continue any track, and may start one. Default 0.5.
    pub high: f32,
    /// Objects between this score and `high` may only continue a track that was seen in the frame before. Below it, objects
    /// are ignored. At most `high`. Default 0.1.
    pub low: f32,
    /// From this score on, an object that continues no track starts one. At least `high`. Default 0.6.
    pub new_track: f32,
    /// The least IoU at which an object of high score continues a track. Default 0.2.
    pub match_iou: f32,
    /// The least IoU at which an object of low score continues a track. Default 0.5.
    pub low_match_iou: f32,
    /// The least IoU at which an object continues a tentative track. Default 0.3.
    pub tentative_match_iou: f32,
    /// Ranks matches of objects of high score by IoU times score instead of IoU: among several that fit, the surer wins.
    /// Default true.
    pub fuse_score: bool,
    /// How long a track may go unseen before it is given up: text with a unit, as `"1s"`, up to 10 minutes. At least 1.5
    /// frame intervals, whatever is set here. Default 1 s.
    #[serde(deserialize_with = "duration")]
    pub buffer: Duration,
    /// How long objects of low score alone may continue a track; then it needs one of high score to be seen again. Text with a
    /// unit, up to 10 minutes. At least 1.5 frame intervals, whatever is set here. Default 500 ms.
    #[serde(deserialize_with = "duration")]
    pub low_limit: Duration,
    /// Of a seen and an unseen track of one class that overlap by more than this IoU, the younger is given up. Default 0.85.
    pub duplicate_iou: f32,
    /// The steps whose objects are followed; empty: all. Default empty.
    pub sources: Vec<Name>,
}

impl Default for ByteTrackConfig {
    fn default() -> Self {
        Self {
            high: 0.5,
            low: 0.1,
            new_track: 0.6,
            match_iou: 0.2,
            low_match_iou: 0.5,
            tentative_match_iou: 0.3,
            fuse_score: true,
            buffer: Duration::from_secs(1),
            low_limit: Duration::from_millis(500),
            duplicate_iou: 0.85,
            sources: Vec::new(),
        }
    }
}

/// The longest duration. It bounds how many unseen tracks are kept.
const MAX_DURATION: Duration = Duration::from_secs(600);

impl ByteTrackConfig {
    /// Checks ranges, and that the three scores are in order.
    ///
    /// # Errors
    /// A [`Config`](nv_plugin_sdk::StageErrorKind::Config) error that names the field, its value and its range.
    pub fn validate(&self) -> Result<(), StageError> {
        let shares = [
            ("high", self.high),
            ("low", self.low),
            ("new_track", self.new_track),
            ("match_iou", self.match_iou),
            ("low_match_iou", self.low_match_iou),
            ("tentative_match_iou", self.tentative_match_iou),
            ("duplicate_iou", self.duplicate_iou),
        ];
        const RANGE: RangeInclusive<f32> = 0.0..=1.0;
        if let Some((field, value)) = shares.iter().find(|(_, value)| !RANGE.contains(value)) {
            return Err(StageError::config(format!("{field} is {value}: it must be 0 to 1")));
        }
        if self.low > self.high {
            return Err(StageError::config(format!(
                "low is {}, above high ({}): it must be 0 to high",
                self.low, self.high
            )));
        }
        if self.new_track < self.high {
            return Err(StageError::config(format!(
                "new_track is {}, below high ({}): it must be high to 1",
                self.new_track, self.high
            )));
        }
        let durations = [("buffer", self.buffer), ("low_limit", self.low_limit)];
        if let Some((field, value)) = durations.iter().find(|(_, value)| *value > MAX_DURATION) {
            return Err(StageError::config(format!(
                "{field} is {}: it must be 0s to {}",
                humantime::format_duration(*value),
                humantime::format_duration(MAX_DURATION)
            )));
        }
        Ok(())
    }
}

/// A duration as text with a unit.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, as \"1s\" or \"500ms\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Visitor)
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::nv_perception::Creator;
    use nv_plugin_sdk::serde_json::{self, Value, json};
    use nv_plugin_sdk::{BuildContext, FromConfig, StageErrorKind};

    use super::*;
    use crate::ByteTrack;

    #[test]
    fn what_is_wrong_is_named_with_its_range() {
        fn check(config: Value, expected: Result<(), &str>) {
            let plugin = crate::plugin();
            let Some(Creator::Stage(create)) = plugin.kind("bytetrack").map(|k| &k.creator) else { panic!("a stage") };
            let result = create(&config, &BuildContext::default()).map(|_| ());
            if let Err(error) = &result {
                assert_eq!(error.kind(), StageErrorKind::Config);
            }
            assert_eq!(result.map_err(|e| e.to_string()), expected.map_err(String::from), "{config}");
        }
        const DURATION: &str = r#"expected a duration with its unit, as "1s" or "500ms""#;
        check(json!(null), Ok(()));
        check(json!({}), Ok(()));
        check(json!({"high": 0.4, "low": 0.4, "new_track": 0.4, "buffer": "10m", "sources": ["detector"]}), Ok(()));
        check(json!({"high": 1.5}), Err("high is 1.5: it must be 0 to 1"));
        check(json!({"match_iou": -0.1}), Err("match_iou is -0.1: it must be 0 to 1"));
        check(json!({"low": 0.6}), Err("low is 0.6, above high (0.5): it must be 0 to high"));
        check(json!({"new_track": 0.3}), Err("new_track is 0.3, below high (0.5): it must be high to 1"));
        check(json!({"buffer": "11m"}), Err("buffer is 11m: it must be 0s to 10m"));
        check(json!({"low_limit": "1h"}), Err("low_limit is 1h: it must be 0s to 10m"));
        let error = format!(r#"config of "bytetrack": `buffer`: invalid type: integer `1`, {DURATION}"#);
        check(json!({"buffer": 1}), Err(&error));
        let error = format!(r#"config of "bytetrack": `buffer`: invalid value: string "30", {DURATION}"#);
        check(json!({"buffer": "30"}), Err(&error));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_value::<ByteTrackConfig>(json!({"bufer": "1s"})).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `bufer`, expected one of `high`, `low`"), "{error}");
    }

    #[test]
    fn nan_is_in_no_range() {
        let config = ByteTrackConfig { low: f32::NAN, ..ByteTrackConfig::default() };
        assert_eq!(config.validate().unwrap_err().to_string(), "low is NaN: it must be 0 to 1");
    }

    #[test]
    fn the_schema_lists_every_field_with_its_default() {
        let schema: Value = serde_json::from_str(ByteTrack::CONFIG_SCHEMA).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        let defaults: Value = properties.iter().map(|(k, p)| (k.clone(), p["default"].clone())).collect();
        assert_eq!(serde_json::from_value::<ByteTrackConfig>(defaults).unwrap(), ByteTrackConfig::default());
        // Serde names the fields it knows when it meets one that it doesn't.
        let error = serde_json::from_value::<ByteTrackConfig>(json!({"?": 0})).unwrap_err().to_string();
        assert_eq!(error.matches('`').count() / 2 - 1, properties.len(), "{error}");
    }
}
