//! Tests V-06, V-08 and B-01 on a machine without a free interrupt, with interrupts of the device.
//!
//! One processor has about two hundred vectors. Other devices take them all. The device under
//! test then requests more than are left.

use crate::cases::{Outcome, Stage, Stop, Verdict, check};
use crate::devices::Kind;
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

/// One rule that holds while the machine is short of interrupts.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    /// The rule and its aspect, as a name.
    pub name: &'static str,
    /// The rule in a sentence.
    pub proves: &'static str,
    run: fn(&mut Stage<'_>, &mut Others) -> Verdict,
}

/// All shortages, in the order of the rules.
pub const ALL: &[Shortage] = &[
    Shortage {
        name: "v06_none_is_enospc",
        proves: "With no interrupt left enabling is ENOSPC and enables nothing; with one it works.",
        run: none_left,
    },
    Shortage {
        name: "v06_promised_and_not_there_is_enospc",
        proves: "More than there are, found out late: ENOSPC, and all that were got go back.",
        run: fewer_left,
    },
    Shortage {
        name: "v08_none_is_enospc",
        proves: "With no interrupt left adding is ENOSPC; the others go on; with one it works.",
        run: none_to_add,
    },
    Shortage {
        name: "v09_detached_may_lose_its_place",
        proves: "Where a detached vector's interrupt went elsewhere, attaching again is ENOSPC.",
        run: detached,
    },
    Shortage {
        name: "b01_replaces_and_adds_nothing",
        proves: "Six triggers replaced and one vector added, which is not there: nothing happens. \
                 (Linux: all are dead.)",
        run: in_the_middle,
    },
    Shortage {
        name: "b02_needs_no_interrupt",
        proves: "Triggers are replaced with no interrupt left.",
        run: replaced,
    },
];

impl Shortage {
    /// Tries the rule on freshly opened devices, which must release everything when they are
    /// closed. Returns the outcome.
    pub fn try_at(&self, place: &Place) -> Outcome {
        match self.play(place) {
            Ok(()) => Outcome::Held,
            Err(Stop::Broken(why)) => Outcome::Broken(why),
            Err(Stop::NotApplicable(why)) => Outcome::NotApplicable(why),
        }
    }

    fn play(&self, place: &Place) -> Verdict {
        let mut others = Others::open(&place.others, place.core)?;
        let mut target = Kernel::new(&place.bdf, Kind::Nvme, place.core)?;
        (self.run)(&mut Stage::new(&mut target), &mut others)?;
        closed(&mut target)?;
        others.devices.iter_mut().try_for_each(closed)
    }
}

fn closed(target: &mut Kernel) -> Verdict {
    target.close()?;
    let leak = target.leaks();
    check(leak.is_none(), || format!("the closed device still holds: {leak:?}"))
}

const INDEX: Index = Index::Msix;

/// The devices that take every free interrupt.
struct Others {
    devices: Vec<Kernel>,
    /// The attached vectors: index of the device, number of the vector.
    attached: Vec<(usize, u32)>,
}

impl Others {
    fn open(addresses: &[String], core: Core) -> Result<Self, Error> {
        let devices = addresses.iter().map(|bdf| Kernel::new(bdf, Kind::Nvme, core));
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
fn active(stage: &mut Stage<'_>, vectors: u32) -> Result<Vec<i32>, Stop> {
    let fds = stage.fds(vectors)?;
    stage.attach(INDEX, 0, &fds)?;
    stage.ready(INDEX, vectors + 1, &fds)?;
    Ok(fds)
}

/// Raises each vector from 0 on; each must deliver.
fn all_deliver(stage: &mut Stage<'_>, fds: &[i32]) -> Verdict {
    (0..).zip(fds).try_for_each(|(vector, fd)| stage.delivers(INDEX, vector, *fd))
}

fn refused(stage: &mut Stage<'_>, start: u32, fds: &[i32]) -> Verdict {
    stage.expect(&Request::attach(INDEX, start, fds), Answer::ENOSPC)
}

/// Fails unless the index is idle and holds no interrupt.
fn nothing_there(stage: &mut Stage<'_>) -> Verdict {
    stage.idle(INDEX, "after ENOSPC")?;
    let leak = stage.target.leaks();
    check(leak.is_none(), || format!("after ENOSPC the idle device holds: {leak:?}"))
}

fn none_left(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    others.take_all()?;
    let fds = stage.fds(2)?;
    refused(stage, 0, fds.get(..1).unwrap_or_default())?;
    nothing_there(stage)?;
    refused(stage, 0, &fds)?;
    nothing_there(stage)?;
    others.give_back(2)?;
    stage.ok(&Request::attach(INDEX, 0, &fds))?;
    stage.ready(INDEX, 2, &fds)?;
    all_deliver(stage, &fds)
}

fn fewer_left(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    others.take_all()?;
    others.give_back(3)?;
    let fds = stage.fds(6)?;
    refused(stage, 0, &fds)?;
    nothing_there(stage)?;
    let few = fds.get(..3).unwrap_or_default();
    stage.ok(&Request::attach(INDEX, 0, few))?;
    stage.ready(INDEX, 3, few)?;
    all_deliver(stage, few)
}

fn none_to_add(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    let mut fds = active(stage, 6)?;
    others.take_all()?;
    let (interrupts, allocated) = (stage.target.interrupts(), stage.target.allocated());
    let more = stage.fd()?;
    refused(stage, 6, &[more])?;
    let after = stage.target.interrupts();
    check(interrupts == after, || format!("interrupts before {interrupts:?}, after {after:?}"))?;
    // Linux keeps its allocation for the vector that failed.
    let kept = stage.target.allocated();
    let expected = allocated.map(|before| before + usize::from(!stage.beyond()));
    check(kept == expected, || format!("allocated {allocated:?}, then {kept:?}"))?;
    all_deliver(stage, &fds)?;
    others.give_back(1)?;
    stage.ok(&Request::attach(INDEX, 6, &[more]))?;
    fds.push(more);
    all_deliver(stage, &fds)
}

fn detached(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    let fds = active(stage, 2)?;
    others.take_all()?;
    stage.ok(&Request::attach(INDEX, 1, &[-1]))?;
    others.take_all()?;
    let (second, still) = (fds.get(1..).unwrap_or_default(), fds.get(..1).unwrap_or_default());
    refused(stage, 1, second)?;
    all_deliver(stage, still)?;
    others.give_back(1)?;
    stage.ok(&Request::attach(INDEX, 1, second))?;
    all_deliver(stage, &fds)
}

fn in_the_middle(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    let fds = active(stage, 6)?;
    others.take_all()?;
    let interrupts = stage.target.interrupts();
    let new = stage.fds(7)?;
    refused(stage, 0, &new)?;
    if stage.beyond() {
        let after = stage.target.interrupts();
        check(interrupts == after, || format!("interrupts {interrupts:?}, then {after:?}"))?;
        all_deliver(stage, &fds)?;
    } else {
        let after = stage.target.handlers();
        check(after == Some(Vec::new()), || format!("Linux left handlers: {after:?}"))?;
    }
    others.give_back(1)?;
    stage.ok(&Request::attach(INDEX, 0, &new))?;
    all_deliver(stage, &new)
}

fn replaced(stage: &mut Stage<'_>, others: &mut Others) -> Verdict {
    let fds = active(stage, 6)?;
    others.take_all()?;
    all_deliver(stage, &fds)?;
    let new = stage.fds(6)?;
    stage.ok(&Request::attach(INDEX, 0, &new))?;
    all_deliver(stage, &new)
}
