//! INTx: rules X.

use super::stage::{CLOSED, check, need};
use super::{Stage, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const INTX: Index = Index::Intx;

/// Enables INTx with an eventfd. Not applicable if the device has no INTx. Returns the eventfd.
fn enabled(stage: &mut Stage<'_>) -> Result<i32, Stop> {
    need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
    let fd = stage.fd()?;
    stage.attach(INTX, 0, &[fd])?;
    Ok(fd)
}

/// Enables INTx on a device that can assert it, unmasked and deasserted. Returns the eventfd.
fn pulled(stage: &mut Stage<'_>) -> Result<i32, Stop> {
    let fd = enabled(stage)?;
    stage.ready(INTX, 1, &[fd])?;
    quiet(stage, fd)?;
    Ok(fd)
}

/// Has the device deassert INTx, and unmasks it.
fn quiet(stage: &mut Stage<'_>, fd: i32) -> Verdict {
    stage.target.acknowledge()?;
    stage.ok(&Request::unmask(INTX, 0, 1))?;
    stage.target.signals(fd)?;
    Ok(())
}

cases! {
    /// MASK and UNMASK are EINVAL while INTx is idle.
    fn x01_masks_need_an_active_line(stage) {
        need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        let fd = stage.fd()?;
        for action in [flags::MASK, flags::UNMASK] {
            stage.expect(&Request::none(action, INTX, 0, 1), Answer::EINVAL)?;
            stage.expect(&Request::bools(action, INTX, 0, &[1]), Answer::EINVAL)?;
            stage.expect(&Request::fds(action, INTX, 0, &[fd]), Answer::EINVAL)?;
        }
        Ok(())
    }

    /// MASK and UNMASK of anything but start 0, count 1 are EINVAL.
    fn x01_masks_take_one(stage) {
        enabled(stage)?;
        for action in [flags::MASK, flags::UNMASK] {
            stage.expect(&Request::none(action, INTX, 0, 0), Answer::EINVAL)?;
            stage.expect(&Request::bools(action, INTX, 0, &[]), Answer::EINVAL)?;
            stage.expect(&Request::fds(action, INTX, 0, &[]), Answer::EINVAL)?;
            stage.ok(&Request::none(action, INTX, 0, 1))?;
        }
        Ok(())
    }

    /// MASK with EVENTFD is ENOTTY.
    fn x01_mask_with_eventfd_is_enotty(stage) {
        let fd = enabled(stage)?;
        for fd in [fd, -1, CLOSED] {
            stage.expect(&Request::fds(flags::MASK, INTX, 0, &[fd]), Answer::ENOTTY)?;
        }
        Ok(())
    }

    /// MASK holds INTx, UNMASK releases it; a BOOL of zero does neither.
    fn x01_mask_holds(stage) {
        let fd = pulled(stage)?;
        for mask in [Request::mask(INTX, 0, 1), Request::bools(flags::MASK, INTX, 0, &[1])] {
            stage.ok(&mask)?;
            stage.ok(&Request::bools(flags::UNMASK, INTX, 0, &[0]))?;
            stage.target.raise(INTX, 0)?;
            stage.signalled(fd, 0, "INTx was raised while masked")?;
            quiet(stage, fd)?;
            stage.ok(&Request::bools(flags::MASK, INTX, 0, &[0]))?;
            stage.delivers(INTX, 0, fd)?;
            quiet(stage, fd)?;
        }
        Ok(())
    }

    /// UNMASK with EVENTFD arms an eventfd, EBUSY if one is armed; a value below zero disarms.
    fn x02_arm_and_disarm(stage) {
        enabled(stage)?;
        let (first, second) = (stage.fd()?, stage.fd()?);
        let unmask = |fd| Request::fds(flags::UNMASK, INTX, 0, &[fd]);
        stage.ok(&unmask(-1))?;
        stage.ok(&unmask(first))?;
        stage.expect(&unmask(first), Answer::EBUSY)?;
        stage.expect(&unmask(second), Answer::EBUSY)?;
        stage.ok(&unmask(-7))?;
        stage.ok(&unmask(second))
    }

    /// UNMASK with a closed descriptor is EBADF, with a file that is no eventfd EINVAL.
    fn x02_bad_descriptors(stage) {
        let fd = enabled(stage)?;
        let other = stage.target.other_file()?;
        stage.expect(&Request::fds(flags::UNMASK, INTX, 0, &[CLOSED]), Answer::EBADF)?;
        stage.expect(&Request::fds(flags::UNMASK, INTX, 0, &[other]), Answer::EINVAL)?;
        stage.loops_to(INTX, 0, &[fd], &[])
    }

    /// A signal of an armed eventfd unmasks INTx.
    fn x02_signal_unmasks(stage) {
        let fd = pulled(stage)?;
        let resample = stage.fd()?;
        stage.ok(&Request::fds(flags::UNMASK, INTX, 0, &[resample]))?;
        stage.ok(&Request::mask(INTX, 0, 1))?;
        stage.target.raise(INTX, 0)?;
        stage.signalled(fd, 0, "INTx was raised while masked")?;
        stage.target.signal(resample)?;
        stage.arrives(fd, "the armed eventfd was signalled")?;
        quiet(stage, fd)
    }

    /// NONE with count 0 disables; EINVAL if idle.
    fn x03_disable(stage) {
        let fd = enabled(stage)?;
        stage.ok(&Request::disable(INTX))?;
        stage.expect(&Request::disable(INTX), Answer::EINVAL)?;
        stage.expect(&Request::loopback(INTX, 0, 1), Answer::EINVAL)?;
        stage.signalled(fd, 0, "INTx was disabled")?;
        stage.attach(INTX, 0, &[fd])?;
        stage.loops_to(INTX, 0, &[fd], &[])
    }

    /// A descriptor enables; another replaces it; -1 leaves the handler without a trigger.
    fn x04_attach_replace_clear(stage) {
        let first = enabled(stage)?;
        let second = stage.fd()?;
        stage.loops_to(INTX, 0, &[first], &[second])?;
        stage.ok(&Request::attach(INTX, 0, &[second]))?;
        stage.loops_to(INTX, 0, &[second], &[first])?;
        stage.ok(&Request::attach(INTX, 0, &[-1]))?;
        stage.loops_to(INTX, 0, &[], &[first, second])?;
        stage.ok(&Request::attach(INTX, 0, &[first]))?;
        stage.loops_to(INTX, 0, &[first], &[second])
    }

    /// -1 enables an idle INTx without a trigger.
    fn x04_enable_without_trigger(stage) {
        need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        stage.attach(INTX, 0, &[-1])?;
        check(stage.active(INTX)?, || "INTx is not active".into())?;
        stage.ok(&Request::disable(INTX))
    }

    /// A bad descriptor neither enables an idle INTx nor changes an active one.
    fn x04_bad_descriptors(stage) {
        let fd = enabled(stage)?;
        let other = stage.target.other_file()?;
        let bad = [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)];
        for (fd, expected) in bad {
            stage.expect(&Request::attach(INTX, 0, &[fd]), expected)?;
        }
        stage.loops_to(INTX, 0, &[fd], &[])?;
        stage.ok(&Request::disable(INTX))?;
        for (fd, expected) in bad {
            stage.expect(&Request::attach(INTX, 0, &[fd]), expected)?;
            stage.idle(INTX, "after a bad descriptor")?;
        }
        Ok(())
    }

    /// EVENTFD and BOOL with count 0 are EINVAL.
    fn x04_empty_is_einval(stage) {
        need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        for _ in 0..2 {
            stage.expect(&Request::attach(INTX, 0, &[]), Answer::EINVAL)?;
            stage.expect(&Request::bools(flags::TRIGGER, INTX, 0, &[]), Answer::EINVAL)?;
            stage.attach(INTX, 0, &[-1])?;
        }
        Ok(())
    }

    /// A pin without a routed interrupt is ENODEV.
    fn x04_disconnected_is_enodev(stage) {
        need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        need(stage.target.disconnected(), "the pin leads to an interrupt")?;
        let fd = stage.fd()?;
        stage.expect(&Request::attach(INTX, 0, &[fd]), Answer::ENODEV)?;
        stage.expect(&Request::attach(INTX, 0, &[-1]), Answer::ENODEV)?;
        stage.idle(INTX, "after ENODEV")
    }

    /// Loopback signals the trigger; a BOOL of zero does not; EINVAL if idle.
    fn x05_loopback(stage) {
        need(stage.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        stage.expect(&Request::loopback(INTX, 0, 1), Answer::EINVAL)?;
        stage.expect(&Request::bools(flags::TRIGGER, INTX, 0, &[1]), Answer::EINVAL)?;
        let fd = enabled(stage)?;
        stage.loops_to(INTX, 0, &[fd], &[])?;
        stage.ok(&Request::bools(flags::TRIGGER, INTX, 0, &[0]))?;
        stage.signalled(fd, 0, "a BOOL of zero")?;
        stage.ok(&Request::bools(flags::TRIGGER, INTX, 0, &[255]))?;
        stage.signalled(fd, 1, "a BOOL that is not zero")
    }

    /// A signal masks INTx; UNMASK unmasks it again.
    fn x06_signal_masks(stage) {
        let fd = pulled(stage)?;
        for _ in 0..3 {
            stage.delivers(INTX, 0, fd)?;
            stage.target.raise(INTX, 0)?;
            stage.signalled(fd, 0, "INTx was raised again before it was unmasked")?;
            quiet(stage, fd)?;
        }
        Ok(())
    }

    /// If INTx is still asserted at unmask, it signals again.
    fn x06_still_asserted_signals_again(stage) {
        let fd = pulled(stage)?;
        need(stage.target.acknowledge()?, "INTx does not stay asserted here")?;
        stage.delivers(INTX, 0, fd)?;
        for _ in 0..3 {
            stage.ok(&Request::unmask(INTX, 0, 1))?;
            stage.arrives(fd, "INTx was unmasked while asserted")?;
        }
        quiet(stage, fd)
    }
}
