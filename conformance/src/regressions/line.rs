//! The line after MSI-X.

use super::{Place, must};
use crate::cases::{Verdict, check};
use crate::devices::{Stimulus, nvme::Controller};
use crate::eventfd::Eventfd;
use crate::pin::Pinned;
use crate::vfio::{self, COMMAND, COMMAND_LINE_OFF, COMMAND_MASTER, COMMAND_MEMORY, Opener};
use crate::{Index, Request};

/// MSI-X turns the line off in the command register and on again. A driver that puts the whole
/// register back, since it turned memory decoding on for itself, turns the line off for good.
pub(super) fn works_after_msix(place: &Place) -> Verdict {
    let _pinned = Pinned::new()?;
    let opener = Opener::new(&place.bdf)?;
    let device = opener.open()?;
    let trigger = Eventfd::new()?;
    must(&device, &Request::attach(Index::Msix, 0, &[trigger.number()]))?;
    device.config_write16(COMMAND, 0)?;
    must(&device, &Request::disable(Index::Msix))?;
    must(&device, &Request::attach(Index::Intx, 0, &[trigger.number()]))?;
    let enabled = |when: &str| {
        let command = vfio::hardware16(&place.bdf, COMMAND)?;
        let off = command & COMMAND_LINE_OFF != 0;
        check(!off, || format!("{when}: the line is off, command {command:#06x}"))
    };
    enabled("INTx was enabled")?;
    device.config_write16(COMMAND, COMMAND_MEMORY | COMMAND_MASTER)?;
    enabled("memory decoding was turned on")?;

    let mut controller = Controller::new(device.bar(), opener.dma());
    controller.ready(Index::Intx, 1)?;
    controller.acknowledge()?;
    // What it did to get ready may have raised the line, which masked it.
    must(&device, &Request::unmask(Index::Intx, 0, 1))?;
    trigger.take();
    controller.raise(Index::Intx, 0)?;
    check(trigger.wait(), || "the device raised its line: no signal within ten seconds".into())?;
    Ok(controller.acknowledge()?)
}
