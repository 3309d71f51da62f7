// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Names of handlers, as `/proc/interrupts` shows them. Other programs look for these names
//! (`CONTRACT.md`, V-11).
//!
//! The code joins bytes by hand: formatting takes 1,250 instructions more, at every attach.

use crate::sys::IrqName;
use kernel::str::CStr;
use vfio_irq_engine::MsiType;

/// Returns the name of a vector's handler, such as `vfio-msix[3](0000:00:04.0)`.
pub(crate) fn of_vector(pci_name: &CStr, msi_type: MsiType, number: u32) -> IrqName {
    let prefix: &[u8] = match msi_type {
        MsiType::Msi => b"vfio-msi[",
        MsiType::Msix => b"vfio-msix[",
    };
    let mut digits = [0; DIGITS];
    joined([prefix, decimal(number, &mut digits), b"](", pci_name.to_bytes(), b")"])
}

/// Returns the name of the handler of INTx, such as `vfio-intx(0000:00:04.0)`.
pub(crate) fn of_intx(pci_name: &CStr) -> IrqName {
    joined([b"vfio-intx(", pci_name.to_bytes(), b")"])
}

/// Returns the parts one after the other. A part that does not fit is left out.
fn joined<const PARTS: usize>(parts: [&[u8]; PARTS]) -> IrqName {
    let mut name = [0; IrqName::LEN];
    let mut at = 0;
    for part in parts {
        let end = at + part.len();
        if let Some(room) = name.get_mut(at..end).filter(|_| end < IrqName::LEN) {
            room.copy_from_slice(part);
            at = end;
        }
    }
    IrqName::new(name)
}

/// Digits of the largest number.
const DIGITS: usize = 10;

/// Returns a number as decimal digits, which fill the end of `room`.
fn decimal(mut number: u32, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut from = DIGITS;
    for (at, digit) in room.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from = at;
        if number == 0 {
            break;
        }
    }
    room.get(from..).unwrap_or_default()
}
