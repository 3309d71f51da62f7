//! How many vectors there are, adding more, and releasing detached ones: rules V-06, V-08 and B-04.

use super::dut::{check, need, same};
use super::{Dut, Stop, cases};
use crate::{Answer, Index, Request};

/// Attaches eventfds to the vectors from 0 on, one by one, until the machine has no interrupt left.
/// Returns the attached eventfds.
fn one_by_one(dut: &mut Dut<'_>, index: Index, count: u32) -> Result<Vec<i32>, Stop> {
    let mut fds = Vec::new();
    for vector in 0..count {
        let fd = dut.fd()?;
        match dut.send(&Request::attach(index, vector, &[fd]))? {
            Answer::OK => fds.push(fd),
            Answer::ENOSPC => break,
            answer => check(false, || format!("vector {vector} answered {answer}"))?,
        }
    }
    Ok(fds)
}

cases! {
    /// Too few vectors: a positive return, the number available, and nothing is enabled.
    fn v06_too_few_is_positive(dut, index, count in 2..) {
        let fds = dut.many_fds(count)?;
        let answer = dut.send(&Request::attach(index, 0, &fds))?;
        need(answer != Answer::OK, "the machine has as many vectors as the device")?;
        need(answer != Answer::ENOSPC, "the machine has none at all")?;
        let there = u32::try_from(answer.0).unwrap_or(0);
        check((1..count).contains(&there), || format!("it answered {answer}"))?;
        dut.idle(index, "after a positive return")?;
        let few = usize::try_from(there).unwrap_or(0);
        dut.ok(&Request::attach(index, 0, fds.get(..few).unwrap_or_default()))
    }

    /// No vector at all: ENOSPC, and nothing is enabled.
    fn v06_none_is_enospc(dut, index, _ in 1..) {
        let fd = dut.fd()?;
        let answer = dut.send(&Request::attach(index, 0, &[fd]))?;
        need(answer != Answer::OK, "the machine has vectors")?;
        check(answer == Answer::ENOSPC, || format!("it answered {answer}"))?;
        dut.idle(index, "after ENOSPC")
    }

    /// With NORESIZE, a vector beyond those allocated is EINVAL, and detaching it succeeds.
    fn v08_beyond_a_set_is_einval(dut, index, count in 4..) {
        need(!dut.dynamic(index)?, "the index is dynamic")?;
        let (fds, more) = (dut.many_fds(2)?, dut.fd()?);
        dut.attach(index, 0, &fds)?;
        for vector in [2, 3, count - 1] {
            dut.expect(&Request::attach(index, vector, &[more]), Answer::EINVAL)?;
            let unallocated = dut.of_unallocated();
            dut.expect(&Request::attach(index, vector, &[-1]), unallocated)?;
        }
        dut.all_attached(index, &fds)
    }

    /// Without NORESIZE, a vector beyond those allocated is allocated now, alone.
    fn v08_grows_one_by_one(dut, index, count in 4..) {
        need(dut.dynamic(index)?, "the index is a set")?;
        let [first, last, middle] = dut.fds()?;
        dut.attach(index, 0, &[first])?;
        for (vector, fd, total) in [(count - 1, last, 2), (2, middle, 3)] {
            dut.attach(index, vector, &[fd])?;
            dut.allocates(total)?;
        }
        dut.loops_to(index, 0, &[first], &[middle, last])?;
        dut.loops_to(index, 2, &[middle], &[first, last])?;
        dut.loops_to(index, count - 1, &[last], &[first, middle])
    }

    /// Adding a vector does not disturb the others: their interrupts still arrive.
    fn v08_growing_disturbs_no_vector(dut) {
        let index = Index::Msix;
        need(dut.info(index)?.count >= 4, "the device has too few vectors of MSI-X")?;
        need(dut.dynamic(index)?, "the index is a set")?;
        need(dut.target.reach(index) >= 4, "nothing raises that many vectors here")?;
        let fds: [_; 4] = dut.fds()?;
        for (vector, fd) in (0..).zip(&fds) {
            dut.attach(index, vector, &[*fd])?;
            dut.ready(index, vector + 1, &fds)?;
            for (vector, fd) in (0..=vector).zip(&fds) {
                dut.delivers(index, vector, *fd)?;
            }
        }
        Ok(())
    }

    /// All vectors of the table can be added one by one without disabling any.
    fn v08_grows_to_the_whole_table(dut, index, count in 2..) {
        need(dut.dynamic(index)?, "the index is a set")?;
        let fds = dut.many_fds(count)?;
        for (vector, fd) in (0..).zip(&fds) {
            dut.attach(index, vector, &[*fd])?;
        }
        dut.all_attached(index, &fds)
    }

    /// If no interrupt is left for a new vector: ENOSPC, and the others stay.
    fn v08_no_interrupt_left(dut) {
        let index = Index::Msix;
        let count = dut.info(index)?.count;
        need(count >= 2 && dut.dynamic(index)?, "no index is dynamic here")?;
        let fds = one_by_one(dut, index, count)?;
        need(!fds.is_empty(), "the machine has none at all")?;
        need(fds.len() < count as usize, "the machine has as many vectors as the device")?;
        dut.all_attached(index, &fds)
    }

    /// If the machine has no interrupt left, the host releases those of detached vectors for
    /// another vector. A request cannot use the interrupts of vectors that it detaches itself.
    fn b04_detached_go_back_when_needed(dut) {
        need(dut.beyond(), "Linux keeps what it allocated")?;
        let index = Index::Msix;
        let count = dut.info(index)?.count;
        need(dut.dynamic(index)?, "the index is a set")?;
        let fds = one_by_one(dut, index, count)?;
        let short = (3..count as usize).contains(&fds.len());
        need(short, "the machine is not short of interrupts")?;
        let (last, new) = (u32::try_from(fds.len()).unwrap_or(0) - 1, dut.fd()?);
        dut.expect(&Request::attach(index, last, &[-1, new]), Answer::ENOSPC)?;
        dut.all_attached(index, &fds)?;
        let before = dut.target.allocated();
        dut.ok(&Request::attach(index, 1, &[-1]))?;
        dut.ok(&Request::attach(index, last, &[-1]))?;
        let after = dut.target.allocated();
        same("allocated", &before, &after)?;
        dut.ok(&Request::attach(index, last + 1, &[new]))?;
        dut.loops_to(index, last + 1, &[new], &fds)?;
        dut.loops_to(index, 0, &fds[..1], &[new])?;
        // The host released one interrupt more, so one of the two vectors can be attached again.
        dut.ok(&Request::attach(index, 1, &fds[1..2]))?;
        dut.loops_to(index, 1, &fds[1..2], &[new])
    }
}
