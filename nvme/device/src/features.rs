//! Features (Get Features, Set Features).

use super::shared::Admin;
use super::worker::{Answer, Worker};
use std::sync::atomic::Ordering;
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::{Command, low};

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
    arbitration: u32,
    temperature: [u32; 2],
    error_recovery: u32,
    coalescing: u32,
    atomicity: u32,
    events: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            arbitration: 0,
            temperature: [u32::from(WARM), 0],
            error_recovery: 0,
            coalescing: 0,
            atomicity: 0,
            events: 0,
        }
    }
}

impl Worker {
    /// Which of the two thresholds: above or below, of the only sensor or of all.
    fn threshold(word: u32) -> Option<usize> {
        let (sensor, kind) = (word >> 16 & 0xf, word >> 20 & 3);
        let known = matches!(sensor, 0 | 0xf) && kind < 2;
        known.then_some(usize::from(kind == 1))
    }

    /// Both numbers of queues, less one, as both halves of a word.
    fn granted_queues(admin: &Admin) -> u32 {
        let most = u32::from(admin.granted.saturating_sub(1));
        most | most << 16
    }

    pub(crate) fn get_feature(&self, admin: &Admin, command: &Command) -> Answer {
        let (feature, word) = (command.word(10).to_le_bytes()[0], command.word(11));
        let saved = match command.word(10) >> 8 & 7 {
            0 => false,
            // No feature can be saved, so the default and the saved value are equal.
            1 | 2 => true,
            3 => return self.feature_abilities(feature),
            _ => return Err(Status::INVALID_FIELD),
        };
        let initial = Features::default();
        let features = if saved { &initial } else { &admin.features };
        Ok(match feature {
            id::ARBITRATION => features.arbitration,
            id::POWER => 0,
            id::TEMPERATURE => {
                let which = Self::threshold(word).ok_or(Status::INVALID_FIELD)?;
                features.temperature.get(which).copied().unwrap_or(0)
            }
            id::ERROR_RECOVERY => features.error_recovery,
            id::WRITE_CACHE => u32::from(saved || self.shared.write_cache.load(Ordering::Acquire)),
            id::QUEUES => Self::granted_queues(admin),
            id::COALESCING => features.coalescing,
            id::VECTOR => {
                let known = u32::from(low(word)) <= u32::from(self.shared.common.queues);
                known.then_some(word & 0xffff).ok_or(Status::INVALID_FIELD)?
            }
            id::ATOMICITY => features.atomicity,
            id::EVENTS => features.events,
            _ => return Err(Status::INVALID_FIELD),
        })
    }

    /// Returns whether a feature can be saved, is namespace specific, and can be changed.
    fn feature_abilities(&self, feature: u8) -> Answer {
        match feature {
            id::ARBITRATION..=id::POWER | id::TEMPERATURE..=id::EVENTS => Ok(1 << 2),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    pub(crate) fn set_feature(&mut self, admin: &mut Admin, command: &Command) -> Answer {
        let (feature, word) = (command.word(10).to_le_bytes()[0], command.word(11));
        if command.word(10) >> 31 != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        match feature {
            id::ARBITRATION => admin.features.arbitration = word,
            // There is one state of power.
            id::POWER if word & 0x1f == 0 => {}
            id::TEMPERATURE => {
                let which = Self::threshold(word).ok_or(Status::INVALID_FIELD)?;
                if let Some(place) = admin.features.temperature.get_mut(which) {
                    *place = word & 0xffff;
                }
            }
            id::ERROR_RECOVERY => admin.features.error_recovery = word & 0xffff,
            id::WRITE_CACHE => return self.set_write_cache(word & 1 != 0),
            id::QUEUES => return self.set_queues(admin, word),
            // Accepted without effect: the time may be 0, so each completion is signalled at once.
            id::COALESCING => admin.features.coalescing = word & 0xffff,
            id::VECTOR if u32::from(low(word)) <= u32::from(self.shared.common.queues) => {}
            id::ATOMICITY => admin.features.atomicity = word & 1,
            id::EVENTS => admin.features.events = word,
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }

    /// Enables or disables the write cache. Disabling it flushes it.
    fn set_write_cache(&mut self, on: bool) -> Answer {
        // Later writes are durable by themselves. The flush covers earlier ones.
        self.shared.write_cache.store(on, Ordering::Release);
        if !on {
            self.step_aside();
            self.shared.common.disk.flush().map_err(|_| Status::WRITE_FAULT)?;
        }
        Ok(0)
    }

    fn set_queues(&self, admin: &mut Admin, word: u32) -> Answer {
        let (submission, completion) = (low(word), low(word >> 16));
        if submission == u16::MAX || completion == u16::MAX {
            return Err(Status::INVALID_FIELD);
        }
        if self.has_queues() {
            return Err(Status::SEQUENCE);
        }
        // As many of both kinds.
        let wanted = submission.max(completion) + 1;
        admin.granted = wanted.min(self.shared.common.queues);
        Ok(Self::granted_queues(admin))
    }
}
