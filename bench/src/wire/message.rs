//! The measured requests.

use serde::Serialize;
use vfio_irq_user::wire::Header;

/// One of the measured requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// GET_IRQ_INFO of MSI-X.
    IrqInfo,
    /// REGION_READ of a register of four bytes.
    RegionRead,
    /// SET_IRQS that attaches the eventfd that is attached already.
    SetIrqsSame,
    /// SET_IRQS that attaches another eventfd.
    SetIrqsOther,
}

/// The lengths of request and reply, and whether a descriptor is sent along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lengths {
    pub request: u8,
    pub reply: u8,
    pub descriptor: bool,
}

impl Message {
    pub const ALL: [Self; 4] =
        [Self::IrqInfo, Self::RegionRead, Self::SetIrqsSame, Self::SetIrqsOther];

    pub fn name(self) -> &'static str {
        match self {
            Self::IrqInfo => "GET_IRQ_INFO",
            Self::RegionRead => "REGION_READ, 4 bytes",
            Self::SetIrqsSame => "SET_IRQS, 1 descriptor",
            Self::SetIrqsOther => "SET_IRQS, another one",
        }
    }

    /// Returns the lengths that the protocol defines: a header, and the command's payloads.
    pub fn lengths(self) -> Lengths {
        // The header has sixteen bytes.
        const HEADER: u8 = const {
            assert!(Header::LEN == 16);
            16
        };
        let (request, reply, descriptor) = match self {
            Self::IrqInfo => (16, 16, false),
            Self::RegionRead => (16, 20, false),
            Self::SetIrqsSame | Self::SetIrqsOther => (20, 0, true),
        };
        Lengths { request: HEADER + request, reply: HEADER + reply, descriptor }
    }
}
