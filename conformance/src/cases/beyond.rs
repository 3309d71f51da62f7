//! Beyond Linux, except for masks: rules B-01, B-02, B-04 and B-05. Where Linux differs, the cases
//! prove Linux's behaviour too, so that the difference stays known.

use super::stage::{CLOSED, check, need};
use super::{Stage, Verdict, cases};
use crate::{Answer, Index, Request};

/// Sends a request over all vectors whose `bad`-th descriptor is not open. Fails unless every
/// vector is as before. In Linux, the vectors up to the bad one are dead.
fn refused_in_the_middle(stage: &mut Stage<'_>, index: Index, fds: &[i32], bad: usize) -> Verdict {
    let replacements: Vec<_> = fds.iter().map(|_| stage.fd()).collect::<Result<_, _>>()?;
    let mut sent = replacements.clone();
    if let Some(fd) = sent.get_mut(bad) {
        *fd = CLOSED;
    }
    stage.expect(&Request::attach(index, 0, &sent), Answer::EBADF)?;
    if stage.beyond() {
        return stage.all_attached(index, fds);
    }
    for (vector, (at, fd)) in (0..).zip(fds.iter().enumerate()) {
        let reached: &[i32] = if at > bad { &[*fd] } else { &[] };
        stage.loops_to(index, vector, reached, &replacements)?;
    }
    Ok(())
}

