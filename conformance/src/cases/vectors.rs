//! MSI and MSI-X, the rules V that both share.

use super::stage::{CLOSED, check, need};
use super::{Stage, Verdict, cases};
use crate::{Answer, Index, Request, flags};

/// Attaches four eventfds to the first four vectors. Returns the eventfds.
fn four(stage: &mut Stage<'_>, index: Index) -> Result<[i32; 4], super::Stop> {
    let fds = [stage.fd()?, stage.fd()?, stage.fd()?, stage.fd()?];
    stage.attach(index, 0, &fds)?;
    Ok(fds)
}

fn excluded(stage: &mut Stage<'_>, active: Index, other: Index) -> Verdict {
    let (mine, theirs) = (stage.fd()?, stage.fd()?);
    stage.attach(active, 0, &[mine])?;
    for request in [
        Request::attach(other, 0, &[theirs]),
        Request::attach(other, 0, &[-1]),
        Request::attach(other, 0, &[]),
        Request::attach(other, 0, &[CLOSED]),
        Request::disable(other),
        Request::loopback(other, 0, 1),
        Request::bools(flags::TRIGGER, other, 0, &[0]),
    ] {
        stage.expect(&request, Answer::EINVAL)?;
    }
    stage.loops_to(active, 0, &[mine], &[theirs])?;
    stage.ok(&Request::disable(active))
}

