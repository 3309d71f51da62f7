//! MSI and MSI-X, the rules V that both share.

use super::dut::{CLOSED, check, need, same};
use super::{Dut, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

fn excluded(dut: &mut Dut<'_>, active: Index, other: Index) -> Verdict {
    let [mine, theirs] = dut.fds()?;
    dut.attach(active, 0, &[mine])?;
    for request in [
        Request::attach(other, 0, &[theirs]),
        Request::attach(other, 0, &[-1]),
        Request::attach(other, 0, &[]),
        Request::attach(other, 0, &[CLOSED]),
        Request::disable(other),
        Request::loopback(other, 0, 1),
        Request::bools(flags::TRIGGER, other, 0, &[0]),
    ] {
        dut.expect(&request, Answer::EINVAL)?;
    }
    dut.loops_to(active, 0, &[mine], &[theirs])?;
    dut.ok(&Request::disable(active))
}

cases! {
    /// While one of INTx, MSI and MSI-X is active, every request of the others is EINVAL.
    fn v02_one_at_a_time(dut) {
        let all = [Index::Intx, Index::Msi, Index::Msix];
        let pairs = all.iter().flat_map(|active| all.map(|other| (*active, other)));
        let mut tried = false;
        for (active, other) in pairs.filter(|(active, other)| active != other) {
            if dut.info(active)?.count == 0 || dut.info(other)?.count == 0 {
                continue;
            }
            match excluded(dut, active, other) {
                Err(Stop::NotApplicable(_)) => {}
                Err(stop) => return Err(stop.at(&format!("{other:?} while {active:?} is active"))),
                Ok(()) => tried = true,
            }
        }
        need(tried, "no two of INTx, MSI and MSI-X can be enabled")
    }

    /// NONE with count 0 disables the index with all its vectors; EINVAL if idle.
    fn v03_disable(dut, index, _ in 4..) {
        dut.expect(&Request::disable(index), Answer::EINVAL)?;
        for _ in 0..2 {
            let fds: [_; 4] = dut.attached(index)?;
            dut.ok(&Request::disable(index))?;
            dut.idle(index, "after it was disabled")?;
            dut.expect(&Request::disable(index), Answer::EINVAL)?;
            fds.into_iter().try_for_each(|fd| dut.signalled(fd, 0, "disabled"))?;
        }
        Ok(())
    }

    /// The start of a request that disables is ignored.
    fn v03_start_is_ignored(dut, index, count in 4..) {
        for start in [1, 3, count - 1] {
            dut.attached::<4>(index)?;
            dut.ok(&Request::none(flags::TRIGGER, index, start, 0))?;
            dut.idle(index, "after it was disabled with a start")?;
        }
        Ok(())
    }

    /// Loopback with NONE signals each vector of the range that has a trigger, and no other vector.
    fn v04_loopback_of_a_range(dut, index, count in 4..) {
        let fds: [_; 4] = dut.attached(index)?;
        dut.ok(&Request::attach(index, 2, &[-1]))?;
        dut.ok(&Request::loopback(index, 1, 3))?;
        for (fd, times) in fds.into_iter().zip([0, 1, 0, 1]) {
            dut.signalled(fd, times, "loopback of 1..4 without 2")?;
        }
        let all = if count > 4 { dut.of_unallocated() } else { Answer::OK };
        dut.expect(&Request::loopback(index, 0, count), all)?;
        let once = u64::from(all == Answer::OK);
        for (fd, times) in fds.into_iter().zip([once, once, 0, once]) {
            dut.signalled(fd, times, "loopback of all")?;
        }
        Ok(())
    }

    /// Loopback with BOOL signals the vectors whose byte is not zero.
    fn v04_loopback_of_some(dut, index, _ in 4..) {
        let fds: [_; 4] = dut.attached(index)?;
        dut.ok(&Request::bools(flags::TRIGGER, index, 1, &[255, 0, 1]))?;
        for (fd, times) in fds.into_iter().zip([0, 1, 0, 1]) {
            dut.signalled(fd, times, "loopback of 1 and 3")?;
        }
        dut.ok(&Request::bools(flags::TRIGGER, index, 0, &[]))
    }

    /// Loopback of an idle index is EINVAL.
    fn v04_loopback_when_idle(dut, index, _ in 1..) {
        dut.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)?;
        dut.expect(&Request::bools(flags::TRIGGER, index, 0, &[1]), Answer::EINVAL)?;
        dut.expect(&Request::bools(flags::TRIGGER, index, 0, &[]), Answer::EINVAL)
    }

    /// The first request allocates start + count vectors and attaches those with a descriptor.
    fn v05_enable_allocates_up_to_the_end(dut, index, _ in 4..) {
        let [first, last] = dut.fds()?;
        dut.attach(index, 1, &[first, -1, last])?;
        dut.allocates(4)?;
        dut.loops_to(index, 0, &[], &[first, last])?;
        dut.loops_to(index, 1, &[first], &[last])?;
        dut.loops_to(index, 2, &[], &[first, last])?;
        dut.loops_to(index, 3, &[last], &[first])
    }

    /// Count 0 with start k allocates k and attaches none.
    fn v05_count_zero_attaches_none(dut, index, _ in 4..) {
        if dut.of_unallocated() != Answer::OK {
            return dut.expect(&Request::attach(index, 3, &[]), Answer::EINVAL);
        }
        dut.attach(index, 3, &[])?;
        dut.allocates(3)?;
        let fds: [_; 3] = dut.fds()?;
        dut.ok(&Request::attach(index, 0, &fds))?;
        dut.all_attached(index, &fds)
    }

    /// start = count = 0 is ERANGE, and the index stays idle.
    fn v05_nothing_is_erange(dut, index, _ in 1..) {
        dut.expect(&Request::attach(index, 0, &[]), Answer::ERANGE)?;
        dut.idle(index, "after ERANGE")
    }

    /// A first request with a bad descriptor leaves the index idle and allocates nothing.
    fn v05_failed_enable_leaves_idle(dut, index, _ in 4..) {
        let fds @ [first, last] = dut.attached(index)?;
        dut.ok(&Request::disable(index))?;
        dut.expect(&Request::attach(index, 0, &[first, CLOSED, last]), Answer::EBADF)?;
        dut.idle(index, "after a failed enable")?;
        dut.allocates(0)?;
        dut.attach(index, 0, &[first, last])?;
        dut.all_attached(index, &fds)
    }

    /// A descriptor attaches or replaces, a value below zero detaches, in one request.
    fn v07_attach_replace_detach(dut, index, _ in 4..) {
        let [zero, one, two, three] = dut.attached(index)?;
        let new = dut.fd()?;
        dut.ok(&Request::attach(index, 0, &[-1, new, two, i32::MIN]))?;
        dut.loops_to(index, 0, &[], &[zero, one, two, three, new])?;
        dut.loops_to(index, 1, &[new], &[zero, one, two, three])?;
        dut.loops_to(index, 2, &[two], &[zero, one, three, new])?;
        dut.loops_to(index, 3, &[], &[zero, one, two, three, new])?;
        dut.ok(&Request::attach(index, 0, &[zero]))?;
        dut.loops_to(index, 0, &[zero], &[one, two, three, new])
    }

    /// Detaching a vector that was never attached succeeds.
    fn v07_detach_of_nothing(dut, index, count in 4..) {
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd])?;
        let unallocated = dut.of_unallocated();
        dut.expect(&Request::attach(index, 0, &[fd, -1, -1, -1]), unallocated)?;
        dut.expect(&Request::attach(index, count - 1, &[-1]), unallocated)?;
        dut.expect(&Request::attach(index, 2, &[]), unallocated)?;
        dut.loops_to(index, 0, &[fd], &[])
    }

    /// Two vectors may swap their triggers in one request.
    fn v07_swap(dut, index, _ in 2..) {
        let [a, b] = dut.fds()?;
        dut.attach(index, 0, &[a, b])?;
        dut.ok(&Request::attach(index, 0, &[b, a]))?;
        dut.loops_to(index, 0, &[b], &[a])?;
        dut.loops_to(index, 1, &[a], &[b])
    }

    /// An interrupt of the device signals the trigger of its vector; after a replacement, the new
    /// trigger.
    fn v07_device_interrupts(dut, index, count in 1..) {
        let vectors = dut.target.reach(index).min(count).min(6);
        need(vectors > 0, "nothing raises this index here")?;
        let (first, second) = (dut.many_fds(vectors)?, dut.many_fds(vectors)?);
        dut.attach(index, 0, &first)?;
        dut.ready(index, vectors, &first)?;
        for fds in [&first, &second, &first] {
            dut.ok(&Request::attach(index, 0, fds))?;
            for (vector, fd) in (0..).zip(fds.iter()) {
                dut.delivers(index, vector, *fd)?;
            }
        }
        first.iter().chain(&second).try_for_each(|fd| dut.signalled(*fd, 0, "nothing more"))
    }

    /// -1 on vector 0 enables the index with nothing attached; it must be disabled by index.
    fn v09_minus_one_enables(dut, index, _ in 2..) {
        dut.attach(index, 0, &[-1])?;
        check(dut.active(index)?, || "the index is not active".into())?;
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        check(dut.active(index)?, || "detaching turned it off".into())?;
        dut.ok(&Request::disable(index))?;
        dut.idle(index, "after it was disabled")
    }

    /// A detached vector stays allocated, and the index stays active with the last vector detached.
    fn v09_detached_stays_allocated(dut, index, _ in 4..) {
        let fds: [_; 4] = dut.attached(index)?;
        let before = dut.target.allocated();
        dut.ok(&Request::attach(index, 0, &[-1, -1, -1, -1]))?;
        let after = dut.target.allocated();
        same("allocated", &before, &after)?;
        check(dut.active(index)?, || "detaching all turned it off".into())?;
        dut.ok(&Request::attach(index, 0, &fds))?;
        dut.all_attached(index, &fds)
    }

    /// Two vectors may share an eventfd.
    fn v09_shared_eventfd(dut, index, _ in 2..) {
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd, fd])?;
        dut.ok(&Request::loopback(index, 0, 2))?;
        dut.signalled(fd, 2, "both vectors were looped back")?;
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        dut.loops_to(index, 1, &[fd], &[])
    }

    /// A closed descriptor is EBADF, a file that is no eventfd EINVAL, idle and active.
    fn v10_bad_descriptors(dut, index, _ in 2..) {
        let other = dut.target.other_file()?;
        let fd = dut.fd()?;
        let bad = [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)];
        dut.attach(index, 0, &[fd, -1])?;
        for (bad, expected) in bad {
            dut.expect(&Request::attach(index, 1, &[bad]), expected)?;
            dut.loops_to(index, 0, &[fd], &[])?;
        }
        dut.ok(&Request::disable(index))?;
        for (bad, expected) in bad {
            dut.expect(&Request::attach(index, 0, &[bad]), expected)?;
            dut.idle(index, "after a bad descriptor")?;
        }
        Ok(())
    }
}
