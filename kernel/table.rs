// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What debugfs shows of a device: one table, a line for each vector that is attached, masked or
//! watched (`CONTRACT.md`, B-05).

use crate::state::State;
use kernel::prelude::fmt;
use vfio_irq_engine::{Counts, Gate, Kind, Retention, Slot};

impl kernel::fmt::Display for State {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let mode = match self.vectors.active() {
            Some(Kind::Msi) => "msi",
            Some(Kind::Msix) => "msix",
            None => "idle",
        };
        let detach = match self.host.detach() {
            Retention::Keep => "keep",
            Retention::Free => "free",
        };
        f.write_fmt(fmt!("mode {mode} "))?;
        match self.host.shape() {
            Some(shape) => f.write_fmt(fmt!(
                "msi {} msix {} dynamic {}",
                shape.msi,
                shape.msix,
                u8::from(shape.msix_growing)
            ))?,
            // Nobody has opened the device yet.
            None => f.write_str("msi - msix - dynamic -")?,
        }
        f.write_fmt(fmt!(" detach {detach}\n"))?;
        self.show_totals(f)?;
        f.write_str("vector   irq state    signals      masks    unmasks  retargets  loopbacks   failures\n")?;
        for (number, slot) in self.vectors.slots() {
            show_slot(f, number, slot)?;
        }
        f.write_fmt(fmt!("{:>6} {:>5} {:<6} {:>9}", "gone", "-", "-", self.host.gone_signals()))?;
        show_counts(f, &self.vectors.totals().gone)
    }
}

impl State {
    fn show_totals(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let totals = self.vectors.totals();
        f.write_fmt(fmt!(
            "requests {} refused {} enables {} disables {} attaches {} detaches {}\n",
            totals.requests,
            totals.refused,
            totals.enables,
            totals.disables,
            totals.attaches,
            totals.detaches
        ))
    }
}

fn show_slot(
    f: &mut kernel::fmt::Formatter<'_>,
    number: u32,
    slot: &Slot<crate::host::Linux>,
) -> kernel::fmt::Result {
    let gate = match slot.gate() {
        Gate::Open => "open",
        Gate::Masked => "masked",
    };
    match slot.vector() {
        Some(vector) => f.write_fmt(fmt!(
            "{:>6} {:>5} {:<6} {:>9}",
            number,
            vector.interrupt().irq(),
            gate,
            vector.interrupt().signals()
        ))?,
        None => f.write_fmt(fmt!("{:>6} {:>5} {:<6} {:>9}", number, "-", gate, "-"))?,
    }
    show_counts(f, &slot.counts())
}

fn show_counts(f: &mut kernel::fmt::Formatter<'_>, counts: &Counts) -> kernel::fmt::Result {
    f.write_fmt(fmt!(
        " {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        counts.masks,
        counts.unmasks,
        counts.retargets,
        counts.loopbacks,
        counts.failures
    ))
}