cases! {
    /// A bad descriptor anywhere in a request leaves every trigger as it was. (Linux: the vectors
    /// up to it are dead.)
    fn b01_bad_descriptor_changes_nothing(stage) {
        stage.each(6, |stage, index, _| {
            for bad in [0, 4, 5] {
                let fds = stage.fds(6)?;
                stage.attach(index, 0, &fds)?;
                refused_in_the_middle(stage, index, &fds, bad)?;
                stage.ok(&Request::disable(index))?;
            }
            Ok(())
        })
    }

    /// A bad descriptor does not stop the device's interrupts of any vector.
    fn b01_interrupts_still_arrive(stage) {
        stage.each(6, |stage, index, _| {
            need(stage.target.reach(index) >= 6, "nothing raises that many vectors here")?;
            let fds = stage.fds(6)?;
            stage.attach(index, 0, &fds)?;
            stage.ready(index, 6, &fds)?;
            let mut bad = fds.clone();
            bad.truncate(4);
            bad.extend([CLOSED, -1]);
            stage.expect(&Request::attach(index, 0, &bad), Answer::EBADF)?;
            let alive = if stage.beyond() { 0..6 } else { 5..6 };
            for (vector, fd) in (0..).zip(&fds).filter(|(vector, _)| alive.contains(vector)) {
                stage.delivers(index, vector, *fd)?;
            }
            Ok(())
        })
    }

    /// A request that detaches, replaces and adds, and fails, does none of them.
    fn b01_mixed_request_changes_nothing(stage) {
        stage.each(6, |stage, index, _| {
            need(stage.beyond(), "Linux kills vectors here, as b01_bad_descriptor proves")?;
            let fds = stage.fds(3)?;
            let new = stage.fd()?;
            stage.attach(index, 0, &fds)?;
            let before = stage.target.allocated();
            let answer = stage.send(&Request::attach(index, 0, &[-1, new, new, new, -1, CLOSED]))?;
            // With NORESIZE, the core refuses the vector beyond the set before it looks at the bad
            // descriptor.
            let few = matches!(answer, Answer::EBADF | Answer::EINVAL | Answer::ENOSPC);
            check(few, || format!("it answered {answer}"))?;
            let after = stage.target.allocated();
            check(before == after, || format!("allocated before {before:?}, after {after:?}"))?;
            stage.all_attached(index, &fds)?;
            stage.loops_to(index, 3, &[], &[new])
        })
    }

    /// A request that reaches beyond a set changes no vector inside it.
    fn b01_too_long_changes_nothing(stage) {
        stage.each(4, |stage, index, _| {
            need(stage.beyond(), "Linux kills vectors here, as b01_bad_descriptor proves")?;
            need(!stage.dynamic(index)?, "the index is dynamic")?;
            let (fds, new) = (stage.fds(2)?, stage.fds(4)?);
            stage.attach(index, 0, &fds)?;
            stage.expect(&Request::attach(index, 0, &new), Answer::EINVAL)?;
            stage.all_attached(index, &fds)
        })
    }

    /// Attaching the eventfd that is attached already changes nothing.
    fn b02_same_eventfd(stage) {
        stage.each(2, |stage, index, _| {
            let fds = stage.fds(2)?;
            stage.attach(index, 0, &fds)?;
            let before = stage.target.counted(0);
            stage.ok(&Request::attach(index, 0, &fds))?;
            let after = stage.target.counted(0);
            check(before == after, || format!("counted {before:?}, then {after:?}"))?;
            stage.all_attached(index, &fds)
        })
    }

    /// Interrupts between replacements of a trigger all arrive.
    fn b02_interrupts_between_replacements(stage) {
        stage.each(1, |stage, index, _| {
            need(stage.target.reach(index) > 0, "nothing raises this index here")?;
            let (a, b) = (stage.fd()?, stage.fd()?);
            stage.attach(index, 0, &[a])?;
            stage.ready(index, 1, &[a])?;
            for fd in [b, a].into_iter().cycle().take(50) {
                stage.ok(&Request::attach(index, 0, &[fd]))?;
                stage.delivers(index, 0, fd)?;
            }
            [a, b].into_iter().try_for_each(|fd| stage.signalled(fd, 0, "nothing more"))
        })
    }

    /// If the machine has no interrupt left, the host releases those of detached vectors for
    /// another vector. A request cannot use the interrupts of vectors that it detaches itself.
    fn b04_detached_go_back_when_needed(stage) {
        need(stage.beyond(), "Linux keeps what it allocated")?;
        let index = Index::Msix;
        let count = stage.info(index)?.count;
        need(stage.dynamic(index)?, "the index is a set")?;
        let fds = stage.fds(count)?;
        let mut there = 0;
        for (vector, fd) in (0..).zip(&fds) {
            match stage.send(&Request::attach(index, vector, &[*fd]))? {
                Answer::OK => there += 1,
                answer => {
                    check(answer == Answer::ENOSPC, || format!("vector {vector}: {answer}"))?;
                    break;
                }
            }
        }
        need((3..fds.len()).contains(&there), "the machine is not short of interrupts")?;
        let (attached, more) = fds.split_at(there);
        let (last, new) = (u32::try_from(there).unwrap_or(0) - 1, more.first().copied());
        let new = new.unwrap_or(-1);
        stage.expect(&Request::attach(index, last, &[-1, new]), Answer::ENOSPC)?;
        stage.all_attached(index, attached)?;
        let before = stage.target.allocated();
        stage.ok(&Request::attach(index, 1, &[-1]))?;
        stage.ok(&Request::attach(index, last, &[-1]))?;
        let after = stage.target.allocated();
        check(before == after, || format!("allocated before {before:?}, after {after:?}"))?;
        stage.ok(&Request::attach(index, last + 1, &[new]))?;
        stage.loops_to(index, last + 1, &[new], attached)?;
        stage.loops_to(index, 0, fds.get(..1).unwrap_or_default(), &[new])?;
        // The host released one interrupt more, so one of the two vectors can be attached again.
        stage.ok(&Request::attach(index, 1, fds.get(1..2).unwrap_or_default()))?;
        stage.loops_to(index, 1, fds.get(1..2).unwrap_or_default(), &[new])
    }

    /// The host counts what requests do to a vector.
    fn b05_counted(stage) {
        let index = Index::Msix;
        need(stage.info(index)?.count >= 2, "the device has too few vectors of MSI-X")?;
        let fds = stage.fds(3)?;
        let [first, second, third] = fds[..] else { return Ok(()) };
        stage.attach(index, 0, &[first, second])?;
        need(stage.target.counted(1).is_some(), "no counters can be read here")?;
        stage.ok(&Request::attach(index, 1, &[third]))?;
        stage.ok(&Request::loopback(index, 0, 2))?;
        stage.ok(&Request::loopback(index, 1, 1))?;
        stage.ok(&Request::mask(index, 1, 1))?;
        stage.ok(&Request::mask(index, 1, 1))?;
        stage.ok(&Request::unmask(index, 0, 2))?;
        stage.expect(&Request::attach(index, 1, &[CLOSED]), Answer::EBADF)?;
        let counted = stage.target.counted(1).unwrap_or_default();
        let expected = crate::target::Counted {
            signals: counted.signals,
            masks: 1,
            unmasks: 1,
            retargets: 1,
            loopbacks: 2,
            failures: 1,
        };
        check(counted == expected, || format!("{counted:?}, not {expected:?}"))
    }

    /// The host counts the device's interrupts of each vector.
    fn b05_interrupts_are_counted(stage) {
        stage.each(2, |stage, index, _| {
            need(stage.target.reach(index) >= 2, "nothing raises that many vectors here")?;
            let fds = stage.fds(2)?;
            stage.attach(index, 0, &fds)?;
            stage.ready(index, 2, &fds)?;
            let signals = |stage: &Stage<'_>, vector| {
                stage.target.counted(vector).and_then(|counted| counted.signals)
            };
            let before = [signals(stage, 0), signals(stage, 1)];
            need(before[1].is_some(), "no counters can be read here")?;
            for _ in 0..5 {
                stage.delivers(index, 1, fds.last().copied().unwrap_or(-1))?;
            }
            let after = [signals(stage, 0), signals(stage, 1)];
            let right = after == [before[0], before[1].map(|before| before + 5)];
            check(right, || format!("counted {before:?}, and after five {after:?}"))
        })
    }
}
