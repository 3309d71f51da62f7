//! What is counted of a device's interrupts, whoever counts it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One vector. What nobody counts is `None`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Its number; none for what was counted of vectors that are not there any more.
    pub vector: Option<u32>,
    /// The host's interrupt behind it.
    pub irq: Option<u32>,
    /// `open`, `masked`, `empty`.
    pub state: String,
    /// Interrupts.
    pub signals: Option<u64>,
    /// Interrupts per second since the last look, for who looks again and again.
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

/// One device.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// What it is.
    pub device: String,
    /// Who drives or emulates it, and so counts.
    pub driver: String,
    /// Whether a client uses the device; `None` where that has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<bool>,
    /// More that is known, as words.
    pub facts: BTreeMap<String, String>,
    /// More that is counted.
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
