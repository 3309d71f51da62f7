//! The table's state as the guest sees it, for snapshots and migration.

use super::entry::{Entry, MASKED};
use super::table::WRITABLE;
use super::{MsixTable, Vm};
use crate::{Error, Transport};

/// What a guest sees of its table, in PCI's own layout: what [`MsixTable::save`] returns and
/// [`MsixTable::restore`] takes, on this machine or on another, by this version or by another.
///
/// What there is behind it on the host (vectors, eventfds, GSIs) is no part of it and is made anew.
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq::kvm::{MsixTable, Routes};
/// use vfio_irq::{Index, Vectors, sim::{Simulated, SimulatedVm}};
/// let open = || MsixTable::new(
///     Vectors::open(Simulated::new(), Index::Msix)?,
///     Arc::new(Routes::new(SimulatedVm::new(), Vec::new(), 24..4096)),
/// );
/// let mut source = open()?;
/// source.set_control(0x8000)?;
/// source.write(12, &0_u32.to_le_bytes())?;
/// // The guest is paused; then:
/// let saved = source.save();
///
/// let mut target = open()?; // on another machine
/// target.restore(&saved)?;
/// assert_eq!(target.save(), saved);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saved {
    /// Message control: MSI-X enable and function mask.
    pub control: u16,
    /// The table, 16 bytes an entry.
    pub table: Vec<u8>,
    /// The pending bits, 8 bytes for 64 entries. Beyond what the guest reads there are those of vectors
    /// that are not masked and wait to be signalled from user space.
    pub pending: Vec<u8>,
}

impl<T: Transport, V: Vm> MsixTable<T, V> {
    /// Bytes of the pending bits.
    pub fn pending_size(&self) -> usize {
        self.entries.len().div_ceil(64).saturating_mul(8)
    }

    /// What the guest sees, while it is paused and its device is stopped. Nothing is changed: the
    /// guest can go on.
    ///
    /// Interrupts that KVM has taken already are in the state of its processors, which the VMM saves
    /// as well; those of vectors that the guest never unmasked are in the device's.
    pub fn save(&self) -> Saved {
        let mut table = vec![0; self.entries.len().saturating_mul(16)];
        self.read(0, &mut table);
        let mut pending = vec![0; self.pending_size()];
        for (entries, byte) in self.entries.chunks(8).zip(&mut pending) {
            let bits = entries.iter().enumerate();
            *byte = bits.fold(0, |byte, (bit, entry)| byte | u8::from(entry.is_due()) << bit);
        }
        Saved { control: self.control, table, pending }
    }

    /// Takes the place of the table that was saved: whatever this one had goes, vectors that are
    /// unmasked are enabled, and those that were pending are signalled once they are unmasked.
    ///
    /// # Errors
    ///
    /// [`Error::NotThisTable`] when it is a table of another size; nothing has changed. Otherwise what
    /// the host or KVM refused: the guest's view is restored all the same, and [`MsixTable::retry`]
    /// brings the vectors up to it.
    pub fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        if saved.table.len() as u64 != self.size() || saved.pending.len() != self.pending_size() {
            return Err(Error::NotThisTable {
                entries: self.entries.len(),
                table: saved.table.len(),
                pending: saved.pending.len(),
            });
        }
        let outcome = self.take_down();
        for (number, (entry, bytes)) in
            self.entries.iter_mut().zip(saved.table.as_chunks::<16>().0).enumerate()
        {
            let byte = saved.pending.get(number / 8).copied().unwrap_or(0);
            entry.set(*bytes, byte >> (number % 8) & 1 == 1);
        }
        self.control = saved.control & WRITABLE;
        outcome.and(self.retry())
    }

    /// The device was reset, and its table with it: all entries zero and masked, MSI-X disabled.
    ///
    /// # Errors
    ///
    /// What the host or KVM refused.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.control = 0;
        let outcome = self.take_down();
        self.entries.iter_mut().for_each(|entry| *entry = Entry::new(entry.message.device));
        outcome
    }
}

impl<T: Transport> Entry<T> {
    /// What was saved of an entry; nothing is enabled yet.
    fn set(&mut self, bytes: [u8; 16], owed: bool) {
        let [a, b, c, d, e, f, g, h, data @ .., _, _, _, _] = bytes;
        let [.., m, n, o, p] = bytes;
        self.message.address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        self.message.data = u32::from_le_bytes(data);
        self.control = u32::from_le_bytes([m, n, o, p]) & MASKED;
        self.owed = owed;
    }
}
