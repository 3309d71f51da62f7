//! Masking vectors: rules V-01 and B-03. Linux cannot mask vectors, and answers ENOTTY.

use super::dut::{CLOSED, need, same};
use super::{Dut, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const MASKS: [u32; 2] = [flags::MASK, flags::UNMASK];

/// Returns every form of MASK and UNMASK of one vector, without those with eventfds.
fn forms(index: Index) -> Vec<Request> {
    let of = |action| [Request::none(action, index, 0, 1), Request::bools(action, index, 0, &[1])];
    MASKS.into_iter().flat_map(of).collect()
}

/// Runs where vectors can be masked and two of them raised, both attached and prepared. With only
/// one vector, the vector is its own witness.
fn each_raised(
    dut: &mut Dut<'_>,
    mut attempt: impl FnMut(&mut Dut<'_>, Index, &[i32]) -> Verdict,
) -> Verdict {
    dut.each(1, |dut, index, count| {
        need(dut.maskable(index)?, "vectors cannot be masked")?;
        let vectors = dut.target.reach(index).min(count).min(2);
        need(vectors > 0, "nothing raises this index here")?;
        let fds = dut.many_fds(vectors)?;
        dut.attach(index, 0, &fds)?;
        dut.ready(index, vectors, &fds)?;
        attempt(dut, index, &fds)
    })
}

/// Returns the last vector and its eventfd. Its signal shows that the signal of another would have
/// arrived.
fn witness(fds: &[i32]) -> (u32, i32) {
    (u32::from(fds.len() > 1), fds.last().copied().unwrap_or(-1))
}

/// Fails unless vector 0 holds two interrupts and signals once when `open` unmasks it.
fn held_until(
    dut: &mut Dut<'_>,
    index: Index,
    fds: &[i32],
    open: impl FnOnce(&mut Dut<'_>) -> Verdict,
) -> Verdict {
    let fd = fds[0];
    dut.holds(index, 0, fd, witness(fds))?;
    dut.holds(index, 0, fd, witness(fds))?;
    open(dut)?;
    dut.arrives(fd, "vector 0 was unmasked")?;
    dut.delivers(index, 0, fd)
}

cases! {
    /// If vectors cannot be masked, as in Linux, MASK and UNMASK are ENOTTY, idle and active.
    fn v01_unmaskable_is_enotty(dut, index, _ in 1..) {
        need(!dut.maskable(index)?, "vectors can be masked")?;
        let forms = forms(index);
        forms.iter().try_for_each(|form| dut.expect(form, Answer::ENOTTY))?;
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd])?;
        forms.iter().try_for_each(|form| dut.expect(form, Answer::ENOTTY))?;
        dut.loops_to(index, 0, &[fd], &[])
    }

    /// MASK and UNMASK with EVENTFD are ENOTTY, idle and active, with any descriptors. They change
    /// and arm nothing.
    fn v01_eventfds_are_enotty(dut, index, _ in 1..) {
        let [fd, armed] = dut.fds()?;
        let sent: [&[i32]; 4] = [&[armed], &[-1], &[CLOSED], &[]];
        let refused = |dut: &mut Dut<'_>| {
            let each = |action| sent.map(|fds| Request::fds(action, index, 0, fds));
            let all = MASKS.into_iter().flat_map(each);
            all.into_iter().try_for_each(|form| dut.expect(&form, Answer::ENOTTY))
        };
        refused(dut)?;
        dut.attach(index, 0, &[fd])?;
        let known = dut.target.known();
        refused(dut)?;
        let now = dut.target.known();
        same("state is kept for", &known, &now)?;
        dut.target.signal(armed)?;
        dut.loops_to(index, 0, &[fd], &[])?;
        if dut.target.reach(index) > 0 {
            dut.ready(index, 1, &[fd])?;
            dut.delivers(index, 0, fd)?;
        }
        Ok(())
    }

    /// MASK and UNMASK are EINVAL while the index is idle.
    fn b03_idle_is_einval(dut, index, _ in 1..) {
        need(dut.maskable(index)?, "vectors cannot be masked")?;
        let forms = forms(index);
        forms.iter().try_for_each(|form| dut.expect(form, Answer::EINVAL))
    }

    /// Every form of MASK and UNMASK succeeds while the index is active, also on vectors that are
    /// not attached, and on none.
    fn b03_active_is_fine(dut, index, count in 2..) {
        need(dut.maskable(index)?, "vectors cannot be masked")?;
        let fd = dut.fd()?;
        dut.attach(index, 1, &[fd])?;
        let forms = forms(index);
        forms.iter().try_for_each(|form| dut.ok(form))?;
        for action in MASKS {
            dut.ok(&Request::none(action, index, 0, count))?;
            dut.ok(&Request::none(action, index, count - 1, 1))?;
            dut.ok(&Request::none(action, index, 1, 0))?;
            dut.ok(&Request::bools(action, index, 1, &[]))?;
        }
        dut.loops_to(index, 1, &[fd], &[])
    }

    /// An interrupt that arrives while masked is held, and signalled once at unmask.
    fn b03_held_and_signalled_once(dut) {
        each_raised(dut, |dut, index, fds| {
            for _ in 0..3 {
                dut.ok(&Request::mask(index, 0, 1))?;
                held_until(dut, index, fds, |dut| dut.ok(&Request::unmask(index, 0, 1)))?;
            }
            Ok(())
        })
    }

    /// BOOL masks and unmasks the vectors whose byte is not zero.
    fn b03_bools_choose(dut) {
        each_raised(dut, |dut, index, fds| {
            dut.ok(&Request::bools(flags::MASK, index, 0, &[0]))?;
            dut.delivers(index, 0, fds[0])?;
            dut.ok(&Request::bools(flags::MASK, index, 0, &[255]))?;
            dut.ok(&Request::bools(flags::UNMASK, index, 0, &[0]))?;
            let open = Request::bools(flags::UNMASK, index, 0, &[1]);
            held_until(dut, index, fds, |dut| dut.ok(&open))
        })
    }

    /// A vector may be masked before it is attached.
    fn b03_masked_before_attached(dut) {
        each_raised(dut, |dut, index, fds| {
            let fd = fds[0];
            dut.ok(&Request::attach(index, 0, &[-1]))?;
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.ok(&Request::attach(index, 0, &[fd]))?;
            held_until(dut, index, fds, |dut| dut.ok(&Request::unmask(index, 0, 1)))
        })
    }

    /// A masked vector stays masked when it is detached and attached again.
    fn b03_stays_masked_when_detached(dut) {
        each_raised(dut, |dut, index, fds| {
            let fd = fds[0];
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.ok(&Request::attach(index, 0, &[-1]))?;
            dut.ok(&Request::attach(index, 0, &[fd]))?;
            held_until(dut, index, fds, |dut| dut.ok(&Request::unmask(index, 0, 1)))
        })
    }

    /// A masked vector stays masked when its trigger is replaced, and a held interrupt signals the
    /// new trigger.
    fn b03_stays_masked_when_retargeted(dut) {
        each_raised(dut, |dut, index, fds| {
            let (old, new) = (fds[0], dut.fd()?);
            let mut now = fds.to_vec();
            if let Some(first) = now.first_mut() {
                *first = new;
            }
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.holds(index, 0, old, witness(fds))?;
            dut.ok(&Request::attach(index, 0, &[new]))?;
            held_until(dut, index, &now, |dut| dut.ok(&Request::unmask(index, 0, 1)))?;
            dut.signalled(old, 0, "the old trigger")
        })
    }

    /// Disabling the index clears masks.
    fn b03_disable_clears_masks(dut) {
        each_raised(dut, |dut, index, fds| {
            let fd = fds[0];
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.ok(&Request::disable(index))?;
            dut.attach(index, 0, fds)?;
            let vectors = u32::try_from(fds.len()).unwrap_or(1);
            dut.ready(index, vectors, fds)?;
            dut.delivers(index, 0, fd)
        })
    }

    /// Masking one vector does not affect the others.
    fn b03_others_go_on(dut) {
        each_raised(dut, |dut, index, fds| {
            need(fds.len() > 1, "there is one vector only")?;
            let (vector, fd) = witness(fds);
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.delivers(index, vector, fd)?;
            dut.ok(&Request::mask(index, 0, 1))?;
            dut.delivers(index, vector, fd)
        })
    }

    /// Loopback signals a masked vector too.
    fn b03_loopback_ignores_masks(dut, index, _ in 1..) {
        need(dut.maskable(index)?, "vectors cannot be masked")?;
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd])?;
        dut.ok(&Request::mask(index, 0, 1))?;
        dut.loops_to(index, 0, &[fd], &[])?;
        dut.ok(&Request::unmask(index, 0, 1))?;
        dut.signalled(fd, 0, "unmasked with nothing held")
    }

    /// MASK and UNMASK are EINVAL while another index is active.
    fn b03_other_index_is_einval(dut, index, _ in 1..) {
        let other = if index == Index::Msi { Index::Msix } else { Index::Msi };
        need(dut.info(other)?.count > 0 && dut.maskable(other)?, "no second index")?;
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd])?;
        let forms = forms(other);
        forms.iter().try_for_each(|form| dut.expect(form, Answer::EINVAL))
    }
}
