//! The initial bytes of configuration space, and the writable bits.

use super::bar::{Bar, Kind};
use super::config::{Config, Places};
use std::ops::Range;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Msi {
    pub(crate) vectors: u32,
    pub(crate) maskable: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Msix {
    pub(crate) vectors: u32,
    pub(crate) bar: u8,
    pub(crate) table: u32,
    pub(crate) pending: u32,
}

impl Msix {
    /// The offset of the table in its BAR.
    pub(crate) fn table_range(&self) -> Range<u64> {
        let start = u64::from(self.table);
        start..start + u64::from(self.vectors) * 16
    }

    /// The offset of the PBA in its BAR.
    pub(crate) fn pending_range(&self) -> Range<u64> {
        let start = u64::from(self.pending);
        start..start + u64::from(self.vectors.div_ceil(64)) * 8
    }
}

/// What a function consists of.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) vendor: u16,
    pub(super) device: u16,
    pub(super) subsystem: (u16, u16),
    pub(super) class: [u8; 3],
    pub(super) revision: u8,
    pub(super) bars: [Option<(usize, Bar)>; 6],
    pub(super) pin: u8,
    pub(super) power_management: bool,
    pub(super) msi: Option<Msi>,
    pub(super) msix: Option<Msix>,
    pub(super) pcie: bool,
}

/// Appends registers.
struct Layout {
    config: Config,
    next: usize,
    /// The offset of the pointer to the next capability.
    link: usize,
}

impl Layout {
    /// Writes a 16-bit register and its writable bits.
    fn put16(&mut self, at: usize, value: u16, writable: u16) {
        self.config.init(at, &value.to_le_bytes(), &writable.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32, writable: u32) {
        self.config.init(at, &value.to_le_bytes(), &writable.to_le_bytes());
    }

    /// Allocates a capability of this size, and links it. Returns its offset.
    fn capability(&mut self, id: u8, len: usize) -> usize {
        let at = self.next;
        // Capabilities end far below 256.
        let place = u8::try_from(at).unwrap_or(0);
        self.config.init(self.link, &[place], &[0]);
        self.config.init(at, &[id, 0], &[0, 0]);
        self.link = at + 1;
        self.next = (at + len).next_multiple_of(4);
        at
    }
}

/// Returns configuration space after reset.
pub(super) fn lay_out(parts: &Parts) -> Config {
    let size = if parts.pcie { 4096 } else { 256 };
    let mut layout = Layout { config: Config::new(size), next: 0x40, link: 0x34 };
    header(&mut layout, parts);
    let mut places = Places::default();
    if parts.power_management {
        power_management(&mut layout);
    }
    if let Some(msi) = parts.msi {
        places.msi = Some(lay_out_msi(&mut layout, msi));
        places.msi_mask = msi.maskable.then_some(places.msi.unwrap_or(0) + 16);
    }
    if let Some(msix) = parts.msix {
        places.msix = Some(lay_out_msix(&mut layout, msix));
    }
    if parts.pcie {
        places.express = Some(express(&mut layout));
    }
    layout.config.set_places(places);
    layout.config
}

fn header(layout: &mut Layout, parts: &Parts) {
    layout.put16(0x00, parts.vendor, 0);
    layout.put16(0x02, parts.device, 0);
    // I/O, memory, bus master, parity, SERR, interrupt disable.
    layout.put16(0x04, 0, 0x0547);
    let capabilities = parts.power_management || parts.msi.is_some();
    let capabilities = capabilities || parts.msix.is_some() || parts.pcie;
    layout.put16(0x06, if capabilities { 0x10 } else { 0 }, 0);
    let [base, sub, interface] = parts.class;
    layout.config.init(0x08, &[parts.revision, interface, sub, base], &[0; 4]);
    // Cache line size and latency timer.
    layout.config.init(0x0c, &[0, 0], &[0xff, 0xff]);
    for (number, bar) in parts.bars.iter().enumerate() {
        if let Some((_, bar)) = bar {
            register(layout, 0x10 + 4 * number, bar);
        }
    }
    layout.put16(0x2c, parts.subsystem.0, 0);
    layout.put16(0x2e, parts.subsystem.1, 0);
    layout.config.init(0x3c, &[0, parts.pin], &[0xff, 0]);
}

fn register(layout: &mut Layout, at: usize, bar: &Bar) {
    let kind = match bar.kind {
        Kind::Io => 1,
        Kind::Memory32 => 0,
        Kind::Memory64 => 4,
    };
    let prefetchable = if bar.prefetchable && bar.kind != Kind::Io { 8 } else { 0 };
    let address = !(bar.size - 1);
    let [low, high] =
        [address & 0xffff_ffff, address >> 32].map(|half| half.try_into().unwrap_or(0));
    layout.put32(at, kind | prefetchable, low);
    if bar.kind == Kind::Memory64 {
        layout.put32(at + 4, 0, high);
    }
}

fn power_management(layout: &mut Layout) {
    let at = layout.capability(0x01, 8);
    layout.put16(at + 2, 3, 0);
    // The power state; leaving D3hot resets nothing.
    layout.put16(at + 4, 1 << 3, 3);
}

fn lay_out_msi(layout: &mut Layout, msi: Msi) -> usize {
    let at = layout.capability(0x05, if msi.maskable { 24 } else { 14 });
    // A power of two of 32 at most.
    let capable = u16::try_from(msi.vectors.trailing_zeros()).unwrap_or(0);
    let control = capable << 1 | 1 << 7 | if msi.maskable { 1 << 8 } else { 0 };
    layout.put16(at + 2, control, 0x71);
    layout.put32(at + 4, 0, !3);
    layout.put32(at + 8, 0, !0);
    layout.put16(at + 12, 0, !0);
    if msi.maskable {
        let all = u32::try_from((1_u64 << msi.vectors) - 1).unwrap_or(!0);
        layout.put32(at + 16, 0, all);
        layout.put32(at + 20, 0, 0);
    }
    at
}

fn lay_out_msix(layout: &mut Layout, msix: Msix) -> usize {
    let at = layout.capability(0x11, 12);
    // 2048 vectors at most.
    let last = u16::try_from(msix.vectors - 1).unwrap_or(0);
    // Enable and function mask.
    layout.put16(at + 2, last, 0xc000);
    layout.put32(at + 4, msix.table | u32::from(msix.bar), 0);
    layout.put32(at + 8, msix.pending | u32::from(msix.bar), 0);
    at
}

fn express(layout: &mut Layout) -> usize {
    let at = layout.capability(0x10, 60);
    // Version 2, an endpoint.
    layout.put16(at + 2, 2, 0);
    // Role-based error reporting, function level reset.
    layout.put32(at + 4, 1 << 15 | 1 << 28, 0);
    // All of the control register but the reset, which is never seen set.
    layout.put16(at + 8, 1 << 4 | 2 << 12, 0x7fff);
    // One lane of the first generation, and so is the link's state.
    layout.put32(at + 12, 1 | 1 << 4, 0);
    layout.put16(at + 16, 0, 0x01fb);
    layout.put16(at + 18, 1 | 1 << 4, 0);
    at
}
