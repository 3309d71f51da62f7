//! The table as the guest reads and writes it.

use super::Routes;
use super::entry::{Entry, MASKED};
use super::epoll::Epoll;
use crate::{Error, Transport, Vectors};
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

const ENTRY: u64 = 16;
pub(super) const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;
/// The table's size less one, read-only.
const SIZE: u16 = 0x7ff;
pub(super) const WRITABLE: u16 = ENABLE | FUNCTION_MASK;

/// A guest's MSI-X table. The [module](super) describes its design.
///
/// Calls take `&mut self`, so that a VMM keeps the table under the lock of its device. If a call
/// returns an error, the guest's write is stored all the same. The vectors that failed are
/// updated by [`MsixTable::retry`] or by the guest's next write to them.
///
/// ```
/// # #[cfg(feature = "kvm")] {
/// use std::sync::Arc;
/// use vfio_irq::kvm::KvmRoutes;
/// use vfio_irq::msix::MsixTable;
/// use vfio_irq::sim::{Simulated, SimulatedVm};
/// use vfio_irq::{Index, Vectors};
///
/// // A VMM uses its `VfioDevice` and kvm-ioctls' `VmFd`.
/// let (device, vm) = (Arc::new(Simulated::new()), SimulatedVm::new());
/// let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
/// let mut table = MsixTable::new(vectors, KvmRoutes::new(vm, Vec::new(), 24..4096))?;
/// table.set_control(0x8000)?;
/// table.write(12, &0_u32.to_le_bytes())?; // The guest unmasks vector 0.
/// device.raise(0);
/// assert_eq!(table.handle_events()?, 1); // User space sent the message.
/// table.commit()?; // KVM sends the message from now on.
/// table.write(12, &1_u32.to_le_bytes())?; // The guest masks vector 0.
/// device.raise(0);
/// let mut pending = [0; 8];
/// table.read_pending(0, &mut pending);
/// assert_eq!(pending[0], 1);
/// # }
/// # Ok::<(), vfio_irq::Error>(())
/// ```
pub struct MsixTable<T: Transport, R: Routes> {
    pub(super) vectors: Vectors<T>,
    pub(super) routes: R,
    pub(super) epoll: Epoll,
    pub(super) entries: Vec<Entry<T, R::Route>>,
    pub(super) control: u16,
    /// Vectors that wait for a committed route.
    pub(super) waiting: BTreeSet<u32>,
}

