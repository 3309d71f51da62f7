//! Parses configuration space from sysfs.

use schemars::JsonSchema;
use serde::Serialize;

/// The interrupt capabilities in a function's configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Offered {
    /// Vectors of MSI-X; 0 without the capability.
    pub msix: u32,
    /// Vectors of MSI; 0 without the capability.
    pub msi: u32,
    /// MSI has a mask bit for each vector.
    pub msi_masks: bool,
    /// The function has an interrupt pin.
    pub pin: bool,
}

const STATUS: usize = 0x06;
const CAPABILITY_LIST: u16 = 0x10;
const CAPABILITIES: usize = 0x34;
const PIN: usize = 0x3d;
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;

/// Why configuration space does not show a function's interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// Configuration space ends before the capabilities: user space without CAP_SYS_ADMIN sees 64 bytes.
    Short,
    /// All bits read as ones: the function is powered down (D3cold), or gone.
    Silent,
}

impl Offered {
    /// Parses the capabilities in configuration space, and ignores the vendor and device ID: a
    /// virtual function has FFFFh there (SR-IOV specification, 3.4.1.1 and 3.4.1.2).
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub fn read(config: &[u8]) -> Result<Self, Unread> {
        let header = config.get(..64).ok_or(Unread::Short)?;
        if header.iter().all(|byte| *byte == 0xff) {
            return Err(Unread::Silent);
        }
        Self::capabilities(config).ok_or(Unread::Short)
    }

    fn capabilities(config: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_le_bytes(*config.get(at..)?.first_chunk()?));
        let byte = |at: usize| config.get(at).copied();
        let mut offered = Self { msix: 0, msi: 0, msi_masks: false, pin: byte(PIN)? != 0 };
        if word(STATUS)? & CAPABILITY_LIST == 0 {
            return Some(offered);
        }
        let mut at = usize::from(byte(CAPABILITIES)? & !3);
        // At most as many as fit, so that a cyclic list ends.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let control = word(at + 2)?;
            match byte(at)? {
                MSIX => offered.msix = u32::from(control & 0x7ff) + 1,
                MSI => {
                    offered.msi = 1 << (control >> 1 & 7).min(5);
                    offered.msi_masks = control & 0x100 != 0;
                }
                _ => {}
            }
            at = usize::from(byte(at + 1)? & !3);
        }
        Some(offered)
    }
}

#[cfg(test)]
mod tests {
    use super::{Offered, Unread};

    fn config() -> Vec<u8> {
        let mut config = vec![0; 256];
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x3d] = 1;
        config[0x40..0x44].copy_from_slice(&[0x05, 0x50, 0x06, 0x01]);
        config[0x50..0x54].copy_from_slice(&[0x11, 0x00, 0x40, 0x80]);
        config
    }

    #[test]
    fn capabilities_are_found() {
        let offered = Offered { msix: 65, msi: 8, msi_masks: true, pin: true };
        assert_eq!(Offered::read(&config()), Ok(offered));
    }

    #[test]
    fn what_is_not_readable_is_not_known() {
        assert_eq!(Offered::read(&config()[..64]), Err(Unread::Short));
        assert_eq!(Offered::read(&[]), Err(Unread::Short));
        assert_eq!(Offered::read(&[0xff; 256]), Err(Unread::Silent));
        // Without capabilities, the first 64 bytes are sufficient.
        let none = Offered { msix: 0, msi: 0, msi_masks: false, pin: false };
        assert_eq!(Offered::read(&[0; 64]), Ok(none));
    }

    #[test]
    fn a_virtual_function_has_no_ids_and_its_capabilities() {
        let mut config = config();
        config[..4].fill(0xff);
        assert_eq!(Offered::read(&config).map(|offered| (offered.msix, offered.msi)), Ok((65, 8)));
    }

    #[test]
    fn a_list_that_bites_its_tail_ends() {
        let mut config = config();
        config[0x51] = 0x40;
        assert_eq!(Offered::read(&config).map(|offered| offered.msix), Ok(65));
    }
}
