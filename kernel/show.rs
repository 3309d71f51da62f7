// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The table of a device in debugfs, with a line for each vector that is attached or masked
//! (`CONTRACT.md`, B-05).

use crate::host::Linux;
use crate::Interrupts;
use kernel::prelude::fmt;
use vfio_irq_engine::abi::Index;
use vfio_irq_engine::{Counts, Mask, Slot};

type Result = kernel::fmt::Result;
type Formatter<'f> = kernel::fmt::Formatter<'f>;

impl kernel::fmt::Display for Interrupts {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mode = match self.active() {
            Some(Index::Intx) => "intx",
            Some(Index::Msi) => "msi",
            Some(Index::Msix) => "msix",
            _ => "idle",
        };
        let totals = self.vectors().totals();
        f.write_fmt(fmt!(
            "mode {mode} requests {} refused {} enables {} disables {} attaches {} detaches {}\n",
            totals.requests,
            totals.refused,
            totals.enables,
            totals.disables,
            totals.attaches,
            totals.detaches
        ))?;
        f.write_str("vector   irq state      signals      masks    unmasks  retargets  loopbacks   failures\n")?;
        if let Some(intx) = self.intx() {
            show_start(f, 0, Some((intx.irq(), intx.signals())), state(intx.mask_state()))?;
            show_counts(f, &Counts::default())?;
        }
        for (number, slot) in self.vectors().slots() {
            show_slot(f, number, slot)?;
        }
        let gone = self.gone_signals();
        f.write_fmt(fmt!("{:>6} {:>5} {:<8} {:>9}", "gone", "-", "-", gone))?;
        show_counts(f, &totals.gone)
    }
}

fn show_slot(f: &mut Formatter<'_>, number: u32, slot: &Slot<Linux>) -> Result {
    let interrupt = slot.vector().map(|vector| vector.interrupt());
    let interrupt = interrupt.map(|interrupt| (interrupt.irq(), interrupt.signals()));
    show_start(f, number, interrupt, state(slot.mask()))?;
    show_counts(f, &slot.counts())
}

fn state(mask: Mask) -> &'static str {
    match mask {
        Mask::Unmasked => "unmasked",
        Mask::Masked => "masked",
    }
}

/// Prints the first columns. `interrupt` is the number in Linux and the count of signals.
fn show_start(
    f: &mut Formatter<'_>,
    number: u32,
    interrupt: Option<(u32, u64)>,
    state: &str,
) -> Result {
    match interrupt {
        Some((irq, signals)) => f.write_fmt(fmt!("{number:>6} {irq:>5} {state:<8} {signals:>9}")),
        None => f.write_fmt(fmt!("{number:>6} {:>5} {state:<8} {:>9}", "-", "-")),
    }
}

fn show_counts(f: &mut Formatter<'_>, counts: &Counts) -> Result {
    f.write_fmt(fmt!(
        " {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        counts.masks,
        counts.unmasks,
        counts.retargets,
        counts.loopbacks,
        counts.failures
    ))
}
