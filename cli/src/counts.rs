//! What is counted of a device's interrupts, whoever counts it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One vector. What is not counted is `None`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Its number; none for what was counted of vectors that are not there any more.
    pub vector: Option<u32>,
    /// The host's interrupt behind it.
    pub irq: Option<u32>,
    /// `open`, `masked`, `masked, pending`, `masked, empty` or `empty`; none for what is not there.
    pub state: Option<String>,
    /// Interrupts.
    pub signals: Option<u64>,
    /// Interrupts per second since the look before; `None` for the first look.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How often it was masked.
    pub masks: Option<u64>,
    /// How often it was unmasked.
    pub unmasks: Option<u64>,
    /// How often its eventfd was replaced.
    pub retargets: Option<u64>,
    /// How often a request signalled it.
    pub loopbacks: Option<u64>,
    /// Requests that were refused because of it.
    pub failures: Option<u64>,
}

/// Something that is known of a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fact {
    /// A number.
    Number(u64),
    /// A word.
    Word(String),
    /// It is not known yet.
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
    /// What it is.
    pub device: String,
    /// What drives or emulates it.
    pub driver: String,
    /// Whether a client uses the device, for a device that a process serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<bool>,
    /// More that is known, by name.
    pub facts: BTreeMap<String, Fact>,
    /// More that is counted, by name.
    pub totals: BTreeMap<String, u64>,
    /// Vectors, in order.
    pub vectors: Vec<Row>,
    /// What was counted of vectors that are not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Row>,
}

impl Counts {
    /// Interrupts in all.
    pub fn total(&self) -> u64 {
        let all = self.vectors.iter().chain(&self.gone).filter_map(|row| row.signals);
        all.fold(0, u64::saturating_add)
    }
}
