//! Tests hidden resets: they clear configuration space and the MSI-X table, and the kernel does not
//! see it. The tests write to the device itself, past VFIO.

use super::{Place, Regression, ask, must};
use crate::cases::{check, list, need};
use crate::devices::{Stimulus, nvme::Controller};
use crate::eventfd::Eventfd;
use crate::pin::Pinned;
use crate::vfio::{self, COMMAND, COMMAND_MEMORY, Opener};
use crate::{Answer, Index, Request};

const BAR0: u64 = 0x10;

/// How often the entry is cleared and repaired while the interrupt's affinity changes.
const REPAIRS: u32 = 150;

list! {
    pub(super) ALL: Regression = (place: &Place);

    /// COMMAND and BARs that a hidden reset cleared stay cleared through every request.
    fn command_stays_as_found {
        // Clears COMMAND and BAR 0, and sends requests. A request enables memory decoding for
        // itself; afterwards the device must not decode address zero.
        let device = Opener::new(&place.bdf)?.open()?;
        let (one, other) = (Eventfd::new()?, Eventfd::new()?);
        must(&device, &Request::attach(Index::Msix, 0, &[one.number(), one.number()]))?;
        for (at, value) in [(COMMAND, 0), (BAR0, 0), (BAR0 + 2, 0)] {
            vfio::set_hardware16(&place.bdf, at, value)?;
        }
        let requests = [
            Request::attach(Index::Msix, 0, &[other.number()]),
            Request::attach(Index::Msix, 0, &[other.number()]),
            Request::attach(Index::Msix, 5, &[one.number()]),
            Request::mask(Index::Msix, 0, 1),
            Request::unmask(Index::Msix, 0, 1),
            Request::attach(Index::Msix, 1, &[-1]),
            Request::attach(Index::Msix, 1, &[one.number()]),
            Request::attach(Index::Msix, 0, &[other.number(), i32::MAX]),
            Request::disable(Index::Msix),
        ];
        for request in requests {
            // The core in C refuses masks, and both cores refuse the request with a bad descriptor.
            ask(&device, &request)?;
            let [command, low] = [COMMAND, BAR0].map(|at| vfio::hardware16(&place.bdf, at));
            let (command, low) = (command?, low?);
            let cleared = command & COMMAND_MEMORY == 0 && low & !0xf == 0;
            check(cleared, || format!("{request}: COMMAND is {command:#06x}, BAR 0 {low:#06x}"))?;
        }
        // The reset restores both registers.
        device.reset()?;
        Ok(())
    }

    /// Attaching again writes the table entry also where the entry cannot be read.
    fn unreadable_entry_is_repaired {
        // Disables memory decoding, so that the table reads as all ones. Attaching the same eventfd
        // again must write the entry nevertheless.
        let _pinned = Pinned::new()?;
        let opener = Opener::new(&place.bdf)?;
        let device = opener.open()?;
        let trigger = Eventfd::new()?;
        let attach = Request::attach(Index::Msix, 0, &[trigger.number()]);
        must(&device, &attach)?;
        let mut controller = Controller::new(device.bar(0)?, opener.dma());
        controller.ready(Index::Msix, 1)?;
        controller.raise(Index::Msix, 0)?;
        check(trigger.wait(), || "no interrupt arrives at first".into())?;

        device.forget_message(0)?;
        let command = vfio::hardware16(&place.bdf, COMMAND)?;
        vfio::set_hardware16(&place.bdf, COMMAND, command & !COMMAND_MEMORY)?;
        must(&device, &attach)?;
        vfio::set_hardware16(&place.bdf, COMMAND, command)?;
        trigger.take();
        controller.raise(Index::Msix, 0)?;
        check(trigger.wait(), || "attached again: no interrupt arrives within ten seconds".into())
    }

    /// MSI vectors that are attached keep their message when the first one goes.
    fn msi_keeps_its_message {
        // Linux clears the message of MSI when the first vector loses its handler, and the function
        // has one message for all vectors. A refused request, or a detach of that vector, must
        // leave it to the others.
        need(crate::target::Core::loaded() == crate::target::Core::Rust, "the core in C loses it")?;
        let device = Opener::new(&place.bdf)?.open()?;
        need(device.facts()?.msi >= 4, "the device has no four vectors of MSI")?;
        let message = device.msi_message()?.unwrap_or_default();
        let eventfd = Eventfd::new()?;
        let trigger = eventfd.number();
        must(&device, &Request::attach(Index::Msi, 1, &[trigger; 3]))?;
        let before = vfio::hardware16(&place.bdf, message + 2)?;
        check(before != 0, || "the function has no message at first".into())?;
        let kept = |when: &str| {
            let now = vfio::hardware16(&place.bdf, message + 2)?;
            let lost = || format!("{when}: the address is {now:#06x}.., not {before:#06x}..");
            check(now == before, lost)
        };
        let refused = ask(&device, &Request::attach(Index::Msi, 0, &[trigger, i32::MAX]))?;
        check(refused == Answer::EBADF, || format!("a bad descriptor answered {refused}"))?;
        kept("a request for the first vector was refused")?;
        must(&device, &Request::attach(Index::Msi, 0, &[trigger]))?;
        must(&device, &Request::attach(Index::Msi, 0, &[-1]))?;
        kept("the first vector was detached")?;
        // A reset that the kernel does not see.
        vfio::set_hardware16(&place.bdf, message, 0)?;
        vfio::set_hardware16(&place.bdf, message + 2, 0)?;
        must(&device, &Request::attach(Index::Msi, 1, &[trigger]))?;
        kept("a vector was attached again after a hidden reset")
    }

    /// A repair does not undo a change of affinity that comes in between.
    fn repair_keeps_affinity {
        // Changes the affinity during repairs. Without interrupt remapping, a change of affinity
        // writes another message. A repair must not restore the message before the change.
        let opener = Opener::new(&place.bdf)?;
        let device = opener.open()?;
        let trigger = Eventfd::new()?;
        let attach = Request::attach(Index::Msix, 0, &[trigger.number()]);
        must(&device, &attach)?;
        let handler = format!("vfio-msix[0]({})", place.bdf);
        let irq = vfio::irq_of(&handler)?.unwrap_or_default();
        let affinity = format!("/proc/irq/{irq}/smp_affinity_list");
        need(std::fs::write(&affinity, "1").is_ok(), "the machine has one processor")?;
        let mut controller = Controller::new(device.bar(0)?, opener.dma());
        controller.ready(Index::Msix, 1)?;
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for processor in ["0", "1"].iter().cycle() {
                    // A change that arrives during another one is refused, which is harmless.
                    let _ = std::fs::write(&affinity, processor);
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let held = (0..REPAIRS).try_for_each(|round| {
                device.forget_message(0)?;
                must(&device, &attach).map_err(|stop| stop.at(&format!("round {round}")))?;
                trigger.take();
                controller.raise(Index::Msix, 0)?;
                check(trigger.wait(), || format!("round {round}: the interrupt went elsewhere"))
            });
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            held
        })
    }
}
