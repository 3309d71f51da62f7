//! The counts of a device's interrupts, in a form for every source of counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One vector. A value that is not counted is `None`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Number of the vector; none for the sum of vectors that no longer exist.
    pub vector: Option<u32>,
    /// The host's interrupt of the vector.
    pub irq: Option<u32>,
    /// `unmasked`, `masked`, `masked, pending`, `masked, empty` or `empty`; none for vectors that no
    /// longer exist.
    pub state: Option<String>,
    /// Interrupts signalled.
    pub signals: Option<u64>,
    /// Interrupts per second since the previous reading; `None` for the first reading.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Times the vector was masked.
    pub masks: Option<u64>,
    /// Times the vector was unmasked.
    pub unmasks: Option<u64>,
    /// Times the eventfd was replaced.
    pub retargets: Option<u64>,
    /// Times a request signalled the vector (loopback).
    pub loopbacks: Option<u64>,
    /// Requests that failed because of the vector.
    pub failures: Option<u64>,
}

/// A fact about a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fact {
    /// A number.
    Number(u64),
    /// A word.
    Word(String),
    /// The value is not known yet.
    Unknown(()),
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Number(number),
            Err(_) if text == "-" => Self::Unknown(()),
            Err(_) => Self::Word(text.to_owned()),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
            Self::Unknown(()) => f.write_str("-"),
        }
    }
}

/// One device.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// The device.
    pub device: String,
    /// The driver or the emulator of the device.
    pub driver: String,
    /// Whether a client uses the device, if a process serves the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<bool>,
    /// Other facts, by name.
    pub facts: BTreeMap<String, Fact>,
    /// Other counts, by name.
    pub totals: BTreeMap<String, u64>,
    /// The vectors, in order.
    pub vectors: Vec<Row>,
    /// The sum of the vectors that no longer exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Row>,
}

impl Counts {
    /// Returns the sum of all interrupts.
    pub fn total(&self) -> u64 {
        let all = self.vectors.iter().chain(&self.gone).filter_map(|row| row.signals);
        all.fold(0, u64::saturating_add)
    }
}
