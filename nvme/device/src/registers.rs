//! The registers of the controller, except doorbells.

use vfio_irq_nvme_spec::register::{ACQ, AQA, ASQ, CC, FATAL, SHUTDOWN_DONE};

/// Entries of an I/O queue, at most.
pub(crate) const MOST_ENTRIES: u32 = 1024;

/// Entries at most (less one), contiguous queues only, ten seconds to become ready, the NVM command
/// set, pages of 4 to 64 KiB.
const CAPABILITIES: u64 = (MOST_ENTRIES as u64 - 1) | 1 << 16 | 20 << 24 | 1 << 37 | 4 << 52;

/// 1.4.0
pub(crate) const VERSION: u32 = 0x0001_0400;

/// Bits of CC that can be set.
const CONFIGURATION: u32 = 0x00ff_fff1;

/// The action that a register write requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Nothing,
    Enable,
    Disable,
    Shutdown,
}

/// The values of the registers at enable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setup {
    pub(crate) page: u32,
    pub(crate) submission: (u64, u32),
    pub(crate) completion: (u64, u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Registers {
    configuration: u32,
    own_status: u32,
    sizes: u32,
    submission: u64,
    completion: u64,
}

impl Registers {
    /// Returns the bits of CSTS that the worker does not set.
    pub(crate) fn own_status(&self) -> u32 {
        self.own_status
    }

    /// Sets the fatal status.
    pub(crate) fn fail(&mut self) {
        self.own_status |= FATAL;
    }

    /// Completes a shutdown while the controller is disabled.
    pub(crate) fn shut_down(&mut self) {
        self.own_status |= SHUTDOWN_DONE;
    }

    /// Returns the registers as bytes.
    pub(crate) fn image(&self, status: u32) -> [u8; 0x38] {
        let mut image = [0; 0x38];
        let words = [
            (0x00, CAPABILITIES),
            (0x08, u64::from(VERSION)),
            (0x10, u64::from(self.configuration) << 32),
            (0x18, u64::from(status) << 32),
            (0x20, u64::from(self.sizes) << 32),
            (0x28, self.submission),
            (0x30, self.completion),
        ];
        for (place, (_, word)) in image.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        image
    }

    /// Writes a register with 4 or 8 bytes; ignores other sizes. Returns the requested action.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Wish {
        let (low, high) = match data.as_chunks::<4>() {
            ([low], []) => (*low, None),
            ([low, high], []) => (*low, Some(*high)),
            _ => return Wish::Nothing,
        };
        let first = self.write_word(offset, u32::from_le_bytes(low));
        let second = high.map(|word| self.write_word(offset + 4, u32::from_le_bytes(word)));
        if first == Wish::Nothing { second.unwrap_or(Wish::Nothing) } else { first }
    }

    fn write_word(&mut self, offset: u64, value: u32) -> Wish {
        let halves = |whole: u64, upper: bool| {
            let value = u64::from(value);
            if upper { whole & 0xffff_ffff | value << 32 } else { whole >> 32 << 32 | value }
        };
        match offset {
            CC => return self.configure(value & CONFIGURATION),
            AQA => self.sizes = value & 0x0fff_0fff,
            ASQ => self.submission = halves(self.submission, false) & !0xfff,
            0x2c => self.submission = halves(self.submission, true),
            ACQ => self.completion = halves(self.completion, false) & !0xfff,
            0x34 => self.completion = halves(self.completion, true),
            _ => {}
        }
        Wish::Nothing
    }

    fn configure(&mut self, value: u32) -> Wish {
        let before = std::mem::replace(&mut self.configuration, value);
        let shuts = |value: u32| value >> 14 & 3 != 0;
        match (before & 1 != 0, value & 1 != 0) {
            (false, true) => {
                self.own_status = 0;
                Wish::Enable
            }
            (true, false) => {
                self.own_status = 0;
                Wish::Disable
            }
            _ if shuts(value) && !shuts(before) => Wish::Shutdown,
            _ => Wish::Nothing,
        }
    }

    /// Returns the values to start with, or `None` if they are invalid.
    pub(crate) fn setup(&self) -> Option<Setup> {
        let field = |at: u32, bits: u32| self.configuration >> at & ((1 << bits) - 1);
        let (page, arbitration, set) = (field(7, 4), field(11, 3), field(4, 3));
        // Sizes of entries may be set later, but not to anything else: 64 and 16 bytes.
        let entries = (field(16, 4), field(20, 4));
        let entries_fit = matches!(entries.0, 0 | 6) && matches!(entries.1, 0 | 4);
        if page > 4 || arbitration != 0 || set != 0 || !entries_fit {
            return None;
        }
        let page = 4096 << page;
        let (asq, acq) = ((self.sizes & 0xfff) + 1, (self.sizes >> 16 & 0xfff) + 1);
        let aligned = |address: u64| address.is_multiple_of(u64::from(page));
        if asq < 2 || acq < 2 || !aligned(self.submission) || !aligned(self.completion) {
            return None;
        }
        Some(Setup { page, submission: (self.submission, asq), completion: (self.completion, acq) })
    }
}
