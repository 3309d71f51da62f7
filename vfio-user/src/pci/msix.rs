//! The MSI-X table and the PBA in a BAR.
//!
//! SET_IRQS alone routes interrupts, as with VFIO of the kernel: the table is stored and read back
//! only. A reset sets the mask bits of the table, and many clients never clear them; so they mask
//! nothing. The function mask of the capability masks.

use super::layout::Msix;
use std::collections::BTreeMap;

/// A part of a BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Registers of the device.
    Device,
    /// The MSI-X table, from this offset.
    Table(u64),
    /// The PBA, from this offset.
    Pending(u64),
}

/// The MSI-X table of a device. Entries that were never written are not allocated.
#[derive(Clone, Debug, Default)]
pub(crate) struct MsixTable {
    msix: Option<Msix>,
    entries: BTreeMap<u64, [u8; 16]>,
}

/// An entry after a reset: masked.
const RESET: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

impl MsixTable {
    pub(crate) fn new(msix: Option<Msix>) -> Self {
        Self { msix, entries: BTreeMap::new() }
    }

    pub(crate) fn reset(&mut self) {
        self.entries.clear();
    }

    /// Returns the part at this offset, and the rest of its length.
    pub(crate) fn part(&self, bar: u32, offset: u64) -> (Part, u64) {
        let Some(msix) = self.msix.filter(|msix| u32::from(msix.bar) == bar) else {
            return (Part::Device, u64::MAX);
        };
        let (table, pending) = (msix.table_range(), msix.pending_range());
        if table.contains(&offset) {
            return (Part::Table(offset - table.start), table.end - offset);
        }
        if pending.contains(&offset) {
            return (Part::Pending(offset - pending.start), pending.end - offset);
        }
        let ahead = [table.start, pending.start].into_iter().filter(|start| *start > offset);
        (Part::Device, ahead.min().map_or(u64::MAX, |start| start - offset))
    }

    pub(crate) fn read(&self, from: u64, data: &mut [u8]) {
        for (at, byte) in (from..).zip(data) {
            let entry = self.entries.get(&(at / 16)).unwrap_or(&RESET);
            *byte = usize::try_from(at % 16).ok().and_then(|i| entry.get(i)).copied().unwrap_or(0);
        }
    }

    pub(crate) fn write(&mut self, from: u64, data: &[u8]) {
        for (at, byte) in (from..).zip(data) {
            let entry = self.entries.entry(at / 16).or_insert(RESET);
            let place = usize::try_from(at % 16).ok().and_then(|i| entry.get_mut(i));
            if let Some(place) = place {
                // The last word has a mask bit only.
                *place = match at % 16 {
                    12 => byte & 1,
                    13..=15 => 0,
                    0 => byte & !3,
                    _ => *byte,
                };
            }
        }
    }

    pub(crate) fn read_pending(from: u64, data: &mut [u8], pending: impl Fn(u32) -> bool) {
        for (at, byte) in (from..).zip(data) {
            let first = u32::try_from(at * 8).unwrap_or(u32::MAX);
            let bits = (0..8).filter(|bit| pending(first.saturating_add(*bit)));
            *byte = bits.fold(0, |byte, bit| byte | 1 << bit);
        }
    }
}
