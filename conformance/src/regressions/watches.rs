//! An eventfd that masks a vector, signalled and closed while its device is busy: what the kernel
//! does then behind user space's back must not wait for what waits for it.
//!
//! The device is kept busy by requests whose bytes are not there: they wait, with whatever the
//! driver holds while it reads, until the page is brought.

use super::{LIMIT, Place, ask, must};
use crate::cases::{Verdict, check, need};
use crate::eventfd::Eventfd;
use crate::sys::Absent;
use crate::vfio::{Device, Opener};
use crate::{Answer, Error, Index, Request, flags};
use std::sync::mpsc;
use std::thread::{self, Scope};
use std::time::Duration;

/// A byte of configuration space that means nothing to the device.
const INTERRUPT_LINE: u64 = 0x3c;

/// Time for what was begun to come to where it waits. Nothing tells when it is there; were this too
/// short, a driver that is broken might pass, but none that is not would fail.
const PAUSE: Duration = Duration::from_millis(200);

/// A device with one vector, and an eventfd that masks it.
struct Watched {
    device: Device,
    trigger: Eventfd,
    watch: Eventfd,
    _opener: Opener,
}

impl Watched {
    fn open(place: &Place) -> Result<Self, crate::cases::Stop> {
        need(place.is_ours()?, "this driver masks no vectors")?;
        let opener = Opener::new(&place.bdf)?;
        let device = opener.open()?;
        let (trigger, watch) = (Eventfd::new()?, Eventfd::new()?);
        must(&device, &Request::attach(Index::Msix, 0, &[trigger.number()]))?;
        must(&device, &Request::fds(flags::MASK, Index::Msix, 0, &[watch.number()]))?;
        Ok(Self { device, trigger, watch, _opener: opener })
    }
}

/// Signals a watch and closes it.
fn fire(watch: Eventfd) -> Result<(), Error> {
    watch.signal()?;
    thread::sleep(PAUSE);
    drop(watch);
    thread::sleep(PAUSE);
    Ok(())
}

/// Begins requests of each kind that reads user space's memory.
fn keep_busy<'s>(scope: &'s Scope<'s, '_>, device: &'s Device, absent: &'s Absent) -> Verdict {
    scope.spawn(|| absent.write_to(device.fd(), device.config_offset() + INTERRUPT_LINE));
    let waits = absent.is_awaited(LIMIT / 2);
    check(waits, || "a write to configuration space does not wait for its byte".into())?;
    scope.spawn(|| absent.set_irqs(device.fd()));
    // It need not come so far while the other waits.
    absent.is_awaited(PAUSE);
    Ok(())
}

/// Requests wait for one another, one of them for watches to be out of use.
pub(super) fn hold_up_no_request(place: &Place) -> Verdict {
    let Watched { device, trigger, watch, _opener } = Watched::open(place)?;
    let absent = Absent::new()?;
    // One after the other where they are not delayed: MSI-X goes, the line comes and goes.
    let waiting = [
        Request::disable(Index::Msix),
        Request::attach(Index::Intx, 0, &[trigger.number()]),
        Request::disable(Index::Intx),
    ];
    thread::scope(|scope| {
        let played = keep_busy(scope, &device, &absent).and_then(|()| {
            for request in &waiting {
                scope.spawn(|| ask(&device, request));
                thread::sleep(PAUSE);
            }
            Ok(fire(watch)?)
        });
        absent.bring()?;
        // The scope waits for all of them, and whoever started this process for the scope.
        played
    })
}

/// Another device turns its line off, which waits for watches to be out of use: not for those of a
/// device that is busy.
pub(super) fn hold_up_no_other_device(place: &Place) -> Verdict {
    let Watched { device, watch, _opener, .. } = Watched::open(place)?;
    need(place.other.is_some(), "there is no other device")?;
    let opener = Opener::new(place.other.as_deref().unwrap_or_default())?;
    let (other, line) = (opener.open()?, Eventfd::new()?);
    must(&other, &Request::attach(Index::Intx, 0, &[line.number()]))?;
    let absent = Absent::new()?;
    let (answers, answered) = mpsc::channel();
    let answer = thread::scope(|scope| {
        let played = keep_busy(scope, &device, &absent).and_then(|()| Ok(fire(watch)?));
        scope.spawn(|| answers.send(ask(&other, &Request::disable(Index::Intx))));
        let answer = answered.recv_timeout(LIMIT / 4);
        absent.bring()?;
        played.map(|()| answer)
    })?;
    let waits = "the other device's line is not disabled while this device is busy";
    let answer = answer.map_err(|_| crate::cases::Stop::Broken(waits.into()))??;
    check(answer == Answer::OK, || format!("disabling the other device's line answered {answer}"))
}
