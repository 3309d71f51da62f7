//! Tests V-06, V-08 and B-01 on a machine without a free interrupt, with interrupts of the device.
//!
//! One processor has about two hundred vectors. Other devices take them all. The device under
//! test then requests more than are left.

use crate::cases::{Case, Dut, Outcome, Stop, Verdict, check, list, same};
use crate::target::{Core, Kernel, Target};
use crate::{Answer, Error, Index, Request};

/// The device under test, and other devices that take the machine's interrupts.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address of an NVMe controller that is bound to a VFIO driver.
    pub bdf: String,
    /// Addresses of other NVMe controllers that are bound to a VFIO driver. Together they have more
    /// vectors than the machine.
    pub others: Vec<String>,
    /// The core whose answers to expect.
    pub core: Core,
}

impl Case<Exhaustion> {
    /// Tries the rule on freshly opened devices, which must release everything when they are
    /// closed. Returns the outcome.
    pub fn try_at(&self, place: &Place) -> Outcome {
        let tried = || {
            let mut others = Others::open(&place.others, place.core)?;
            let mut target = Kernel::new(&place.bdf, place.core)?;
            (self.run)(&mut Dut::new(&mut target), &mut others)?;
            Dut::new(&mut target).close()?;
            others.devices.iter_mut().try_for_each(|device| Dut::new(device).close())
        };
        tried().into()
    }
}

