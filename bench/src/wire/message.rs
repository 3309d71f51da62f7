//! What is asked.

use serde::Serialize;
use vfio_irq_user::wire::Header;

/// One of the requests that are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// GET_IRQ_INFO of MSI-X.
    IrqInfo,
    /// REGION_READ of a register of four bytes.
    RegionRead,
    /// SET_IRQS that attaches the eventfd which the vector has already.
    SetIrqsSame,
    /// SET_IRQS that attaches another eventfd than the vector has.
    SetIrqsOther,
}

/// How long request and reply are, and whether a descriptor goes along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IrqCaps {
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

    /// As the protocol has it: a header, and what each command says and is told.
    pub fn shape(self) -> IrqCaps {
        // Sixteen bytes.
        const HEADER: u8 = const {
            assert!(Header::LEN == 16);
            16
        };
        let (request, reply, descriptor) = match self {
            Self::IrqInfo => (16, 16, false),
            Self::RegionRead => (16, 20, false),
            Self::SetIrqsSame | Self::SetIrqsOther => (20, 0, true),
        };
        IrqCaps { request: HEADER + request, reply: HEADER + reply, descriptor }
    }
}
