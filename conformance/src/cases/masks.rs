//! Masking vectors: rules V-01 and B-03. Linux cannot mask vectors, and answers ENOTTY.

use super::stage::{CLOSED, check, need};
use super::{Stage, Verdict, cases};
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

/// Returns the last vector and its eventfd. Its signal shows that the signal of another would have
/// arrived.
fn witness(fds: &[i32]) -> (u32, i32) {
    (u32::from(fds.len() > 1), fds.last().copied().unwrap_or(-1))
}

/// Fails unless vector 0 holds two interrupts and signals once when `open` unmasks it.
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
    /// If vectors cannot be masked, as in Linux, MASK and UNMASK are ENOTTY, idle and active.
    fn v01_unmaskable_is_enotty(stage) {
        stage.each(1, |stage, index, _| {
            need(!stage.maskable(index)?, "vectors can be masked")?;
            let forms = forms(index);
            forms.iter().try_for_each(|form| stage.expect(form, Answer::ENOTTY))?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            forms.iter().try_for_each(|form| stage.expect(form, Answer::ENOTTY))?;
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// MASK and UNMASK with EVENTFD are ENOTTY, idle and active, with any descriptors. They change
    /// and arm nothing.
    fn v01_eventfds_are_enotty(stage) {
        stage.each(1, |stage, index, _| {
            let (fd, armed) = (stage.fd()?, stage.fd()?);
            let sent: [&[i32]; 4] = [&[armed], &[-1], &[CLOSED], &[]];
            let refused = |stage: &mut Stage<'_>| {
                let each = |action| sent.map(|fds| Request::fds(action, index, 0, fds));
                let all = MASKS.into_iter().flat_map(each);
                all.into_iter().try_for_each(|form| stage.expect(&form, Answer::ENOTTY))
            };
            refused(stage)?;
            stage.attach(index, 0, &[fd])?;
            let known = stage.target.known();
            refused(stage)?;
            let now = stage.target.known();
            check(known == now, || format!("known of {known:?}, then of {now:?}"))?;
            stage.target.signal(armed)?;
            stage.loops_to(index, 0, &[fd], &[])?;
            if stage.target.reach(index) > 0 {
                stage.ready(index, 1, &[fd])?;
                stage.delivers(index, 0, fd)?;
            }
            Ok(())
        })
    }

    /// MASK and UNMASK are EINVAL while the index is idle.
    fn b03_idle_is_einval(stage) {
        stage.each(1, |stage, index, _| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let forms = forms(index);
            forms.iter().try_for_each(|form| stage.expect(form, Answer::EINVAL))
        })
    }

    /// Every form of MASK and UNMASK succeeds while the index is active, also on vectors that are
    /// not attached, and on none.
    fn b03_active_is_fine(stage) {
        stage.each(2, |stage, index, count| {
            need(stage.maskable(index)?, "vectors cannot be masked")?;
            let fd = stage.fd()?;
            stage.attach(index, 1, &[fd])?;
            let forms = forms(index);
            forms.iter().try_for_each(|form| stage.ok(form))?;
            for action in MASKS {
                stage.ok(&Request::none(action, index, 0, count))?;
                stage.ok(&Request::none(action, index, count - 1, 1))?;
                stage.ok(&Request::none(action, index, 1, 0))?;
                stage.ok(&Request::bools(action, index, 1, &[]))?;
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

    /// A masked vector stays masked when its trigger is replaced, and a held interrupt signals the
    /// new trigger.
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

    /// Masking one vector does not affect the others.
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

    /// MASK and UNMASK are EINVAL while another index is active.
    fn b03_other_index_is_einval(stage) {
        stage.each(1, |stage, index, _| {
            let other = if index == Index::Msi { Index::Msix } else { Index::Msi };
            need(stage.info(other)?.count > 0 && stage.maskable(other)?, "no second index")?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            let forms = forms(other);
            forms.iter().try_for_each(|form| stage.expect(form, Answer::EINVAL))
        })
    }
}
