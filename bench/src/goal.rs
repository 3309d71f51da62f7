//! A goal and whether it was met. The exit status does not depend on it.

use serde::Serialize;
use std::fmt;

/// The relation between result and limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The result may equal the limit.
    AtMost,
    /// The result must be below the limit.
    Below,
}

/// A limit, and whether it was met.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Goal {
    /// The relation to the limit.
    pub kind: Kind,
    /// The limit.
    pub limit: f64,
    /// Whether it was met.
    pub met: bool,
}

impl Goal {
    /// Compares a result with its limit. Returns the goal.
    pub fn new(kind: Kind, limit: f64, result: f64) -> Self {
        let met = match kind {
            Kind::AtMost => result <= limit,
            Kind::Below => result < limit,
        };
        Self { kind, limit, met }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::AtMost => "≤",
            Kind::Below => "<",
        };
        write!(f, "{kind} {} {}", self.limit, if self.met { "met" } else { "MISSED" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Kind};

    #[test]
    fn a_limit_is_met_or_not() {
        assert!(Goal::new(Kind::AtMost, 1.1, 1.1).met);
        assert!(!Goal::new(Kind::Below, 32.0, 32.0).met);
        assert!(!Goal::new(Kind::AtMost, 0.5, f64::NAN).met);
        assert_eq!(Goal::new(Kind::Below, 32.0, 33.5).to_string(), "< 32 MISSED");
        assert_eq!(Goal::new(Kind::AtMost, 0.5, 0.3).to_string(), "≤ 0.5 met");
    }
}
