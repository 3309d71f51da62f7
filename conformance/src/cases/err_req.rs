//! ERR and REQ: rules E.

use super::dut::CLOSED;
use super::{cases, need};
use crate::{Answer, Index, Request, flags};

const ERR_AND_REQ: [Index; 2] = [Index::Err, Index::Req];

cases! {
    /// MASK and UNMASK are ENOTTY, set or not.
    fn e01_masks_are_enotty(dut, index on ERR_AND_REQ) {
        let fd = dut.fd()?;
        for set in [false, true] {
            if set {
                dut.ok(&Request::attach(index, 0, &[fd]))?;
            }
            for action in [flags::MASK, flags::UNMASK] {
                dut.expect(&Request::none(action, index, 0, 1), Answer::ENOTTY)?;
                dut.expect(&Request::bools(action, index, 0, &[1]), Answer::ENOTTY)?;
                dut.expect(&Request::fds(action, index, 0, &[fd]), Answer::ENOTTY)?;
            }
        }
        dut.loops_to(index, 0, &[fd], &[])
    }

    /// A start above 0 or a count above 1 is EINVAL.
    fn e02_more_than_one_is_einval(dut, index on ERR_AND_REQ) {
        let fd = dut.fd()?;
        dut.expect(&Request::attach(index, 1, &[fd]), Answer::EINVAL)?;
        dut.expect(&Request::attach(index, 0, &[fd, fd]), Answer::EINVAL)?;
        dut.expect(&Request::loopback(index, 0, 2), Answer::EINVAL)
    }

    /// A descriptor sets, another replaces, -1 clears, also if unset.
    fn e03_set_replace_clear(dut, index on ERR_AND_REQ) {
        let [first, second] = dut.fds()?;
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        dut.ok(&Request::attach(index, 0, &[first]))?;
        dut.loops_to(index, 0, &[first], &[second])?;
        dut.ok(&Request::attach(index, 0, &[second]))?;
        dut.loops_to(index, 0, &[second], &[first])?;
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        dut.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)
    }

    /// A value below -1 is EINVAL, a closed descriptor EBADF, a file that is no eventfd EINVAL; the
    /// trigger stays.
    fn e03_bad_descriptors(dut, index on ERR_AND_REQ) {
        let (fd, other) = (dut.fd()?, dut.target.other_file()?);
        dut.ok(&Request::attach(index, 0, &[fd]))?;
        // Linux before 6.5 ignores a value below -1.
        let below = if dut.target.is_before_linux(6, 5) { Answer::OK } else { Answer::EINVAL };
        for (bad, expected) in [
            (-2, below),
            (i32::MIN, below),
            (CLOSED, Answer::EBADF),
            (other, Answer::EINVAL),
        ] {
            dut.expect(&Request::attach(index, 0, &[bad]), expected)?;
        }
        dut.loops_to(index, 0, &[fd], &[])
    }

    /// EVENTFD and BOOL with count 0 are EINVAL.
    fn e03_empty_is_einval(dut, index on ERR_AND_REQ) {
        dut.expect(&Request::attach(index, 0, &[]), Answer::EINVAL)?;
        dut.expect(&Request::bools(flags::TRIGGER, index, 0, &[]), Answer::EINVAL)
    }

    /// NONE signals or clears, and is EINVAL if unset.
    fn e04_none(dut, index on ERR_AND_REQ) {
        let fd = dut.fd()?;
        for count in [0, 1] {
            dut.expect(&Request::loopback(index, 0, count), Answer::EINVAL)?;
        }
        dut.ok(&Request::attach(index, 0, &[fd]))?;
        dut.loops_to(index, 0, &[fd], &[])?;
        dut.ok(&Request::disable(index))?;
        dut.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)?;
        dut.signalled(fd, 0, "after it was cleared")
    }

    /// BOOL signals if it is not zero, and succeeds if unset.
    fn e05_bool(dut, index on ERR_AND_REQ) {
        let fd = dut.fd()?;
        let bools = |value| Request::bools(flags::TRIGGER, index, 0, &[value]);
        dut.ok(&bools(0))?;
        dut.ok(&bools(1))?;
        dut.ok(&Request::attach(index, 0, &[fd]))?;
        dut.ok(&bools(0))?;
        dut.signalled(fd, 0, "a BOOL of zero")?;
        dut.ok(&bools(1))?;
        dut.ok(&bools(255))?;
        dut.signalled(fd, 2, "two BOOLs that are not zero")
    }

    /// ERR and REQ can be set while vectors are in use.
    fn e03_beside_vectors(dut, index, _ in 1..) {
        need(dut.has(Index::Err)?, "Linux 6.12 and before have ERR on PCI Express only")?;
        let [vector, err, req] = dut.fds()?;
        dut.attach(index, 0, &[vector])?;
        dut.ok(&Request::attach(Index::Err, 0, &[err]))?;
        dut.ok(&Request::attach(Index::Req, 0, &[req]))?;
        dut.loops_to(Index::Err, 0, &[err], &[vector, req])?;
        dut.loops_to(index, 0, &[vector], &[err, req])?;
        dut.ok(&Request::disable(index))?;
        dut.loops_to(Index::Req, 0, &[req], &[vector, err])
    }
}
