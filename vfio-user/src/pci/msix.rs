//! The MSI-X table and its pending bits, as a BAR shows them.
//!
//! Where an interrupt goes is said by SET_IRQS alone, as with a device that the kernel owns: what is
//! written to the table is kept and read back. Its mask bits are set by a reset and many clients never
//! touch them, so they mask nothing; the function mask of the capability does.

use super::caps::Msix;
use std::collections::BTreeMap;

/// Which part of a BAR a byte is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// The device's own.
    Device,
    /// The table, from this byte on.
    Table(u64),
    /// The pending bits, from this byte on.
    Pending(u64),
}

/// The table of one device; entries that were never written take no memory.
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

    /// Which part of the BAR a byte is in, and how many bytes of that part follow.
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
                // Only the mask bit of the last word exists.
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
