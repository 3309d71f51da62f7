// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The command register, and what Linux's PCI core does to it.
//!
//! The PCI core sets DisINTx when MSI or MSI-X goes on, and clears it when they go off, also when an
//! enable is refused. It writes the MSI-X table whether or not the device decodes memory. A host
//! therefore saves COMMAND, turns memory decoding on, and restores COMMAND afterwards.

/// What the guest finds in its command register.
///
/// ```
/// use vfio_irq_engine::sim::{Command, Sim};
/// use vfio_irq_engine::{Host, MsiType};
///
/// let mut sim = Sim::new();
/// sim.set_command(Command { memory: false, disintx: true });
/// sim.enable(MsiType::Msix, 1)?;
/// sim.disable(MsiType::Msix);
/// // As the guest left it, whatever the PCI core does in between.
/// assert_eq!(sim.command(), Command { memory: false, disintx: true });
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// The device decodes memory: its MSI-X table can be reached.
    pub memory: bool,
    /// DisINTx: the device must not assert its line.
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
    /// MSI or MSI-X goes on, or a vector is added.
    pub(super) fn alloc(&mut self) {
        self.command.disintx = true;
        self.write_table();
    }

    /// MSI or MSI-X goes off, or does not come on.
    pub(super) fn free(&mut self) {
        self.command.disintx = false;
        self.write_table();
    }

    /// A message or a mask bit is written.
    pub(super) fn write_table(&mut self) {
        if !self.command.memory {
            self.lost_writes = self.lost_writes.wrapping_add(1);
        }
    }

    /// Runs `step` with memory decoding on, and puts COMMAND back as it was found.
    pub(super) fn with_memory(&mut self, step: impl FnOnce(&mut Self)) {
        let found = self.command;
        self.command.memory = true;
        step(self);
        self.command = found;
    }
}