impl<T: Transport, R: Routes> fmt::Debug for MsixTable<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = f.debug_struct("MsixTable");
        table.field("entries", &self.entries.len()).field("control", &self.control);
        table.field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl<T: Transport, R: Routes> MsixTable<T, R> {
    /// Returns a table with as many entries as the device has. All entries are masked, and MSI-X
    /// is disabled.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] if the process has no descriptor left.
    pub fn new(vectors: Vectors<T>, routes: R) -> Result<Self, Error> {
        Self::with_device_id(vectors, routes, None)
    }

    /// Returns a table whose messages carry a device identifier, for interrupt controllers that
    /// need it (Arm's ITS).
    ///
    /// # Errors
    ///
    /// As [`MsixTable::new`].
    pub fn with_device_id(
        vectors: Vectors<T>,
        routes: R,
        device: Option<u32>,
    ) -> Result<Self, Error> {
        let entries = (0..vectors.capabilities().count()).map(|_| Entry::new(device)).collect();
        let (epoll, control, waiting) = (Epoll::new()?, 0, BTreeSet::new());
        Ok(Self { vectors, routes, epoll, entries, control, waiting })
    }

    /// Returns the host's vectors. The enabled ones are those that the guest has unmasked since
    /// it enabled MSI-X.
    pub fn vectors(&self) -> &Vectors<T> {
        &self.vectors
    }

    /// Returns the size of the table in bytes: 16 for each entry.
    pub fn size(&self) -> u64 {
        ENTRY * self.entries.len() as u64
    }

    /// Reads from the table, `offset` bytes from its start. Bytes outside the table, or not
    /// aligned to 4, read as zero.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        for (step, chunk) in (0_u64..).step_by(4).zip(bytes.chunks_mut(4)) {
            let word = offset.checked_add(step).and_then(|at| self.word(at)).unwrap_or(0);
            chunk.iter_mut().zip(word.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        }
    }

    fn word(&self, offset: u64) -> Option<u32> {
        let entry = self.entries.get(usize::try_from(offset / ENTRY).ok()?)?;
        let [low, high] = halves(entry.message.address);
        match offset % ENTRY {
            0 => Some(low),
            4 => Some(high),
            8 => Some(entry.message.data),
            12 => Some(entry.control),
            _ => None,
        }
    }

    /// Writes to the table, `offset` bytes from its start, as the guest does.
    ///
    /// # Errors
    ///
    /// [`Error::Access`] if the access is outside the table or not 4 or 8 bytes, aligned; nothing
    /// is written then. Otherwise the error of the host or the hypervisor.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let refused = Error::Access { offset, len: bytes.len() };
        let (words, []) = bytes.as_chunks::<4>() else { return Err(refused) };
        let at = usize::try_from(offset / ENTRY).unwrap_or(usize::MAX);
        let whole =
            !words.is_empty() && words.len() <= 2 && offset.is_multiple_of(bytes.len() as u64);
        let Some(entry) = self.entries.get_mut(at).filter(|_| whole) else { return Err(refused) };
        let before = entry.message;
        for (field, word) in (offset % ENTRY..).step_by(4).zip(words) {
            let [low, high] = halves(entry.message.address);
            let word = u32::from_le_bytes(*word);
            match field {
                0 => entry.message.address = u64::from(high) << 32 | u64::from(word),
                4 => entry.message.address = u64::from(word) << 32 | u64::from(low),
                8 => entry.message.data = word,
                _ => entry.control = word & MASKED,
            }
        }
        let changed = entry.message != before;
        let Ok(number) = u32::try_from(at) else { return Err(refused) };
        self.update(number, changed)?;
        self.commit_if_due()
    }

    /// Reads pending bits, `offset` bytes from the first. A bit is set if a masked vector has
    /// been signalled.
    ///
    /// A vector that the guest never unmasked is not attached, and the device holds its pending
    /// bit. The VMM therefore ors the result with the bits that it reads from the device.
    pub fn read_pending(&mut self, offset: u64, bytes: &mut [u8]) {
        for (step, byte) in (0_u64..).zip(bytes) {
            let at = offset.checked_add(step).and_then(|at| usize::try_from(at).ok());
            let first = at.and_then(|at| at.checked_mul(8));
            let entries = first.and_then(|first| self.entries.get_mut(first..)).unwrap_or_default();
            let bits = entries.iter_mut().take(8).enumerate();
            *byte = bits.fold(0, |byte, (bit, entry)| byte | u8::from(entry.take_pending()) << bit);
        }
    }

    /// Reads the message control register: the bits that the guest wrote, and the size of the
    /// table. The VMM answers the guest's reads with it. The device's own register has other
    /// masks, and Enable is clear there while the host refuses every vector. Linux reads the
    /// register before it unmasks, and turns MSI-X off if Enable is clear.
    pub fn control(&self) -> u16 {
        let last = self.entries.len().saturating_sub(1);
        self.control | u16::try_from(last).unwrap_or_default() & SIZE
    }

    /// Writes the message control register, as the guest does: MSI-X enable (bit 15) and function
    /// mask (bit 14).
    ///
    /// Enable attaches all unmasked vectors in one request. If none is unmasked, it enables MSI-X
    /// on the device all the same ([`Vectors::activate`]): the device then raises no INTx, and
    /// holds pending bits. Disable releases all of the host's resources.
    ///
    /// # Errors
    ///
    /// The error of the host or the hypervisor.
    pub fn set_control(&mut self, control: u16) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.control, control & WRITABLE);
        if self.control & ENABLE == 0 {
            return self.take_down();
        }
        if before == self.control { Ok(()) } else { self.retry() }
    }
}

fn halves(address: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    [half(address), half(address >> 32)]
}

impl<T: Transport, R: Routes> AsFd for MsixTable<T, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<T: Transport, R: Routes> Drop for MsixTable<T, R> {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::warn!(%error, "a table's vectors stay enabled");
        }
    }
}