/// A rule that is tried on the device under test while the others hold the machine's interrupts.
pub type Exhaustion = fn(&mut Dut<'_>, &mut Others) -> Verdict;

const INDEX: Index = Index::Msix;

/// The devices that take every free interrupt.
pub struct Others {
    devices: Vec<Kernel>,
    /// The attached vectors: index of the device, number of the vector.
    attached: Vec<(usize, u32)>,
}

impl Others {
    fn open(addresses: &[String], core: Core) -> Result<Self, Error> {
        let devices = addresses.iter().map(|bdf| Kernel::new(bdf, core));
        Ok(Self { devices: devices.collect::<Result<_, _>>()?, attached: Vec::new() })
    }

    /// Attaches vectors until no interrupt is left.
    fn take_all(&mut self) -> Verdict {
        for (at, device) in self.devices.iter_mut().enumerate() {
            for vector in 0..device.facts().msix {
                if self.attached.contains(&(at, vector)) {
                    continue;
                }
                let fd = device.eventfd()?;
                match device.set_irqs(&Request::attach(INDEX, vector, &[fd]).bytes())? {
                    Answer::OK => self.attached.push((at, vector)),
                    Answer::ENOSPC => return Ok(()),
                    answer => {
                        let why = format!("taking vector {vector} of device {at}: {answer}");
                        return Err(Stop::Broken(why));
                    }
                }
            }
        }
        let taken = self.attached.len();
        Err(Stop::Broken(format!("the machine still has interrupts after {taken} were taken")))
    }

    /// Detaches `vectors` vectors and so releases their interrupts.
    fn give_back(&mut self, vectors: usize) -> Verdict {
        for _ in 0..vectors {
            let none = || Stop::Broken("the others have nothing to give back".into());
            let (at, vector) = self.attached.pop().ok_or_else(none)?;
            let device = self.devices.get_mut(at).ok_or_else(none)?;
            let answer = device.set_irqs(&Request::attach(INDEX, vector, &[-1]).bytes())?;
            check(answer == Answer::OK, || format!("giving an interrupt back: {answer}"))?;
        }
        Ok(())
    }
}

/// Attaches eventfds to `vectors` vectors from 0 on, and prepares the device to raise one more.
/// Returns the eventfds.
fn active(dut: &mut Dut<'_>, vectors: u32) -> Result<Vec<i32>, Stop> {
    let fds = dut.many_fds(vectors)?;
    dut.attach(INDEX, 0, &fds)?;
    dut.ready(INDEX, vectors + 1, &fds)?;
    Ok(fds)
}

/// Raises each vector from 0 on; each must deliver.
fn all_deliver(dut: &mut Dut<'_>, fds: &[i32]) -> Verdict {
    (0..).zip(fds).try_for_each(|(vector, fd)| dut.delivers(INDEX, vector, *fd))
}

fn refused(dut: &mut Dut<'_>, start: u32, fds: &[i32]) -> Verdict {
    dut.expect(&Request::attach(INDEX, start, fds), Answer::ENOSPC)
}

/// Fails unless the index is idle and holds no interrupt.
fn nothing_there(dut: &mut Dut<'_>) -> Verdict {
    dut.idle(INDEX, "after ENOSPC")?;
    let leak = dut.target.leaks();
    check(leak.is_none(), || format!("after ENOSPC the idle device holds: {leak:?}"))
}

list! {
    pub ALL: Exhaustion = (dut: &mut Dut<'_>, others: &mut Others);

    /// With no interrupt left enabling is ENOSPC and enables nothing; with one it works.
    fn v06_none_is_enospc {
        others.take_all()?;
        let fds: [_; 2] = dut.fds()?;
        refused(dut, 0, &fds[..1])?;
        nothing_there(dut)?;
        refused(dut, 0, &fds)?;
        nothing_there(dut)?;
        others.give_back(2)?;
        dut.ok(&Request::attach(INDEX, 0, &fds))?;
        dut.ready(INDEX, 2, &fds)?;
        all_deliver(dut, &fds)
    }

    /// More than there are, found out late: ENOSPC, and all that were got go back.
    fn v06_promised_and_not_there_is_enospc {
        others.take_all()?;
        others.give_back(3)?;
        let fds: [_; 6] = dut.fds()?;
        refused(dut, 0, &fds)?;
        nothing_there(dut)?;
        let few = &fds[..3];
        dut.ok(&Request::attach(INDEX, 0, few))?;
        dut.ready(INDEX, 3, few)?;
        all_deliver(dut, few)
    }

    /// With no interrupt left adding is ENOSPC; the others go on; with one it works.
    fn v08_none_is_enospc {
        let mut fds = active(dut, 6)?;
        others.take_all()?;
        let (interrupts, allocated) = (dut.target.interrupts(), dut.target.allocated());
        let more = dut.fd()?;
        refused(dut, 6, &[more])?;
        let after = dut.target.interrupts();
        same("interrupts", &interrupts, &after)?;
        // Linux keeps its allocation for the vector that failed.
        let kept = dut.target.allocated();
        let expected = allocated.map(|before| before + usize::from(!dut.beyond()));
        check(kept == expected, || format!("allocated {allocated:?}, then {kept:?}"))?;
        all_deliver(dut, &fds)?;
        others.give_back(1)?;
        dut.ok(&Request::attach(INDEX, 6, &[more]))?;
        fds.push(more);
        all_deliver(dut, &fds)
    }

    /// Where a detached vector's interrupt went elsewhere, attaching again is ENOSPC.
    fn v09_detached_may_lose_its_place {
        let fds = active(dut, 2)?;
        others.take_all()?;
        dut.ok(&Request::attach(INDEX, 1, &[-1]))?;
        others.take_all()?;
        let (still, second) = fds.split_at(1);
        refused(dut, 1, second)?;
        all_deliver(dut, still)?;
        others.give_back(1)?;
        dut.ok(&Request::attach(INDEX, 1, second))?;
        all_deliver(dut, &fds)
    }

    /// Six triggers replaced and one vector added, which is not there: nothing happens. (Linux:
    /// all are dead.)
    fn b01_replaces_and_adds_nothing {
        let fds = active(dut, 6)?;
        others.take_all()?;
        let interrupts = dut.target.interrupts();
        let new: [_; 7] = dut.fds()?;
        refused(dut, 0, &new)?;
        if dut.beyond() {
            let after = dut.target.interrupts();
            same("interrupts", &interrupts, &after)?;
            all_deliver(dut, &fds)?;
        } else {
            let after = dut.target.handlers();
            check(after == Some(Vec::new()), || format!("Linux left handlers: {after:?}"))?;
        }
        others.give_back(1)?;
        dut.ok(&Request::attach(INDEX, 0, &new))?;
        all_deliver(dut, &new)
    }

    /// Triggers are replaced with no interrupt left.
    fn b02_needs_no_interrupt {
        let fds = active(dut, 6)?;
        others.take_all()?;
        all_deliver(dut, &fds)?;
        let new: [_; 6] = dut.fds()?;
        dut.ok(&Request::attach(INDEX, 0, &new))?;
        all_deliver(dut, &new)
    }
}
