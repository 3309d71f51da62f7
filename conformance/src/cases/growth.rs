//! The number of vectors, and adding more: rules V-06 and V-08.

use super::cases;
use super::stage::{check, need};
use crate::{Answer, Index, Request};

cases! {
    /// Too few vectors: a positive return, the number available, and nothing is enabled.
    fn v06_too_few_is_positive(stage) {
        stage.each(2, |stage, index, count| {
            let fds = stage.fds(count)?;
            let answer = stage.send(&Request::attach(index, 0, &fds))?;
            need(answer != Answer::OK, "the machine has as many vectors as the device")?;
            need(answer != Answer::ENOSPC, "the machine has none at all")?;
            let there = u32::try_from(answer.0).unwrap_or(0);
            check((1..count).contains(&there), || format!("it answered {answer}"))?;
            stage.idle(index, "after a positive return")?;
            let few = usize::try_from(there).unwrap_or(0);
            stage.ok(&Request::attach(index, 0, fds.get(..few).unwrap_or_default()))
        })
    }

    /// No vector at all: ENOSPC, and nothing is enabled.
    fn v06_none_is_enospc(stage) {
        stage.each(1, |stage, index, _| {
            let fd = stage.fd()?;
            let answer = stage.send(&Request::attach(index, 0, &[fd]))?;
            need(answer != Answer::OK, "the machine has vectors")?;
            check(answer == Answer::ENOSPC, || format!("it answered {answer}"))?;
            stage.idle(index, "after ENOSPC")
        })
    }

    /// With NORESIZE, a vector beyond those allocated is EINVAL, and detaching it succeeds.
    fn v08_beyond_a_set_is_einval(stage) {
        stage.each(4, |stage, index, count| {
            need(!stage.dynamic(index)?, "the index is dynamic")?;
            let (fds, more) = (stage.fds(2)?, stage.fd()?);
            stage.attach(index, 0, &fds)?;
            for vector in [2, 3, count - 1] {
                stage.expect(&Request::attach(index, vector, &[more]), Answer::EINVAL)?;
                stage.ok(&Request::attach(index, vector, &[-1]))?;
            }
            stage.all_attached(index, &fds)
        })
    }

    /// Without NORESIZE, a vector beyond those allocated is allocated now, alone.
    fn v08_grows_one_by_one(stage) {
        stage.each(4, |stage, index, count| {
            need(stage.dynamic(index)?, "the index is a set")?;
            let (first, last, middle) = (stage.fd()?, stage.fd()?, stage.fd()?);
            stage.attach(index, 0, &[first])?;
            for (vector, fd, total) in [(count - 1, last, 2), (2, middle, 3)] {
                stage.attach(index, vector, &[fd])?;
                if let Some(allocated) = stage.target.allocated() {
                    check(allocated == total, || format!("{allocated} allocated, not {total}"))?;
                }
            }
            stage.loops_to(index, 0, &[first], &[middle, last])?;
            stage.loops_to(index, 2, &[middle], &[first, last])?;
            stage.loops_to(index, count - 1, &[last], &[first, middle])
        })
    }

    /// Adding a vector does not disturb the others: their interrupts still arrive.
    fn v08_growing_disturbs_nobody(stage) {
        let index = Index::Msix;
        need(stage.info(index)?.count >= 4, "the device has too few vectors of MSI-X")?;
        need(stage.dynamic(index)?, "the index is a set")?;
        need(stage.target.reach(index) >= 4, "nothing raises that many vectors here")?;
        let fds = stage.fds(4)?;
        for (vector, fd) in (0..).zip(&fds) {
            stage.attach(index, vector, &[*fd])?;
            stage.ready(index, vector + 1, &fds)?;
            for (vector, fd) in (0..=vector).zip(&fds) {
                stage.delivers(index, vector, *fd)?;
            }
        }
        Ok(())
    }

    /// All vectors of the table can be added one by one without disabling any.
    fn v08_grows_to_the_whole_table(stage) {
        stage.each(2, |stage, index, count| {
            need(stage.dynamic(index)?, "the index is a set")?;
            let fds = stage.fds(count)?;
            for (vector, fd) in (0..).zip(&fds) {
                stage.attach(index, vector, &[*fd])?;
            }
            stage.all_attached(index, &fds)
        })
    }

    /// If no interrupt is left for a new vector: ENOSPC, and the others stay.
    fn v08_no_interrupt_left(stage) {
        let index = Index::Msix;
        let count = stage.info(index)?.count;
        need(count >= 2 && stage.dynamic(index)?, "no index is dynamic here")?;
        let fds = stage.fds(count)?;
        for (vector, fd) in (0..).zip(&fds) {
            let answer = stage.send(&Request::attach(index, vector, &[*fd]))?;
            if answer == Answer::OK {
                continue;
            }
            need(vector > 0, "the machine has none at all")?;
            check(answer == Answer::ENOSPC, || format!("vector {vector} answered {answer}"))?;
            let there = usize::try_from(vector).unwrap_or(0);
            return stage.all_attached(index, fds.get(..there).unwrap_or_default());
        }
        need(false, "the machine has as many vectors as the device")
    }
}
