//! INTx: rules X.

use super::dut::{CLOSED, check, need};
use super::{Dut, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const INTX: Index = Index::Intx;

/// Enables INTx with an eventfd. Not applicable if the device has no INTx. Returns the eventfd.
fn enabled(dut: &mut Dut<'_>) -> Result<i32, Stop> {
    need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
    let fd = dut.fd()?;
    dut.attach(INTX, 0, &[fd])?;
    Ok(fd)
}

/// Enables INTx on a device that can assert it, unmasked and deasserted. Returns the eventfd.
fn pulled(dut: &mut Dut<'_>) -> Result<i32, Stop> {
    let fd = enabled(dut)?;
    dut.ready(INTX, 1, &[fd])?;
    quiet(dut, fd)?;
    Ok(fd)
}

/// Has the device deassert INTx, and unmasks it.
fn quiet(dut: &mut Dut<'_>, fd: i32) -> Verdict {
    dut.target.acknowledge()?;
    dut.ok(&Request::unmask(INTX, 0, 1))?;
    dut.target.signals(fd)?;
    Ok(())
}

cases! {
    /// MASK and UNMASK are EINVAL while INTx is idle.
    fn x01_masks_need_an_active_line(dut) {
        need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        let fd = dut.fd()?;
        for action in [flags::MASK, flags::UNMASK] {
            dut.expect(&Request::none(action, INTX, 0, 1), Answer::EINVAL)?;
            dut.expect(&Request::bools(action, INTX, 0, &[1]), Answer::EINVAL)?;
            dut.expect(&Request::fds(action, INTX, 0, &[fd]), Answer::EINVAL)?;
        }
        Ok(())
    }

    /// MASK and UNMASK of anything but start 0, count 1 are EINVAL.
    fn x01_masks_take_one(dut) {
        enabled(dut)?;
        for action in [flags::MASK, flags::UNMASK] {
            dut.expect(&Request::none(action, INTX, 0, 0), Answer::EINVAL)?;
            dut.expect(&Request::bools(action, INTX, 0, &[]), Answer::EINVAL)?;
            dut.expect(&Request::fds(action, INTX, 0, &[]), Answer::EINVAL)?;
            dut.ok(&Request::none(action, INTX, 0, 1))?;
        }
        Ok(())
    }

    /// MASK with EVENTFD is ENOTTY.
    fn x01_mask_with_eventfd_is_enotty(dut) {
        let fd = enabled(dut)?;
        for fd in [fd, -1, CLOSED] {
            dut.expect(&Request::fds(flags::MASK, INTX, 0, &[fd]), Answer::ENOTTY)?;
        }
        Ok(())
    }

    /// MASK holds INTx, UNMASK releases it; a BOOL of zero does neither.
    fn x01_mask_holds(dut) {
        let fd = pulled(dut)?;
        for mask in [Request::mask(INTX, 0, 1), Request::bools(flags::MASK, INTX, 0, &[1])] {
            dut.ok(&mask)?;
            dut.ok(&Request::bools(flags::UNMASK, INTX, 0, &[0]))?;
            dut.target.raise(INTX, 0)?;
            dut.signalled(fd, 0, "INTx was raised while masked")?;
            quiet(dut, fd)?;
            dut.ok(&Request::bools(flags::MASK, INTX, 0, &[0]))?;
            dut.delivers(INTX, 0, fd)?;
            quiet(dut, fd)?;
        }
        Ok(())
    }

    /// UNMASK with EVENTFD arms an eventfd, EBUSY if one is armed; a value below zero disarms.
    fn x02_arm_and_disarm(dut) {
        enabled(dut)?;
        let [first, second] = dut.fds()?;
        let unmask = |fd| Request::fds(flags::UNMASK, INTX, 0, &[fd]);
        dut.ok(&unmask(-1))?;
        dut.ok(&unmask(first))?;
        dut.expect(&unmask(first), Answer::EBUSY)?;
        dut.expect(&unmask(second), Answer::EBUSY)?;
        dut.ok(&unmask(-7))?;
        dut.ok(&unmask(second))
    }

    /// UNMASK with a closed descriptor is EBADF, with a file that is no eventfd EINVAL.
    fn x02_bad_descriptors(dut) {
        let fd = enabled(dut)?;
        let other = dut.target.other_file()?;
        dut.expect(&Request::fds(flags::UNMASK, INTX, 0, &[CLOSED]), Answer::EBADF)?;
        dut.expect(&Request::fds(flags::UNMASK, INTX, 0, &[other]), Answer::EINVAL)?;
        dut.loops_to(INTX, 0, &[fd], &[])
    }

    /// A signal of an armed eventfd unmasks INTx.
    fn x02_signal_unmasks(dut) {
        let fd = pulled(dut)?;
        let resample = dut.fd()?;
        dut.ok(&Request::fds(flags::UNMASK, INTX, 0, &[resample]))?;
        dut.ok(&Request::mask(INTX, 0, 1))?;
        dut.target.raise(INTX, 0)?;
        dut.signalled(fd, 0, "INTx was raised while masked")?;
        dut.target.signal(resample)?;
        dut.arrives(fd, "the armed eventfd was signalled")?;
        quiet(dut, fd)
    }

    /// NONE with count 0 disables; EINVAL if idle.
    fn x03_disable(dut) {
        let fd = enabled(dut)?;
        dut.ok(&Request::disable(INTX))?;
        dut.expect(&Request::disable(INTX), Answer::EINVAL)?;
        dut.expect(&Request::loopback(INTX, 0, 1), Answer::EINVAL)?;
        dut.signalled(fd, 0, "INTx was disabled")?;
        dut.attach(INTX, 0, &[fd])?;
        dut.loops_to(INTX, 0, &[fd], &[])
    }

    /// A descriptor enables; another replaces it; -1 leaves the handler without a trigger.
    fn x04_attach_replace_clear(dut) {
        let first = enabled(dut)?;
        let second = dut.fd()?;
        dut.loops_to(INTX, 0, &[first], &[second])?;
        dut.ok(&Request::attach(INTX, 0, &[second]))?;
        dut.loops_to(INTX, 0, &[second], &[first])?;
        dut.ok(&Request::attach(INTX, 0, &[-1]))?;
        dut.loops_to(INTX, 0, &[], &[first, second])?;
        dut.ok(&Request::attach(INTX, 0, &[first]))?;
        dut.loops_to(INTX, 0, &[first], &[second])
    }

    /// -1 enables an idle INTx without a trigger.
    fn x04_enable_without_trigger(dut) {
        need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        dut.attach(INTX, 0, &[-1])?;
        check(dut.active(INTX)?, || "INTx is not active".into())?;
        dut.ok(&Request::disable(INTX))
    }

    /// A bad descriptor neither enables an idle INTx nor changes an active one.
    fn x04_bad_descriptors(dut) {
        let fd = enabled(dut)?;
        let other = dut.target.other_file()?;
        let bad = [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)];
        for (fd, expected) in bad {
            dut.expect(&Request::attach(INTX, 0, &[fd]), expected)?;
        }
        dut.loops_to(INTX, 0, &[fd], &[])?;
        dut.ok(&Request::disable(INTX))?;
        for (fd, expected) in bad {
            dut.expect(&Request::attach(INTX, 0, &[fd]), expected)?;
            dut.idle(INTX, "after a bad descriptor")?;
        }
        Ok(())
    }

    /// EVENTFD and BOOL with count 0 are EINVAL.
    fn x04_empty_is_einval(dut) {
        need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        for _ in 0..2 {
            dut.expect(&Request::attach(INTX, 0, &[]), Answer::EINVAL)?;
            dut.expect(&Request::bools(flags::TRIGGER, INTX, 0, &[]), Answer::EINVAL)?;
            dut.attach(INTX, 0, &[-1])?;
        }
        Ok(())
    }

    /// A pin without a routed interrupt is ENODEV.
    fn x04_disconnected_is_enodev(dut) {
        need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        need(dut.target.disconnected(), "the pin leads to an interrupt")?;
        let fd = dut.fd()?;
        dut.expect(&Request::attach(INTX, 0, &[fd]), Answer::ENODEV)?;
        dut.expect(&Request::attach(INTX, 0, &[-1]), Answer::ENODEV)?;
        dut.idle(INTX, "after ENODEV")
    }

    /// Loopback signals the trigger; a BOOL of zero does not; EINVAL if idle.
    fn x05_loopback(dut) {
        need(dut.info(INTX)?.count == 1, "the device has no interrupt pin")?;
        dut.expect(&Request::loopback(INTX, 0, 1), Answer::EINVAL)?;
        dut.expect(&Request::bools(flags::TRIGGER, INTX, 0, &[1]), Answer::EINVAL)?;
        let fd = enabled(dut)?;
        dut.loops_to(INTX, 0, &[fd], &[])?;
        dut.ok(&Request::bools(flags::TRIGGER, INTX, 0, &[0]))?;
        dut.signalled(fd, 0, "a BOOL of zero")?;
        dut.ok(&Request::bools(flags::TRIGGER, INTX, 0, &[255]))?;
        dut.signalled(fd, 1, "a BOOL that is not zero")
    }

    /// A signal masks INTx; UNMASK unmasks it again.
    fn x06_signal_masks(dut) {
        let fd = pulled(dut)?;
        for _ in 0..3 {
            dut.delivers(INTX, 0, fd)?;
            dut.target.raise(INTX, 0)?;
            dut.signalled(fd, 0, "INTx was raised again before it was unmasked")?;
            quiet(dut, fd)?;
        }
        Ok(())
    }

    /// If INTx is still asserted at unmask, it signals again.
    fn x06_still_asserted_signals_again(dut) {
        let fd = pulled(dut)?;
        need(dut.target.acknowledge()?, "INTx does not stay asserted here")?;
        dut.delivers(INTX, 0, fd)?;
        for _ in 0..3 {
            dut.ok(&Request::unmask(INTX, 0, 1))?;
            dut.arrives(fd, "INTx was unmasked while asserted")?;
        }
        quiet(dut, fd)
    }
}
