use std::fmt;

use serde::Serialize;

/// How a measure relates to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It must not be below.
    AtLeast,
    /// It must not be above.
    AtMost,
}

impl Relation {
    /// Whether `measure` keeps to `limit`. What is no number keeps to nothing.
    pub fn holds(self, measure: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => measure >= limit,
            Self::AtMost => measure <= limit,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AtLeast => "≥",
            Self::AtMost => "≤",
        })
    }
}

/// How a table says whether a limit was kept to; `None`: it can't be told.
pub const fn pass_text(pass: Option<bool>) -> &'static str {
    match pass {
        Some(true) => "pass",
        Some(false) => "FAIL",
        None => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_kept_to_on_their_side() {
        for (relation, measure, expected) in [
            (Relation::AtLeast, 1.0, true),
            (Relation::AtLeast, 0.9, false),
            (Relation::AtMost, 1.0, true),
            (Relation::AtMost, 1.1, false),
            (Relation::AtLeast, f64::NAN, false),
            (Relation::AtMost, f64::NAN, false),
        ] {
            assert_eq!(relation.holds(measure, 1.0), expected, "{measure} {relation} 1");
        }
    }
}
