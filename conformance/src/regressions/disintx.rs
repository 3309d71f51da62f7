//! INTx after MSI and MSI-X.

use super::{Place, Regression, ask, must};
use crate::cases::{check, list, need};
use crate::devices::{Stimulus, edu, nvme::Controller};
use crate::eventfd::Eventfd;
use crate::pin::Pinned;
use crate::vfio::{self, COMMAND, COMMAND_INTX_DISABLE, COMMAND_MASTER, COMMAND_MEMORY, Opener};
use crate::{Answer, Index, Request};

/// The number of interrupts of the shared INTx that counts as a storm: the other device's handler
/// disowns each.
const STORM: u64 = 100;

list! {
    pub(super) ALL: Regression = (place: &Place);

    /// MSI-X that is disabled with memory decoding off leaves INTx enabled.
    fn line_works_after_msix {
        // Enables INTx after MSI-X. MSI-X sets DisINTx and clears it again. If a driver restores
        // the whole register, because it has enabled memory decoding for itself, INTx stays
        // disabled.
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
            let off = command & COMMAND_INTX_DISABLE != 0;
            check(!off, || format!("{when}: INTx is disabled, command {command:#06x}"))
        };
        enabled("INTx was enabled")?;
        device.config_write16(COMMAND, COMMAND_MEMORY | COMMAND_MASTER)?;
        enabled("memory decoding was turned on")?;

        let mut controller = Controller::new(device.bar(0)?, opener.dma());
        controller.ready(Index::Intx, 1)?;
        controller.acknowledge()?;
        // The preparation may have raised INTx, which masked it.
        must(&device, &Request::unmask(Index::Intx, 0, 1))?;
        trigger.take();
        controller.raise(Index::Intx, 0)?;
        check(trigger.wait(), || "INTx was raised: no signal within ten seconds".into())?;
        Ok(controller.acknowledge()?)
    }

    /// DisINTx that the guest has set is set after MSI goes off, and after a refused enable.
    fn disintx_survives_msi {
        // Sets DisINTx as the guest would, and disables MSI. The PCI core clears DisINTx when MSI
        // goes off, and when an enable is refused. The guest relies on DisINTx: its device asserts
        // an INTx that another device shares.
        let other = place.other.as_deref().unwrap_or_default();
        need(vfio::is_edu(&place.bdf)? && vfio::is_edu(other)?, "these are not two edu devices")?;
        let [one_irq, other_irq] = [&place.bdf, other].map(|bdf| vfio::attribute(bdf, "irq"));
        need(one_irq? == other_irq?, "the two devices do not share a line")?;
        let openers = [Opener::new(&place.bdf)?, Opener::new(other)?];
        let (device, sharer) = (openers[0].open()?, openers[1].open()?);
        let (trigger, intx) = (Eventfd::new()?, Eventfd::new()?);
        must(&sharer, &Request::attach(Index::Intx, 0, &[intx.number()]))?;
        device.config_write16(COMMAND, COMMAND_MEMORY | COMMAND_INTX_DISABLE)?;
        let is_off = |when: &str| {
            let command = vfio::hardware16(&place.bdf, COMMAND)?;
            let is_set = command & COMMAND_INTX_DISABLE != 0;
            check(is_set, || format!("{when}: COMMAND is {command:#06x}"))
        };
        let refused = ask(&device, &Request::attach(Index::Msi, 0, &[i32::MAX]))?;
        check(refused == Answer::EBADF, || format!("a bad descriptor answered {refused}"))?;
        is_off("an enable was refused")?;
        must(&device, &Request::attach(Index::Msi, 0, &[trigger.number()]))?;
        must(&device, &Request::disable(Index::Msi))?;
        is_off("MSI was disabled")?;
        let handler = format!("vfio-intx({other})");
        let before = vfio::interrupts_of(&handler)?;
        device.bar(0)?.write32(edu::RAISE, 1)?;
        let after = vfio::interrupts_of(&handler)?;
        device.bar(0)?.write32(edu::ACKNOWLEDGE, u32::MAX)?;
        let came = after.saturating_sub(before);
        check(came < STORM, || format!("the shared line interrupted {came} times"))
    }
}
