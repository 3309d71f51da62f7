//! All or nothing, and replacing triggers: rules B-01 and B-02. Where Linux differs, the cases
//! prove Linux's behaviour too, so that the difference stays known.

use super::dut::{CLOSED, check, need, same};
use super::{Dut, Verdict, cases};
use crate::{Answer, Index, Request};

/// Sends a request over all vectors whose `bad`-th descriptor is not open. Fails unless every
/// vector is as before. In Linux, the vectors up to the bad one are dead.
fn refused_in_the_middle(dut: &mut Dut<'_>, index: Index, fds: &[i32; 6], bad: usize) -> Verdict {
    let replacements: [_; 6] = dut.fds()?;
    let mut sent = replacements;
    sent[bad] = CLOSED;
    dut.expect(&Request::attach(index, 0, &sent), Answer::EBADF)?;
    if dut.beyond() {
        return dut.all_attached(index, fds);
    }
    for (vector, (at, fd)) in (0..).zip(fds.iter().enumerate()) {
        let reached: &[i32] = if at > bad { &[*fd] } else { &[] };
        dut.loops_to(index, vector, reached, &replacements)?;
    }
    Ok(())
}

cases! {
    /// A bad descriptor anywhere in a request leaves every trigger as it was. (Linux: the vectors
    /// up to it are dead.)
    fn b01_bad_descriptor_changes_nothing(dut, index, _ in 6..) {
        for bad in [0, 4, 5] {
            let fds: [_; 6] = dut.attached(index)?;
            refused_in_the_middle(dut, index, &fds, bad)?;
            dut.ok(&Request::disable(index))?;
        }
        Ok(())
    }

    /// A bad descriptor does not stop the device's interrupts of any vector.
    fn b01_interrupts_still_arrive(dut, index, _ in 6..) {
        need(dut.target.reach(index) >= 6, "nothing raises that many vectors here")?;
        // When the first vector of MSI loses its handler, Linux clears the message of all.
        let message_stays = dut.beyond() || index != Index::Msi;
        need(message_stays, "Linux kills the first vector here, and with it MSI's message")?;
        let fds: [_; 6] = dut.attached(index)?;
        dut.ready(index, 6, &fds)?;
        let [a, b, c, d, ..] = fds;
        let bad = [a, b, c, d, CLOSED, -1];
        dut.expect(&Request::attach(index, 0, &bad), Answer::EBADF)?;
        let alive = if dut.beyond() { 0..6 } else { 5..6 };
        for (vector, fd) in (0..).zip(&fds).filter(|(vector, _)| alive.contains(vector)) {
            dut.delivers(index, vector, *fd)?;
        }
        Ok(())
    }

    /// A request that detaches, replaces and adds, and fails, does none of them.
    fn b01_mixed_request_changes_nothing(dut, index, _ in 6..) {
        need(dut.beyond(), "Linux kills vectors here, as b01_bad_descriptor proves")?;
        let fds: [_; 3] = dut.fds()?;
        let new = dut.fd()?;
        dut.attach(index, 0, &fds)?;
        let before = dut.target.allocated();
        let answer = dut.send(&Request::attach(index, 0, &[-1, new, new, new, -1, CLOSED]))?;
        // With NORESIZE, the core refuses the vector beyond the set before it looks at the bad
        // descriptor.
        let few = matches!(answer, Answer::EBADF | Answer::EINVAL | Answer::ENOSPC);
        check(few, || format!("it answered {answer}"))?;
        let after = dut.target.allocated();
        same("allocated", &before, &after)?;
        dut.all_attached(index, &fds)?;
        dut.loops_to(index, 3, &[], &[new])
    }

    /// A request that reaches beyond a set changes no vector inside it.
    fn b01_too_long_changes_nothing(dut, index, _ in 4..) {
        need(dut.beyond(), "Linux kills vectors here, as b01_bad_descriptor proves")?;
        need(!dut.dynamic(index)?, "the index is dynamic")?;
        let (fds, new) = (dut.many_fds(2)?, dut.many_fds(4)?);
        dut.attach(index, 0, &fds)?;
        dut.expect(&Request::attach(index, 0, &new), Answer::EINVAL)?;
        dut.all_attached(index, &fds)
    }

    /// Attaching the eventfd that is attached already changes nothing.
    fn b02_same_eventfd(dut, index, _ in 2..) {
        let fds: [_; 2] = dut.attached(index)?;
        let before = dut.target.counted(0);
        dut.ok(&Request::attach(index, 0, &fds))?;
        let after = dut.target.counted(0);
        same("counted", &before, &after)?;
        dut.all_attached(index, &fds)
    }

    /// Interrupts between replacements of a trigger all arrive.
    fn b02_interrupts_between_replacements(dut, index, _ in 1..) {
        need(dut.target.reach(index) > 0, "nothing raises this index here")?;
        let [a, b] = dut.fds()?;
        dut.attach(index, 0, &[a])?;
        dut.ready(index, 1, &[a])?;
        for fd in [b, a].into_iter().cycle().take(50) {
            dut.ok(&Request::attach(index, 0, &[fd]))?;
            dut.delivers(index, 0, fd)?;
        }
        [a, b].into_iter().try_for_each(|fd| dut.signalled(fd, 0, "nothing more"))
    }
}