cases! {
    /// While one of INTx, MSI and MSI-X is active, every request of the others is EINVAL.
    fn v02_one_at_a_time(stage) {
        let all = [Index::Intx, Index::Msi, Index::Msix];
        let mut there = Vec::new();
        for index in all {
            if stage.info(index)?.count > 0 {
                there.push(index);
            }
        }
        need(there.len() >= 2, "the device has one of INTx, MSI and MSI-X only")?;
        let pairs = there.iter().flat_map(|a| there.iter().map(move |b| (*a, *b)));
        let mut played = false;
        for (active, other) in pairs.filter(|(active, other)| active != other) {
            match excluded(stage, active, other) {
                Err(super::Stop::NotApplicable(_)) => {}
                verdict => {
                    verdict.map_err(|stop| match stop {
                        super::Stop::Broken(why) => super::Stop::Broken(format!(
                            "{other:?} while {active:?} is active: {why}"
                        )),
                        other => other,
                    })?;
                    played = true;
                }
            }
        }
        need(played, "none of them can be enabled")
    }

    /// NONE with count 0 disables the index with all its vectors; EINVAL if idle.
    fn v03_disable(stage) {
        stage.each(4, |stage, index, _| {
            stage.expect(&Request::disable(index), Answer::EINVAL)?;
            for _ in 0..2 {
                let fds = four(stage, index)?;
                stage.ok(&Request::disable(index))?;
                stage.idle(index, "after it was disabled")?;
                stage.expect(&Request::disable(index), Answer::EINVAL)?;
                fds.into_iter().try_for_each(|fd| stage.signalled(fd, 0, "disabled"))?;
            }
            Ok(())
        })
    }

    /// The start of a request that disables is ignored.
    fn v03_start_is_ignored(stage) {
        stage.each(4, |stage, index, count| {
            for start in [1, 3, count - 1] {
                four(stage, index)?;
                stage.ok(&Request::none(flags::TRIGGER, index, start, 0))?;
                stage.idle(index, "after it was disabled with a start")?;
            }
            Ok(())
        })
    }

    /// Loopback with NONE signals each vector of the range that has a trigger, and no other vector.
    fn v04_loopback_of_a_range(stage) {
        stage.each(4, |stage, index, count| {
            let fds = four(stage, index)?;
            stage.ok(&Request::attach(index, 2, &[-1]))?;
            stage.ok(&Request::loopback(index, 1, 3))?;
            for (fd, times) in fds.into_iter().zip([0, 1, 0, 1]) {
                stage.signalled(fd, times, "loopback of 1..4 without 2")?;
            }
            stage.ok(&Request::loopback(index, 0, count))?;
            for (fd, times) in fds.into_iter().zip([1, 1, 0, 1]) {
                stage.signalled(fd, times, "loopback of all")?;
            }
            Ok(())
        })
    }

    /// Loopback with BOOL signals the vectors whose byte is not zero.
    fn v04_loopback_of_some(stage) {
        stage.each(4, |stage, index, _| {
            let fds = four(stage, index)?;
            stage.ok(&Request::bools(flags::TRIGGER, index, 1, &[255, 0, 1]))?;
            for (fd, times) in fds.into_iter().zip([0, 1, 0, 1]) {
                stage.signalled(fd, times, "loopback of 1 and 3")?;
            }
            stage.ok(&Request::bools(flags::TRIGGER, index, 0, &[]))
        })
    }

    /// Loopback of an idle index is EINVAL.
    fn v04_loopback_when_idle(stage) {
        stage.each(1, |stage, index, _| {
            stage.expect(&Request::loopback(index, 0, 1), Answer::EINVAL)?;
            stage.expect(&Request::bools(flags::TRIGGER, index, 0, &[1]), Answer::EINVAL)?;
            stage.expect(&Request::bools(flags::TRIGGER, index, 0, &[]), Answer::EINVAL)
        })
    }

    /// The first request allocates start + count vectors and attaches those with a descriptor.
    fn v05_enable_allocates_up_to_the_end(stage) {
        stage.each(4, |stage, index, _| {
            let (first, last) = (stage.fd()?, stage.fd()?);
            stage.attach(index, 1, &[first, -1, last])?;
            if let Some(allocated) = stage.target.allocated() {
                check(allocated == 4, || format!("{allocated} vectors are allocated, not 4"))?;
            }
            stage.loops_to(index, 0, &[], &[first, last])?;
            stage.loops_to(index, 1, &[first], &[last])?;
            stage.loops_to(index, 2, &[], &[first, last])?;
            stage.loops_to(index, 3, &[last], &[first])
        })
    }

    /// Count 0 with start k allocates k and attaches none.
    fn v05_count_zero_attaches_none(stage) {
        stage.each(4, |stage, index, _| {
            stage.attach(index, 3, &[])?;
            if let Some(allocated) = stage.target.allocated() {
                check(allocated == 3, || format!("{allocated} vectors are allocated, not 3"))?;
            }
            let fds = stage.fds(3)?;
            stage.ok(&Request::attach(index, 0, &fds))?;
            stage.all_attached(index, &fds)
        })
    }

    /// start = count = 0 is ERANGE, and the index stays idle.
    fn v05_nothing_is_erange(stage) {
        stage.each(1, |stage, index, _| {
            stage.expect(&Request::attach(index, 0, &[]), Answer::ERANGE)?;
            stage.idle(index, "after ERANGE")
        })
    }

    /// A first request with a bad descriptor leaves the index idle and allocates nothing.
    fn v05_failed_enable_leaves_idle(stage) {
        stage.each(4, |stage, index, _| {
            let fds = stage.fds(2)?;
            let [first, last] = fds[..] else { return Ok(()) };
            stage.attach(index, 0, &fds)?;
            stage.ok(&Request::disable(index))?;
            stage.expect(&Request::attach(index, 0, &[first, CLOSED, last]), Answer::EBADF)?;
            stage.idle(index, "after a failed enable")?;
            if let Some(allocated) = stage.target.allocated() {
                check(allocated == 0, || format!("{allocated} vectors are still allocated"))?;
            }
            stage.attach(index, 0, &[first, last])?;
            stage.all_attached(index, &fds)
        })
    }

    /// A descriptor attaches or replaces, a value below zero detaches, in one request.
    fn v07_attach_replace_detach(stage) {
        stage.each(4, |stage, index, _| {
            let [zero, one, two, three] = four(stage, index)?;
            let new = stage.fd()?;
            stage.ok(&Request::attach(index, 0, &[-1, new, two, i32::MIN]))?;
            stage.loops_to(index, 0, &[], &[zero, one, two, three, new])?;
            stage.loops_to(index, 1, &[new], &[zero, one, two, three])?;
            stage.loops_to(index, 2, &[two], &[zero, one, three, new])?;
            stage.loops_to(index, 3, &[], &[zero, one, two, three, new])?;
            stage.ok(&Request::attach(index, 0, &[zero]))?;
            stage.loops_to(index, 0, &[zero], &[one, two, three, new])
        })
    }

    /// Detaching a vector that was never attached succeeds.
    fn v07_detach_of_nothing(stage) {
        stage.each(4, |stage, index, count| {
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            stage.ok(&Request::attach(index, 0, &[fd, -1, -1, -1]))?;
            stage.ok(&Request::attach(index, count - 1, &[-1]))?;
            stage.ok(&Request::attach(index, 2, &[]))?;
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// Two vectors may swap their triggers in one request.
    fn v07_swap(stage) {
        stage.each(2, |stage, index, _| {
            let (a, b) = (stage.fd()?, stage.fd()?);
            stage.attach(index, 0, &[a, b])?;
            stage.ok(&Request::attach(index, 0, &[b, a]))?;
            stage.loops_to(index, 0, &[b], &[a])?;
            stage.loops_to(index, 1, &[a], &[b])
        })
    }

    /// An interrupt of the device signals the trigger of its vector; after a replacement, the new
    /// trigger.
    fn v07_device_interrupts(stage) {
        stage.each(1, |stage, index, count| {
            let vectors = stage.target.reach(index).min(count).min(6);
            need(vectors > 0, "nothing raises this index here")?;
            let (first, second) = (stage.fds(vectors)?, stage.fds(vectors)?);
            stage.attach(index, 0, &first)?;
            stage.ready(index, vectors, &first)?;
            for fds in [&first, &second, &first] {
                stage.ok(&Request::attach(index, 0, fds))?;
                for (vector, fd) in (0..).zip(fds.iter()) {
                    stage.delivers(index, vector, *fd)?;
                }
            }
            first.iter().chain(&second).try_for_each(|fd| stage.signalled(*fd, 0, "nothing more"))
        })
    }

    /// -1 on vector 0 enables the index with nothing attached; it must be disabled by index.
    fn v09_minus_one_enables(stage) {
        stage.each(2, |stage, index, _| {
            stage.attach(index, 0, &[-1])?;
            check(stage.active(index)?, || "the index is not active".into())?;
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            check(stage.active(index)?, || "detaching turned it off".into())?;
            stage.ok(&Request::disable(index))?;
            stage.idle(index, "after it was disabled")
        })
    }

    /// A detached vector stays allocated, and the index stays active with the last vector detached.
    fn v09_detached_stays_allocated(stage) {
        stage.each(4, |stage, index, _| {
            let fds = four(stage, index)?;
            let before = stage.target.allocated();
            stage.ok(&Request::attach(index, 0, &[-1, -1, -1, -1]))?;
            let after = stage.target.allocated();
            check(before == after, || format!("allocated before {before:?}, after {after:?}"))?;
            check(stage.active(index)?, || "detaching all turned it off".into())?;
            stage.ok(&Request::attach(index, 0, &fds))?;
            stage.all_attached(index, &fds)
        })
    }

    /// Two vectors may share an eventfd.
    fn v09_shared_eventfd(stage) {
        stage.each(2, |stage, index, _| {
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd, fd])?;
            stage.ok(&Request::loopback(index, 0, 2))?;
            stage.signalled(fd, 2, "both vectors were looped back")?;
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            stage.loops_to(index, 1, &[fd], &[])
        })
    }

    /// A closed descriptor is EBADF, a file that is no eventfd EINVAL, idle and active.
    fn v10_bad_descriptors(stage) {
        stage.each(2, |stage, index, _| {
            let other = stage.target.other_file()?;
            let fd = stage.fd()?;
            let bad = [(CLOSED, Answer::EBADF), (other, Answer::EINVAL)];
            stage.attach(index, 0, &[fd, -1])?;
            for (bad, expected) in bad {
                stage.expect(&Request::attach(index, 1, &[bad]), expected)?;
                stage.loops_to(index, 0, &[fd], &[])?;
            }
            stage.ok(&Request::disable(index))?;
            for (bad, expected) in bad {
                stage.expect(&Request::attach(index, 0, &[bad]), expected)?;
                stage.idle(index, "after a bad descriptor")?;
            }
            Ok(())
        })
    }
}
