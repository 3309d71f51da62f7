// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The command register, and the writes of Linux's PCI core to it.
//!
//! The PCI core sets DisINTx when it enables MSI or MSI-X. It clears DisINTx when it disables
//! them, also when an enable fails. The PCI core writes the MSI-X table even if the device does
//! not decode memory. A host therefore saves COMMAND, turns memory decoding on, and restores
//! COMMAND afterwards.

/// The command register as the guest reads it.
///
/// ```
/// use vfio_irq_engine::sim::{Command, Sim};
/// use vfio_irq_engine::{Host, MsiType};
///
/// let mut sim = Sim::new();
/// sim.set_command(Command { memory: false, disintx: true });
/// sim.enable(MsiType::Msix, 1)?;
/// sim.disable(MsiType::Msix);
/// // The guest reads the value that it wrote.
/// assert_eq!(sim.command(), Command { memory: false, disintx: true });
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// The device decodes memory, so that the host can write its MSI-X table.
    pub memory: bool,
    /// DisINTx: the device must not assert INTx.
    pub disintx: bool,
}

impl Default for Command {
    fn default() -> Self {
        Self { memory: true, disintx: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pci {
    pub(super) command: Command,
    /// Writes to the table of a device that did not decode memory.
    pub(super) lost_writes: u64,
}

impl Pci {
    /// Models an enable of MSI or MSI-X, or an added vector.
    pub(super) fn alloc(&mut self) {
        self.command.disintx = true;
        self.write_table();
    }

    /// Models a disable of MSI or MSI-X, or a failed enable.
    pub(super) fn free(&mut self) {
        self.command.disintx = false;
        self.write_table();
    }

    /// Models a write of a message or of a mask bit.
    pub(super) fn write_table(&mut self) {
        if !self.command.memory {
            self.lost_writes = self.lost_writes.wrapping_add(1);
        }
    }

    /// Runs `step` with memory decoding on, and restores COMMAND.
    pub(super) fn with_memory(&mut self, step: impl FnOnce(&mut Self)) {
        let found = self.command;
        self.command.memory = true;
        step(self);
        self.command = found;
    }
}
