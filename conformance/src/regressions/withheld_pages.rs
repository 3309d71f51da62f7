//! Tests requests that wait for user space's memory, and resample eventfds. Neither may delay
//! another request.
//!
//! User space can withhold a page indefinitely (userfaultfd, FUSE). A core that reads the page
//! with a lock held blocks every other user of that lock.

use super::{LIMIT, Place, Regression, ask, must};
use crate::cases::{Stop, Verdict, check, list, need};
use crate::eventfd::Eventfd;
use crate::sys::{Absent, GuardedBytes};
use crate::vfio::{Device, Opener};
use crate::{Answer, Error, Index, Request, flags, requests};
use std::sync::mpsc;
use std::thread::{self, Scope};
use std::time::Duration;

/// A byte of configuration space without meaning for the device.
const INTERRUPT_LINE: u64 = 0x3c;

/// Time for the kernel's work behind an eventfd to reach the point where it would block. No event
/// reports that. If the pause is too short, a broken core may pass; a correct core never fails.
const PAUSE: Duration = Duration::from_millis(200);

/// The absent pages for which the requests of one device wait.
struct Withheld {
    config: Absent,
    header: Absent,
    data: Absent,
}

impl Withheld {
    fn new() -> Result<Self, Error> {
        let header = Request::bools(flags::TRIGGER, Index::Msix, 0, &[0]);
        let header = Request { data: Vec::new(), ..header }.bytes();
        Ok(Self {
            config: Absent::after(&[])?,
            header: Absent::after(&[])?,
            data: Absent::after(&header)?,
        })
    }

    /// Starts a write to configuration space and two SET_IRQS. Returns when all three wait. The
    /// second SET_IRQS has its header, and waits for its data only.
    fn keep_busy<'s>(&'s self, scope: &'s Scope<'s, '_>, device: &'s Device) -> Verdict {
        let at = device.config_offset() + INTERRUPT_LINE;
        scope.spawn(move || self.config.write_to(device.fd(), at));
        scope.spawn(|| self.header.set_irqs(device.fd()));
        scope.spawn(|| self.data.set_irqs(device.fd()));
        for (page, what) in [
            (&self.config, "a write to configuration space does not wait for its byte"),
            (&self.header, "SET_IRQS does not wait for its header"),
            (&self.data, "SET_IRQS does not wait for its data"),
        ] {
            check(page.is_awaited(LIMIT / 6), || what.into())?;
        }
        Ok(())
    }

    fn bring(&self) -> Result<(), Error> {
        [&self.config, &self.header, &self.data].into_iter().try_for_each(Absent::bring)
    }
}

/// Runs `meanwhile` in a thread while the requests of `device` wait. Fails if it does not end in
/// time, but only after the pages are present, so that every waiting thread ends.
fn while_busy(device: &Device, what: &str, meanwhile: impl FnOnce() -> Verdict + Send) -> Verdict {
    let withheld = Withheld::new()?;
    let (verdicts, verdict) = mpsc::channel();
    let verdict = thread::scope(|scope| {
        let busy = withheld.keep_busy(scope, device);
        if busy.is_ok() {
            scope.spawn(|| verdicts.send(meanwhile()));
        }
        let verdict = busy.map(|()| verdict.recv_timeout(LIMIT / 6));
        withheld.bring()?;
        verdict
    })?;
    verdict.map_err(|_| Stop::Broken(format!("{what} waits for a page that is withheld")))?
}

fn other(place: &Place) -> Result<Opener, Stop> {
    need(place.other.is_some(), "there is no other device")?;
    Ok(Opener::new(place.other.as_deref().unwrap_or_default())?)
}

fn info(device: &Device) -> Verdict {
    let mut asked = GuardedBytes::with(&requests::ask(Index::Msix.raw()).to_bytes())?;
    let answer = asked.get_irq_info(device.fd());
    check(answer == Answer::OK, || format!("GET_IRQ_INFO answered {answer}"))
}

list! {
    pub(super) ALL: Regression = (place: &Place);

    /// GET_IRQ_INFO is answered while other requests wait for user space's memory.
    fn withheld_page_holds_up_no_info {
        // Asks GET_IRQ_INFO of the device while its requests wait.
        let (opener, trigger) = (Opener::new(&place.bdf)?, Eventfd::new()?);
        let device = opener.open()?;
        must(&device, &Request::attach(Index::Msix, 0, &[trigger.number()]))?;
        while_busy(&device, "GET_IRQ_INFO of the same device", || info(&device))
    }

    /// Other devices are answered while requests wait for user space's memory.
    fn withheld_page_holds_up_no_other_device {
        // Sends every kind of request to another device while the requests of this one wait.
        let (opener, others) = (Opener::new(&place.bdf)?, other(place)?);
        let (device, other) = (opener.open()?, others.open()?);
        let (trigger, line) = (Eventfd::new()?, Eventfd::new()?);
        must(&device, &Request::attach(Index::Msix, 0, &[trigger.number()]))?;
        while_busy(&device, "another device", || {
            info(&other)?;
            other.config_write16(INTERRUPT_LINE, 0)?;
            for request in [
                Request::attach(Index::Req, 0, &[line.number()]),
                Request::attach(Index::Msix, 0, &[line.number()]),
                Request::loopback(Index::Msix, 0, 1),
                Request::attach(Index::Msix, 0, &[trigger.number()]),
                Request::attach(Index::Msix, 0, &[-1]),
                Request::disable(Index::Msix),
                Request::attach(Index::Intx, 0, &[line.number()]),
                Request::mask(Index::Intx, 0, 1),
                Request::unmask(Index::Intx, 0, 1),
                Request::disable(Index::Intx),
            ] {
                must(&other, &request)?;
            }
            Ok(())
        })
    }

    /// A resample eventfd that is signalled and closed while its device is busy delays no INTx that
    /// is disabled.
    fn fired_resample_holds_up_no_disable {
        // Disables INTx of a device. That waits for the work of resample eventfds, whose thread is
        // shared by all devices. It must not wait for a busy device whose resample eventfd was
        // signalled and closed.
        let (opener, others) = (Opener::new(&place.bdf)?, other(place)?);
        let (device, other) = (opener.open()?, others.open()?);
        let (trigger, line, resample) = (Eventfd::new()?, Eventfd::new()?, Eventfd::new()?);
        must(&other, &Request::attach(Index::Intx, 0, &[line.number()]))?;
        must(&device, &Request::attach(Index::Intx, 0, &[trigger.number()]))?;
        must(&device, &Request::fds(flags::UNMASK, Index::Intx, 0, &[resample.number()]))?;
        must(&device, &Request::mask(Index::Intx, 0, 1))?;
        while_busy(&device, "another device's INTx that is disabled", || {
            resample.signal()?;
            thread::sleep(PAUSE);
            drop(resample);
            thread::sleep(PAUSE);
            must(&other, &Request::disable(Index::Intx))
        })?;
        // The busy device itself is not blocked forever.
        let answer = ask(&device, &Request::disable(Index::Intx))?;
        check(answer == Answer::OK, || format!("disabling its own INTx answered {answer}"))
    }
}
