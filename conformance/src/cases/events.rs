//! ERR and REQ: rules E.

use super::stage::CLOSED;
use super::{Stage, Verdict, cases};
use crate::{Answer, Index, Request, flags};

fn on_both(
    stage: &mut Stage<'_>,
    mut play: impl FnMut(&mut Stage<'_>, Index) -> Verdict,
) -> Verdict {
    [Index::Err, Index::Req].into_iter().try_for_each(|index| play(stage, index))
}

cases! {
    /// MASK and UNMASK are ENOTTY, set or not.
    fn e01_masks_are_enotty(stage) {
        on_both(stage, |stage, index| {
            let fd = stage.fd()?;
            for set in [false, true] {
                if set {
                    stage.ok(&Request::attach(index, 0, &[fd]))?;
                }
                for action in [flags::MASK, flags::UNMASK] {
                    stage.expect(&Request::none(action, index, 0, 1), Answer::ENOTTY)?;
                    stage.expect(&Request::bools(action, index, 0, &[1]), Answer::ENOTTY)?;
                    stage.expect(&Request::fds(action, index, 0, &[fd]), Answer::ENOTTY)?;
                }
            }
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// A start above 0 or a count above 1 is EINVAL.
    fn e02_more_than_one_is_einval(stage) {
        on_both(stage, |stage, index| {
            let fd = stage.fd()?;
            stage.expect(&Request::attach(index, 1, &[fd]), Answer::EINVAL)?;
            stage.expect(&Request::attach(index, 0, &[fd, fd]), Answer::EINVAL)?;
            stage.expect(&Request::loopback(index, 0, 2), Answer::EINVAL)
        })
    }

    /// A descriptor sets, another replaces, -1 clears, also if unset.
    fn e03_set_replace_clear(stage) {
        on_both(stage, |stage, index| {
            let (first, second) = (stage.fd()?, stage.fd()?);
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            stage.ok(&Request::attach(index, 0, &[first]))?;
            stage.loops_to(index, 0, &[first], &[second])?;
            stage.ok(&Request::attach(index, 0, &[second]))?;
            stage.loops_to(index, 0, &[second], &[first])?;
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            stage.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)
        })
    }

    /// A value below -1 is EINVAL, a closed descriptor EBADF, a file that is no eventfd EINVAL; the
    /// trigger stays.
    fn e03_bad_descriptors(stage) {
        let other = stage.target.other_file()?;
        on_both(stage, |stage, index| {
            let fd = stage.fd()?;
            stage.ok(&Request::attach(index, 0, &[fd]))?;
            for (bad, expected) in [
                (-2, Answer::EINVAL),
                (i32::MIN, Answer::EINVAL),
                (CLOSED, Answer::EBADF),
                (other, Answer::EINVAL),
            ] {
                stage.expect(&Request::attach(index, 0, &[bad]), expected)?;
            }
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// EVENTFD and BOOL with count 0 are EINVAL.
    fn e03_empty_is_einval(stage) {
        on_both(stage, |stage, index| {
            stage.expect(&Request::attach(index, 0, &[]), Answer::EINVAL)?;
            stage.expect(&Request::bools(flags::TRIGGER, index, 0, &[]), Answer::EINVAL)
        })
    }

    /// NONE signals or clears, and is EINVAL if unset.
    fn e04_none(stage) {
        on_both(stage, |stage, index| {
            let fd = stage.fd()?;
            for count in [0, 1] {
                stage.expect(&Request::loopback(index, 0, count), Answer::EINVAL)?;
            }
            stage.ok(&Request::attach(index, 0, &[fd]))?;
            stage.loops_to(index, 0, &[fd], &[])?;
            stage.ok(&Request::disable(index))?;
            stage.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)?;
            stage.signalled(fd, 0, "after it was cleared")
        })
    }

    /// BOOL signals if it is not zero, and succeeds if unset.
    fn e05_bool(stage) {
        on_both(stage, |stage, index| {
            let fd = stage.fd()?;
            let bools = |value| Request::bools(flags::TRIGGER, index, 0, &[value]);
            stage.ok(&bools(0))?;
            stage.ok(&bools(1))?;
            stage.ok(&Request::attach(index, 0, &[fd]))?;
            stage.ok(&bools(0))?;
            stage.signalled(fd, 0, "a BOOL of zero")?;
            stage.ok(&bools(1))?;
            stage.ok(&bools(255))?;
            stage.signalled(fd, 2, "two BOOLs that are not zero")
        })
    }

    /// ERR and REQ can be set while vectors are in use.
    fn e03_beside_vectors(stage) {
        stage.each(1, |stage, index, _| {
            let fds = stage.fds(3)?;
            let [vector, err, req] = fds[..] else { return Ok(()) };
            stage.attach(index, 0, &[vector])?;
            stage.ok(&Request::attach(Index::Err, 0, &[err]))?;
            stage.ok(&Request::attach(Index::Req, 0, &[req]))?;
            stage.loops_to(Index::Err, 0, &[err], &[vector, req])?;
            stage.loops_to(index, 0, &[vector], &[err, req])?;
            stage.ok(&Request::disable(index))?;
            stage.loops_to(Index::Req, 0, &[req], &[vector, err])
        })
    }
}
