use std::str::FromStr;

use nv_core::Pts;
use nv_perception::{SourceError, SourceErrorKind, SourceSpec};

/// The options of a source, as text: from [`SourceSpec::options`], and over them from the query of its URL.
pub(crate) struct Options<'a> {
    url: &'a str,
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    /// Gathers the options of `spec`, of which `query` is the part of the URL after the `?`. Names that aren't `known` are
    /// an error.
    pub(crate) fn new(spec: &'a SourceSpec, query: &'a str, known: &[&str]) -> Result<Self, SourceError> {
        let query =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let values = spec.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(query).collect();
        let options = Self { url: &spec.url, values };
        match options.values.iter().find(|(name, _)| !known.contains(name)) {
            None => Ok(options),
            Some((name, _)) if known.is_empty() => {
                Err(options.error(format!("unknown option {name:?}: it takes none")))
            }
            Some((name, _)) => Err(options.error(format!("unknown option {name:?}: it takes {}", known.join(", ")))),
        }
    }

    /// The value of option `name`, if it is given. `expected` says what it should be.
    pub(crate) fn get<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, SourceError> {
        let Some((_, value)) = self.values.iter().rev().find(|(n, _)| *n == name) else { return Ok(None) };
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.error(format!("option {name}={value:?} is not {expected}"))),
        }
    }

    /// An error of the options.
    pub(crate) fn error(&self, message: impl Into<String>) -> SourceError {
        SourceError::new(SourceErrorKind::Config, self.url, message)
    }
}

/// Frames per second, as text like `25` or `29.97`, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRate(u64);

impl FrameRate {
    pub(crate) const EXPECTED: &'static str = "a number of frames per second from 0.001 to 1000";

    pub(crate) const fn per_second(fps: u64) -> Self {
        Self(fps * 1000)
    }

    /// When frame `n` is shown.
    pub(crate) fn pts(self, n: u64) -> Pts {
        Pts::from_nanos(i64::try_from(u128::from(n) * 1_000_000_000_000 / u128::from(self.0)).unwrap_or(i64::MAX))
    }
}

impl FromStr for FrameRate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let milli = (text.parse::<f64>().map_err(drop)? * 1000.0).round();
        if (1.0..=1_000_000.0).contains(&milli) { Ok(Self(milli as u64)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_the_query_or_the_spec() {
        let mut spec = SourceSpec::new("synthetic:");
        spec.options.insert("fps".into(), "10".into());
        spec.options.insert("seed".into(), "3".into());
        let options = Options::new(&spec, "fps=20&&objects=7", &["fps", "seed", "objects"]).unwrap();
        assert_eq!(options.get("fps", "a number").unwrap(), Some(20));
        assert_eq!(options.get("seed", "a number").unwrap(), Some(3));
        assert_eq!(options.get("objects", "a number").unwrap(), Some(7));
        assert_eq!(options.get::<u32>("frames", "a number").unwrap(), None);
    }

    #[test]
    fn wrong_options_are_named() {
        fn check(query: &str, known: &[&str], expected: &str) {
            let spec = SourceSpec::new("synthetic:");
            let result = Options::new(&spec, query, known).and_then(|o| o.get::<u32>("fps", "a whole number"));
            assert_eq!(result.unwrap_err().to_string(), format!("synthetic:: {expected}"));
        }
        check("fsp=3", &["fps", "seed"], "unknown option \"fsp\": it takes fps, seed");
        check("fps=3", &[], "unknown option \"fps\": it takes none");
        check("fps=fast", &["fps"], "option fps=\"fast\" is not a whole number");
        check("fps", &["fps"], "option fps=\"\" is not a whole number");
    }

    #[test]
    fn rates_keep_exact_time() {
        fn check(text: &str, expected: Option<(u64, i64)>) {
            let rate = text.parse::<FrameRate>().ok();
            assert_eq!(rate.map(|r| r.pts(expected.unwrap().0).as_nanos()), expected.map(|(_, ns)| ns), "{text}");
        }
        check("25", Some((25, 1_000_000_000)));
        check("29.97", Some((2997, 100_000_000_000)));
        check("0.5", Some((1, 2_000_000_000)));
        for wrong in ["0", "-1", "NaN", "inf", "1001", "", "fast"] {
            check(wrong, None);
        }
    }
}
