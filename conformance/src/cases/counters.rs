//! Counters of a vector: rule B-05.

use super::dut::{CLOSED, check, need};
use super::{Dut, cases};
use crate::target::Counted;
use crate::{Answer, Index, Request};

cases! {
    /// The host counts what requests do to a vector.
    fn b05_counted(dut) {
        let index = Index::Msix;
        need(dut.info(index)?.count >= 2, "the device has too few vectors of MSI-X")?;
        let [first, second, third] = dut.fds()?;
        dut.attach(index, 0, &[first, second])?;
        need(dut.target.counted(1).is_some(), "no counters can be read here")?;
        dut.ok(&Request::attach(index, 1, &[third]))?;
        dut.ok(&Request::loopback(index, 0, 2))?;
        dut.ok(&Request::loopback(index, 1, 1))?;
        dut.ok(&Request::mask(index, 1, 1))?;
        dut.ok(&Request::mask(index, 1, 1))?;
        dut.ok(&Request::unmask(index, 0, 2))?;
        dut.expect(&Request::attach(index, 1, &[CLOSED]), Answer::EBADF)?;
        let counted = dut.target.counted(1).unwrap_or_default();
        let expected = Counted {
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
    fn b05_interrupts_are_counted(dut, index, _ in 2..) {
        need(dut.target.reach(index) >= 2, "nothing raises that many vectors here")?;
        let fds: [_; 2] = dut.attached(index)?;
        dut.ready(index, 2, &fds)?;
        let signals = |dut: &Dut<'_>, vector| {
            dut.target.counted(vector).and_then(|counted| counted.signals)
        };
        let before = [signals(dut, 0), signals(dut, 1)];
        need(before[1].is_some(), "no counters can be read here")?;
        for _ in 0..5 {
            dut.delivers(index, 1, fds.last().copied().unwrap_or(-1))?;
        }
        let after = [signals(dut, 0), signals(dut, 1)];
        let right = after == [before[0], before[1].map(|before| before + 5)];
        check(right, || format!("counted {before:?}, and after five {after:?}"))
    }
}
