//! The interrupt line: rules X.

use super::stage::{CLOSED, check, need};
use super::{Stage, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const LINE: Index = Index::Intx;

/// Enables the line with an eventfd; not applicable where there is none.
fn enabled(stage: &mut Stage<'_>) -> Result<i32, Stop> {
    need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
    let fd = stage.fd()?;
    stage.attach(LINE, 0, &[fd])?;
    Ok(fd)
}

/// Enables it on a device that can pull it, and starts from an open line that is not asserted.
fn pulled(stage: &mut Stage<'_>) -> Result<i32, Stop> {
    let fd = enabled(stage)?;
    stage.ready(LINE, 1, &[fd])?;
    quiet(stage, fd)?;
    Ok(fd)
}

/// Has the device let go, and opens the line.
fn quiet(stage: &mut Stage<'_>, fd: i32) -> Verdict {
    stage.target.acknowledge()?;
    stage.ok(&Request::unmask(LINE, 0, 1))?;
    stage.target.signals(fd)?;
    Ok(())
}

cases! {
    /// MASK and UNMASK are EINVAL while the line is idle.
    fn x01_masks_need_an_active_line(stage) {
        need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
        let fd = stage.fd()?;
        for action in [flags::MASK, flags::UNMASK] {
            stage.expect(&Request::none(action, LINE, 0, 1), Answer::EINVAL)?;
            stage.expect(&Request::bools(action, LINE, 0, &[1]), Answer::EINVAL)?;
            stage.expect(&Request::fds(action, LINE, 0, &[fd]), Answer::EINVAL)?;
        }
        Ok(())
    }

    /// MASK and UNMASK of anything but start 0, count 1 are EINVAL.
    fn x01_masks_take_one(stage) {
        enabled(stage)?;
        for action in [flags::MASK, flags::UNMASK] {
            stage.expect(&Request::none(action, LINE, 0, 0), Answer::EINVAL)?;
            stage.expect(&Request::bools(action, LINE, 0, &[]), Answer::EINVAL)?;
            stage.expect(&Request::fds(action, LINE, 0, &[]), Answer::EINVAL)?;
            stage.ok(&Request::none(action, LINE, 0, 1))?;
        }
        Ok(())
    }

    /// MASK with EVENTFD is ENOTTY.
    fn x01_mask_with_eventfd_is_enotty(stage) {
        let fd = enabled(stage)?;
        for fd in [fd, -1, CLOSED] {
            stage.expect(&Request::fds(flags::MASK, LINE, 0, &[fd]), Answer::ENOTTY)?;
        }
        Ok(())
    }

    /// MASK holds the line, UNMASK lets it through; a BOOL of zero does neither.
    fn x01_mask_holds(stage) {
        let fd = pulled(stage)?;
        for mask in [Request::mask(LINE, 0, 1), Request::bools(flags::MASK, LINE, 0, &[1])] {
            stage.ok(&mask)?;
            stage.ok(&Request::bools(flags::UNMASK, LINE, 0, &[0]))?;
            stage.target.raise(LINE, 0)?;
            stage.signalled(fd, 0, "the line was raised while masked")?;
            quiet(stage, fd)?;
            stage.ok(&Request::bools(flags::MASK, LINE, 0, &[0]))?;
            stage.delivers(LINE, 0, fd)?;
            quiet(stage, fd)?;
        }
        Ok(())
    }

    /// UNMASK with EVENTFD arms one, EBUSY when one is armed; below zero disarms.
    fn x02_arm_and_disarm(stage) {
        enabled(stage)?;
        let (first, second) = (stage.fd()?, stage.fd()?);
        let unmask = |fd| Request::fds(flags::UNMASK, LINE, 0, &[fd]);
        stage.ok(&unmask(-1))?;
        stage.ok(&unmask(first))?;
        stage.expect(&unmask(first), Answer::EBUSY)?;
        stage.expect(&unmask(second), Answer::EBUSY)?;
        stage.ok(&unmask(-7))?;
        stage.ok(&unmask(second))
    }

    /// UNMASK with a descriptor that is closed is EBADF, with one that is no eventfd EINVAL.
    fn x02_bad_descriptors(stage) {
        let fd = enabled(stage)?;
        let other = stage.target.other_file()?;
        stage.expect(&Request::fds(flags::UNMASK, LINE, 0, &[CLOSED]), Answer::EBADF)?;
        stage.expect(&Request::fds(flags::UNMASK, LINE, 0, &[other]), Answer::EINVAL)?;
        stage.loops_to(LINE, 0, &[fd], &[])
    }

    /// Signalling an armed eventfd unmasks the line.
    fn x02_signal_unmasks(stage) {
        let fd = pulled(stage)?;
        let resample = stage.fd()?;
        stage.ok(&Request::fds(flags::UNMASK, LINE, 0, &[resample]))?;
        stage.ok(&Request::mask(LINE, 0, 1))?;
        stage.target.raise(LINE, 0)?;
        stage.signalled(fd, 0, "the line was raised while masked")?;
        stage.target.signal(resample)?;
        stage.arrives(fd, "the armed eventfd was signalled")?;
        quiet(stage, fd)
    }

    /// NONE with count 0 disables; EINVAL when idle.
    fn x03_disable(stage) {
        let fd = enabled(stage)?;
        stage.ok(&Request::disable(LINE))?;
        stage.expect(&Request::disable(LINE), Answer::EINVAL)?;
        stage.expect(&Request::loopback(LINE, 0, 1), Answer::EINVAL)?;
        stage.signalled(fd, 0, "the line was disabled")?;
        stage.attach(LINE, 0, &[fd])?;
        stage.loops_to(LINE, 0, &[fd], &[])
    }

    /// A descriptor enables; another replaces it; -1 leaves the handler without one.
    fn x04_attach_replace_clear(stage) {
        let first = enabled(stage)?;
        let second = stage.fd()?;
        stage.loops_to(LINE, 0, &[first], &[second])?;
        stage.ok(&Request::attach(LINE, 0, &[second]))?;
        stage.loops_to(LINE, 0, &[second], &[first])?;
        stage.ok(&Request::attach(LINE, 0, &[-1]))?;
        stage.loops_to(LINE, 0, &[], &[first, second])?;
        stage.ok(&Request::attach(LINE, 0, &[first]))?;
        stage.loops_to(LINE, 0, &[first], &[second])
    }

    /// -1 enables an idle line without a trigger.
    fn x04_enable_without_trigger(stage) {
        need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
        stage.attach(LINE, 0, &[-1])?;
        check(stage.active(LINE)?, || "the line is not active".into())?;
        stage.ok(&Request::disable(LINE))
    }

    /// A bad descriptor neither enables an idle line nor changes an active one.
    fn x04_bad_descriptors(stage) {
        let fd = enabled(stage)?;
        let other = stage.target.other_file()?;
        let bad = [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)];
        for (fd, expected) in bad {
            stage.expect(&Request::attach(LINE, 0, &[fd]), expected)?;
        }
        stage.loops_to(LINE, 0, &[fd], &[])?;
        stage.ok(&Request::disable(LINE))?;
        for (fd, expected) in bad {
            stage.expect(&Request::attach(LINE, 0, &[fd]), expected)?;
            stage.idle(LINE, "after a bad descriptor")?;
        }
        Ok(())
    }

    /// EVENTFD and BOOL with count 0 are EINVAL.
    fn x04_empty_is_einval(stage) {
        need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
        for _ in 0..2 {
            stage.expect(&Request::attach(LINE, 0, &[]), Answer::EINVAL)?;
            stage.expect(&Request::bools(flags::TRIGGER, LINE, 0, &[]), Answer::EINVAL)?;
            stage.attach(LINE, 0, &[-1])?;
        }
        Ok(())
    }

    /// A pin that leads nowhere is ENODEV.
    fn x04_disconnected_is_enodev(stage) {
        need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
        need(stage.target.disconnected(), "the pin leads to an interrupt")?;
        let fd = stage.fd()?;
        stage.expect(&Request::attach(LINE, 0, &[fd]), Answer::ENODEV)?;
        stage.expect(&Request::attach(LINE, 0, &[-1]), Answer::ENODEV)?;
        stage.idle(LINE, "after ENODEV")
    }

    /// Loopback signals the trigger; a BOOL of zero does not; EINVAL when idle.
    fn x05_loopback(stage) {
        need(stage.info(LINE)?.count == 1, "the device has no interrupt pin")?;
        stage.expect(&Request::loopback(LINE, 0, 1), Answer::EINVAL)?;
        stage.expect(&Request::bools(flags::TRIGGER, LINE, 0, &[1]), Answer::EINVAL)?;
        let fd = enabled(stage)?;
        stage.loops_to(LINE, 0, &[fd], &[])?;
        stage.ok(&Request::bools(flags::TRIGGER, LINE, 0, &[0]))?;
        stage.signalled(fd, 0, "a BOOL of zero")?;
        stage.ok(&Request::bools(flags::TRIGGER, LINE, 0, &[255]))?;
        stage.signalled(fd, 1, "a BOOL that is not zero")
    }

    /// A signal masks the line; unmasking opens it again.
    fn x06_signal_masks(stage) {
        let fd = pulled(stage)?;
        for _ in 0..3 {
            stage.delivers(LINE, 0, fd)?;
            stage.target.raise(LINE, 0)?;
            stage.signalled(fd, 0, "the line was raised again before it was unmasked")?;
            quiet(stage, fd)?;
        }
        Ok(())
    }

    /// Unmasking a line that is still asserted signals again.
    fn x06_still_asserted_signals_again(stage) {
        let fd = pulled(stage)?;
        need(stage.target.acknowledge()?, "the line does not stay asserted here")?;
        stage.delivers(LINE, 0, fd)?;
        for _ in 0..3 {
            stage.ok(&Request::unmask(LINE, 0, 1))?;
            stage.arrives(fd, "the line was unmasked while asserted")?;
        }
        quiet(stage, fd)
    }
}
