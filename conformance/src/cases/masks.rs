//! Masking vectors: rules V-01 and B-03. Linux has none of it, and says so.

use super::stage::{CLOSED, check, need};
use super::{Stage, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const MASKS: [u32; 2] = [flags::MASK, flags::UNMASK];

/// Every form of MASK and UNMASK of one vector.
fn forms(stage: &mut Stage<'_>, index: Index) -> Result<Vec<Request>, super::Stop> {
    let fds = stage.fds(2)?;
    let of = |(action, fd): (&u32, &i32)| {
        [
            Request::none(*action, index, 0, 1),
            Request::bools(*action, index, 0, &[1]),
            Request::fds(*action, index, 0, &[*fd]),
            Request::fds(*action, index, 0, &[-1]),
        ]
    };
    Ok(MASKS.iter().zip(&fds).flat_map(of).collect())
}

/// Plays where vectors can be masked and two of them raised, both attached and ready; where there
/// is but one vector it is its own witness.
fn each_raised(
    stage: &mut Stage<'_>,
    mut play: impl FnMut(&mut Stage<'_>, Index, &[i32]) -> Verdict,
) -> Verdict {
    stage.each(1, |stage, index, count| {
        need(stage.maskable(index)?, "vectors cannot be masked")?;
        let vectors = stage.target.reach(index).min(count).min(2);
        need(vectors > 0, "nothing raises this index here")?;
        let fds = stage.fds(vectors)?;
        stage.attach(index, 0, &fds)?;
        stage.ready(index, vectors, &fds)?;
        play(stage, index, &fds)
    })
}

/// The last vector and its eventfd, whose signals tell that another's would have come.
fn witness(fds: &[i32]) -> (u32, i32) {
    (u32::from(fds.len() > 1), fds.last().copied().unwrap_or(-1))
}

/// Vector 0 must hold two interrupts and signal once when it is opened by `open`.
fn held_until(
    stage: &mut Stage<'_>,
    index: Index,
    fds: &[i32],
    open: impl FnOnce(&mut Stage<'_>) -> Verdict,
) -> Verdict {
    let fd = fds.first().copied().unwrap_or(-1);
    stage.holds(index, 0, fd, witness(fds))?;
    stage.holds(index, 0, fd, witness(fds))?;
    open(stage)?;
    stage.arrives(fd, "vector 0 was unmasked")?;
    stage.delivers(index, 0, fd)
}

cases! {
    /// Where vectors cannot be masked, MASK and UNMASK are ENOTTY, idle and active. In Linux they
    /// cannot.
    fn v01_unmaskable_is_enotty(stage) {
        stage.each(1, |stage, index, _| {
            need(!stage.maskable(index)?, "vectors can be masked")?;
            let forms = forms(stage, index)?;
            forms.iter().try_for_each(|form| stage.expect(form, Answer::ENOTTY))?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            forms.iter().try_for_each(|form| stage.expect(form, Answer::ENOTTY))?;
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// MASK and UNMASK are EINVAL while the index is idle.
    fn b03_idle_is_einval(stage) {
        stage.each(1, |stage, index, _| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let forms = forms(stage, index)?;
            forms.iter().try_for_each(|form| stage.expect(form, Answer::EINVAL))
        })
    }

    /// Every form of MASK and UNMASK is fine while the index is active, also of vectors that are
    /// not attached, and of none.
    fn b03_active_is_fine(stage) {
        stage.each(2, |stage, index, count| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let fd = stage.fd()?;
            stage.attach(index, 1, &[fd])?;
            let forms = forms(stage, index)?;
            forms.iter().try_for_each(|form| stage.ok(form))?;
            for action in MASKS {
                stage.ok(&Request::none(action, index, 0, count))?;
                stage.ok(&Request::none(action, index, count - 1, 1))?;
                stage.ok(&Request::none(action, index, 1, 0))?;
                stage.ok(&Request::bools(action, index, 1, &[]))?;
                stage.ok(&Request::fds(action, index, 1, &[]))?;
            }
            stage.loops_to(index, 1, &[fd], &[])
        })
    }

    /// An interrupt that arrives while masked is held, and signalled once at unmask.
    fn b03_held_and_signalled_once(stage) {
        each_raised(stage, |stage, index, fds| {
            for _ in 0..3 {
                stage.ok(&Request::mask(index, 0, 1))?;
                held_until(stage, index, fds, |stage| stage.ok(&Request::unmask(index, 0, 1)))?;
            }
            Ok(())
        })
    }

    /// BOOL masks and unmasks the vectors whose byte is not zero.
    fn b03_bools_choose(stage) {
        each_raised(stage, |stage, index, fds| {
            stage.ok(&Request::bools(flags::MASK, index, 0, &[0]))?;
            stage.delivers(index, 0, fds.first().copied().unwrap_or(-1))?;
            stage.ok(&Request::bools(flags::MASK, index, 0, &[255]))?;
            stage.ok(&Request::bools(flags::UNMASK, index, 0, &[0]))?;
            let open = Request::bools(flags::UNMASK, index, 0, &[1]);
            held_until(stage, index, fds, |stage| stage.ok(&open))
        })
    }

    /// A vector may be masked before it is attached.
    fn b03_masked_before_attached(stage) {
        each_raised(stage, |stage, index, fds| {
            let fd = fds.first().copied().unwrap_or(-1);
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.ok(&Request::attach(index, 0, &[fd]))?;
            held_until(stage, index, fds, |stage| stage.ok(&Request::unmask(index, 0, 1)))
        })
    }

    /// A masked vector stays masked when it is detached and attached again.
    fn b03_stays_masked_when_detached(stage) {
        each_raised(stage, |stage, index, fds| {
            let fd = fds.first().copied().unwrap_or(-1);
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            stage.ok(&Request::attach(index, 0, &[fd]))?;
            held_until(stage, index, fds, |stage| stage.ok(&Request::unmask(index, 0, 1)))
        })
    }

    /// A masked vector stays masked when its trigger is replaced, and what it held is signalled
    /// on the new one.
    fn b03_stays_masked_when_retargeted(stage) {
        each_raised(stage, |stage, index, fds| {
            let (old, new) = (fds.first().copied().unwrap_or(-1), stage.fd()?);
            let mut now = fds.to_vec();
            if let Some(first) = now.first_mut() {
                *first = new;
            }
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.holds(index, 0, old, witness(fds))?;
            stage.ok(&Request::attach(index, 0, &[new]))?;
            held_until(stage, index, &now, |stage| stage.ok(&Request::unmask(index, 0, 1)))?;
            stage.signalled(old, 0, "the old trigger")
        })
    }

    /// Disabling the index clears masks.
    fn b03_disable_clears_masks(stage) {
        each_raised(stage, |stage, index, fds| {
            let fd = fds.first().copied().unwrap_or(-1);
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.ok(&Request::disable(index))?;
            stage.attach(index, 0, fds)?;
            let vectors = u32::try_from(fds.len()).unwrap_or(1);
            stage.ready(index, vectors, fds)?;
            stage.delivers(index, 0, fd)
        })
    }

    /// Masking one vector leaves the others alone.
    fn b03_others_go_on(stage) {
        each_raised(stage, |stage, index, fds| {
            need(fds.len() > 1, "there is one vector only")?;
            let (vector, fd) = witness(fds);
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.delivers(index, vector, fd)?;
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.delivers(index, vector, fd)
        })
    }

    /// An eventfd that is armed for UNMASK opens the vector when it is signalled.
    fn b03_eventfd_unmasks(stage) {
        each_raised(stage, |stage, index, fds| {
            let watch = stage.fd()?;
            stage.ok(&Request::fds(flags::UNMASK, index, 0, &[watch]))?;
            for _ in 0..3 {
                stage.ok(&Request::mask(index, 0, 1))?;
                held_until(stage, index, fds, |stage| Ok(stage.target.signal(watch)?))?;
            }
            Ok(())
        })
    }

    /// An eventfd that is armed for MASK closes the vector when it is signalled.
    fn b03_eventfd_masks(stage) {
        each_raised(stage, |stage, index, fds| {
            let (watch, fd) = (stage.fd()?, fds.first().copied().unwrap_or(-1));
            stage.ok(&Request::fds(flags::MASK, index, 0, &[watch]))?;
            stage.delivers(index, 0, fd)?;
            stage.target.signal(watch)?;
            // It acts in its own time; until then interrupts come through.
            let mut tries = 0..1000;
            while tries.next().is_some() && stage.holds(index, 0, fd, witness(fds)).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(1));
                stage.target.signals(fd)?;
            }
            check(!tries.is_empty(), || "the armed eventfd does not mask".into())?;
            held_until(stage, index, fds, |stage| stage.ok(&Request::unmask(index, 0, 1)))
        })
    }

    /// Of two eventfds that are signalled one right after the other, the later one holds.
    fn b03_the_later_eventfd_holds(stage) {
        each_raised(stage, |stage, index, fds| {
            let (mask, unmask) = (stage.fd()?, stage.fd()?);
            let fd = fds.first().copied().unwrap_or(-1);
            stage.ok(&Request::fds(flags::MASK, index, 0, &[mask]))?;
            stage.ok(&Request::fds(flags::UNMASK, index, 0, &[unmask]))?;
            for _ in 0..50 {
                stage.target.signal(mask)?;
                stage.target.signal(unmask)?;
                stage.delivers(index, 0, fd)?;
            }
            Ok(())
        })
    }

    /// An eventfd that was disarmed does nothing.
    fn b03_disarmed_does_nothing(stage) {
        each_raised(stage, |stage, index, fds| {
            let (watch, fd) = (stage.fd()?, fds.first().copied().unwrap_or(-1));
            stage.ok(&Request::fds(flags::UNMASK, index, 0, &[watch]))?;
            stage.ok(&Request::fds(flags::UNMASK, index, 0, &[-1]))?;
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.target.signal(watch)?;
            stage.holds(index, 0, fd, witness(fds))
        })
    }

    /// One eventfd for each of MASK and UNMASK can be armed; a second is EBUSY, and changes nothing.
    fn b03_second_is_ebusy(stage) {
        stage.each(2, |stage, index, _| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let fds = stage.fds(4)?;
            let [target, first, second, third] = fds[..] else { return Ok(()) };
            stage.attach(index, 0, &[target])?;
            for action in MASKS {
                stage.ok(&Request::fds(action, index, 1, &[first]))?;
                stage.expect(&Request::fds(action, index, 1, &[second]), Answer::EBUSY)?;
                stage.expect(&Request::fds(action, index, 0, &[third, second]), Answer::EBUSY)?;
                // Vector 0 was not armed by the request that failed at vector 1.
                stage.ok(&Request::fds(action, index, 0, &[second]))?;
                stage.ok(&Request::fds(action, index, 0, &[-1, -1]))?;
            }
            stage.loops_to(index, 0, &[target], &[])
        })
    }

    /// Arming a closed descriptor is EBADF, one that is no eventfd EINVAL; nothing is armed.
    fn b03_bad_descriptors(stage) {
        stage.each(2, |stage, index, _| {
            let other = stage.target.other_file()?;
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let (target, watch) = (stage.fd()?, stage.fd()?);
            stage.attach(index, 0, &[target])?;
            for (action, (bad, expected)) in MASKS.into_iter().flat_map(|action| {
                [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)].map(|bad| (action, bad))
            }) {
                stage.expect(&Request::fds(action, index, 0, &[watch, bad]), expected)?;
                stage.ok(&Request::fds(action, index, 0, &[watch]))?;
                stage.ok(&Request::fds(action, index, 0, &[-1]))?;
            }
            Ok(())
        })
    }

    /// Loopback signals a masked vector too.
    fn b03_loopback_ignores_masks(stage) {
        stage.each(1, |stage, index, _| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            stage.ok(&Request::mask(index, 0, 1))?;
            stage.loops_to(index, 0, &[fd], &[])?;
            stage.ok(&Request::unmask(index, 0, 1))?;
            stage.signalled(fd, 0, "unmasked with nothing held")
        })
    }

    /// While another index is active, MASK and UNMASK are EINVAL.
    fn b03_other_index_is_einval(stage) {
        stage.each(1, |stage, index, _| {
            let other = if index == Index::Msi { Index::Msix } else { Index::Msi };
            need(stage.info(other)?.count > 0 && stage.maskable(other)?, "no second index")?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            let forms = forms(stage, other)?;
            forms.iter().try_for_each(|form| stage.expect(form, Answer::EINVAL))
        })
    }
}
