//! Features (Get Features, Set Features).

use crate::Answer;
use vfio_irq_nvme_spec::{Command, Status, low};

/// Features by their number.
mod id {
    pub(crate) const ARBITRATION: u8 = 0x01;
    pub(crate) const POWER: u8 = 0x02;
    pub(crate) const TEMPERATURE: u8 = 0x04;
    pub(crate) const ERROR_RECOVERY: u8 = 0x05;
    pub(crate) const WRITE_CACHE: u8 = 0x06;
    pub(crate) const QUEUES: u8 = 0x07;
    pub(crate) const COALESCING: u8 = 0x08;
    pub(crate) const VECTOR: u8 = 0x09;
    pub(crate) const ATOMICITY: u8 = 0x0a;
    pub(crate) const EVENTS: u8 = 0x0b;
}

/// Warn above this, in kelvin.
pub(crate) const WARM: u16 = 343;

/// The values that the guest has set since the controller was enabled.
#[derive(Debug)]
pub(crate) struct Features {
    /// I/O queues of the controller, at most.
    queues: u16,
    arbitration: u32,
    temperature: [u32; 2],
    error_recovery: u32,
    coalescing: u32,
    atomicity: u32,
    events: u32,
}

/// Returns which of the two thresholds: above or below, of the only sensor or of all.
fn threshold(word: u32) -> Option<usize> {
    let (sensor, kind) = (word >> 16 & 0xf, word >> 20 & 3);
    let known = matches!(sensor, 0 | 0xf) && kind < 2;
    known.then_some(usize::from(kind == 1))
}

/// Returns both numbers of queues, less one, as both halves of a word.
fn queues_word(granted: u16) -> u32 {
    let most = u32::from(granted.saturating_sub(1));
    most | most << 16
}

fn feature(command: &Command) -> u8 {
    command.word(10).to_le_bytes()[0]
}

impl Features {
    pub(crate) fn new(queues: u16) -> Self {
        Self {
            queues,
            arbitration: 0,
            temperature: [u32::from(WARM), 0],
            error_recovery: 0,
            coalescing: 0,
            atomicity: 0,
            events: 0,
        }
    }

    /// Get Features. `granted` is the number of I/O queues that the guest may create.
    pub(crate) fn get(&self, command: &Command, granted: u16, write_cache: bool) -> Answer {
        let (feature, word) = (feature(command), command.word(11));
        let saved = match command.word(10) >> 8 & 7 {
            0 => false,
            // No feature can be saved, so the default and the saved value are equal.
            1 | 2 => true,
            3 => return abilities(feature),
            _ => return Err(Status::INVALID_FIELD),
        };
        let initial = Self::new(self.queues);
        let features = if saved { &initial } else { self };
        Ok(match feature {
            id::ARBITRATION => features.arbitration,
            id::POWER => 0,
            id::TEMPERATURE => {
                let which = threshold(word).ok_or(Status::INVALID_FIELD)?;
                features.temperature.get(which).copied().unwrap_or(0)
            }
            id::ERROR_RECOVERY => features.error_recovery,
            id::WRITE_CACHE => u32::from(saved || write_cache),
            id::QUEUES => queues_word(granted),
            id::COALESCING => features.coalescing,
            id::VECTOR => {
                let known = low(word) <= self.queues;
                known.then_some(word & 0xffff).ok_or(Status::INVALID_FIELD)?
            }
            id::ATOMICITY => features.atomicity,
            id::EVENTS => features.events,
            _ => return Err(Status::INVALID_FIELD),
        })
    }

    /// Returns the new state of the write cache if Set Features changes that. The controller
    /// flushes a cache that is disabled.
    pub(crate) fn write_cache(&self, command: &Command) -> Option<bool> {
        let changes = feature(command) == id::WRITE_CACHE && command.word(10) >> 31 == 0;
        changes.then_some(command.word(11) & 1 != 0)
    }

    /// Set Features, except for the write cache. `granted` is the number of I/O queues that the
    /// guest may create; the guest may change it only while it has none.
    pub(crate) fn set(&mut self, command: &Command, granted: &mut u16, has_queues: bool) -> Answer {
        let word = command.word(11);
        if command.word(10) >> 31 != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        match feature(command) {
            id::ARBITRATION => self.arbitration = word,
            // There is one state of power.
            id::POWER if word & 0x1f == 0 => {}
            id::TEMPERATURE => {
                let which = threshold(word).ok_or(Status::INVALID_FIELD)?;
                if let Some(place) = self.temperature.get_mut(which) {
                    *place = word & 0xffff;
                }
            }
            id::ERROR_RECOVERY => self.error_recovery = word & 0xffff,
            id::QUEUES => return self.set_queues(word, granted, has_queues),
            // Accepted without effect: the time may be 0, so each completion is signalled at once.
            id::COALESCING => self.coalescing = word & 0xffff,
            id::VECTOR if low(word) <= self.queues => {}
            id::ATOMICITY => self.atomicity = word & 1,
            id::EVENTS => self.events = word,
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }

    fn set_queues(&self, word: u32, granted: &mut u16, has_queues: bool) -> Answer {
        let (submission, completion) = (low(word), low(word >> 16));
        if submission == u16::MAX || completion == u16::MAX {
            return Err(Status::INVALID_FIELD);
        }
        if has_queues {
            return Err(Status::SEQUENCE);
        }
        // As many of both kinds.
        let wanted = submission.max(completion) + 1;
        *granted = wanted.min(self.queues);
        Ok(queues_word(*granted))
    }
}

/// Returns whether a feature can be saved, is namespace specific, and can be changed.
fn abilities(feature: u8) -> Answer {
    match feature {
        id::ARBITRATION..=id::POWER | id::TEMPERATURE..=id::EVENTS => Ok(1 << 2),
        _ => Err(Status::INVALID_FIELD),
    }
}
