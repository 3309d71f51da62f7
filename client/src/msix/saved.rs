//! The state of the table that the guest can read, for snapshots and migration.

use super::entry::{Entry, MASKED};
use super::table::WRITABLE;
use super::{MsixTable, Route, Routes};
use crate::{Error, Transport};

/// The state of a table that the guest can read, in PCI's layout. [`MsixTable::save`] returns it
/// and [`MsixTable::restore`] takes it, on this host or another, and in any version of this
/// crate.
///
/// The host's resources (vectors, eventfds, GSIs) are not included. `restore` allocates them.
///
/// ```
/// # #[cfg(feature = "kvm")] {
/// use vfio_irq::kvm::KvmRoutes;
/// use vfio_irq::msix::MsixTable;
/// use vfio_irq::{Index, Vectors, sim::{Simulated, SimulatedVm}};
/// let open = || MsixTable::new(
///     Vectors::open(Simulated::new(), Index::Msix)?,
///     KvmRoutes::new(SimulatedVm::new(), Vec::new(), 24..4096),
/// );
/// let mut source = open()?;
/// source.set_control(0x8000)?;
/// source.write(12, &0_u32.to_le_bytes())?;
/// // The guest is paused.
/// let saved = source.save();
///
/// let mut target = open()?; // On another host.
/// target.restore(&saved)?;
/// assert_eq!(target.save(), saved);
/// # }
/// # Ok::<(), vfio_irq::Error>(())
/// ```
///
/// With the feature `serde`, its fields are serialized under their names. A field that this version
/// does not know is an error: it would be lost.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Saved {
    /// Message control: MSI-X enable (bit 15) and function mask (bit 14).
    pub control: u16,
    /// The table, 16 bytes for each entry.
    pub table: Vec<u8>,
    /// The pending bits, 8 bytes for 64 entries. They include unmasked vectors whose message user
    /// space has not sent yet; the guest does not read those bits.
    pub pending: Vec<u8>,
}

impl<T: Transport, R: Routes> MsixTable<T, R> {
    /// Returns the size of the pending bits in bytes.
    pub fn pending_size(&self) -> usize {
        self.entries.len().div_ceil(64).saturating_mul(8)
    }

    /// Returns the state that the guest can read. The VMM pauses the guest and stops its device
    /// before. The call changes nothing, and the guest can continue.
    ///
    /// The VMM saves interrupts that the hypervisor received with the state of the virtual processors. The
    /// device holds the interrupts of vectors that the guest never unmasked.
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

    /// Replaces this table with the saved one. Unmasked vectors are enabled. Pending vectors are
    /// signalled when they are unmasked.
    ///
    /// # Errors
    ///
    /// [`Error::WrongTableSize`] if the saved table has another size; nothing has changed then.
    /// Other errors are those of the host or the hypervisor. The guest's view is restored even then, and
    /// [`MsixTable::retry`] enables the vectors that failed.
    pub fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        if saved.table.len() as u64 != self.size() || saved.pending.len() != self.pending_size() {
            return Err(Error::WrongTableSize {
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

    /// Resets the table with its device: all entries are zero and masked, and MSI-X is disabled.
    ///
    /// # Errors
    ///
    /// The error of the host or the hypervisor.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.control = 0;
        let outcome = self.take_down();
        self.entries.iter_mut().for_each(|entry| *entry = Entry::new(entry.message.device));
        outcome
    }
}

impl<T: Transport, R: Route> Entry<T, R> {
    /// Sets an entry to its saved state. Enables nothing.
    fn set(&mut self, bytes: [u8; 16], owed: bool) {
        let [a, b, c, d, e, f, g, h, data @ .., _, _, _, _] = bytes;
        let [.., m, n, o, p] = bytes;
        self.message.address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        self.message.data = u32::from_le_bytes(data);
        self.control = u32::from_le_bytes([m, n, o, p]) & MASKED;
        self.owed = owed;
    }
}
