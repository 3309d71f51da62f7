//! The cost of a request, as counts: rule B-06. `bench` measures the time.

use super::dut::{Stop, check, need, same};
use super::{Dut, Verdict, cases};
use crate::target::Calls;
use crate::{Answer, Index, Request};

/// Sends a request that must succeed. Returns its calls of the kernel.
fn calls_of(dut: &mut Dut<'_>, request: &Request) -> Result<Calls, Stop> {
    let counted = dut.target.calls_of(&request.bytes())?;
    need(counted.is_some(), "what is called cannot be counted here")?;
    let (answer, calls) = counted.unwrap_or((Answer::OK, Calls::new()));
    check(answer == Answer::OK, || format!("{request} answered {answer}, not {}", Answer::OK))?;
    Ok(calls)
}

fn calls(expected: &[(&'static str, usize)]) -> Calls {
    expected.iter().copied().collect()
}

/// Sends a request of each kind that touches one vector, with `active` vectors active. Returns the
/// calls of each.
fn one_of_each(
    dut: &mut Dut<'_>,
    index: Index,
    active: u32,
) -> Result<Vec<(Request, Calls)>, Stop> {
    let (fds, other) = (dut.many_fds(active)?, dut.fd()?);
    dut.attach(index, 0, &fds)?;
    let last = dut.info(index)?.count - 1;
    let mut requests = vec![
        Request::attach(index, 1, &[other]),
        Request::attach(index, 1, &[other]),
        Request::loopback(index, 1, 1),
        Request::attach(index, 1, &[-1]),
        Request::attach(index, 1, &[other]),
    ];
    if dut.dynamic(index)? {
        requests.push(Request::attach(index, last, &[other]));
        requests.push(Request::attach(index, last, &[-1]));
    }
    if dut.maskable(index)? {
        requests.push(Request::mask(index, 1, 1));
        requests.push(Request::unmask(index, 1, 1));
    }
    let counted = requests.into_iter().map(|request| {
        let calls = calls_of(dut, &request)?;
        Ok((request, calls))
    });
    let counted = counted.collect::<Result<_, Stop>>()?;
    dut.ok(&Request::disable(index))?;
    Ok(counted)
}

/// Fails unless the host keeps state for these vectors and for no others.
fn known(dut: &mut Dut<'_>, expected: &[u32], when: &str) -> Verdict {
    let known = dut.target.known();
    need(known.is_some(), "what is known of vectors cannot be read here")?;
    let known = known.unwrap_or_default();
    check(known == expected, || format!("{when}: known of {known:?}, not of {expected:?}"))
}

cases! {
    /// Replacing a trigger looks up the eventfd and waits for handlers; the same eventfd is only
    /// looked up. (Linux: the interrupt is freed and requested both times.)
    fn b06_a_replacement_requests_nothing(dut, index, _ in 2..) {
        let (fds, other) = (dut.many_fds(2)?, dut.fd()?);
        dut.attach(index, 0, &fds)?;
        let interrupts = dut.target.interrupts();
        let replace = Request::attach(index, 0, &[other]);
        let looked_up = ("eventfd_ctx_fdget", 1);
        let (first, again) = if dut.beyond() {
            (calls(&[looked_up, ("synchronize_irq", 1)]), calls(&[looked_up]))
        } else {
            let rewritten = ("pci_write_msi_msg", usize::from(index == Index::Msix));
            let anew = [looked_up, ("free_irq", 1), ("request_threaded_irq", 1), rewritten];
            let anew: Calls = anew.into_iter().filter(|(_, times)| *times > 0).collect();
            (anew.clone(), anew)
        };
        for (when, expected) in [("another eventfd", first), ("the same", again)] {
            let called = calls_of(dut, &replace)?;
            check(called == expected, || format!("{when}: {called:?}, not {expected:?}"))?;
        }
        let after = dut.target.interrupts();
        same("interrupts", &interrupts, &after)?;
        dut.loops_to(index, 0, &[other], &fds)
    }

    /// A request for one vector makes the same calls with two active vectors and with all of the
    /// table but one.
    fn b06_costs_what_it_touches(dut, index, count in 4..) {
        let few = one_of_each(dut, index, 2)?;
        let many = one_of_each(dut, index, count - 1)?;
        for ((request, few), (_, many)) in few.into_iter().zip(many) {
            check(!few.is_empty(), || format!("{request} called nothing that is counted"))?;
            check(few == many, || {
                format!("{request}: with two active {few:?}, with {} {many:?}", count - 1)
            })?;
        }
        Ok(())
    }

    /// The host keeps state for vectors that are attached or masked, and for no others.
    fn b06_remembers_what_is_in_use(dut, index, _ in 4..) {
        let fds: [_; 2] = dut.fds()?;
        dut.attach(index, 0, &[fds[0], -1])?;
        known(dut, &[0], "one is attached")?;
        if dut.maskable(index)? {
            dut.ok(&Request::mask(index, 3, 1))?;
            known(dut, &[0, 3], "one more is masked")?;
            dut.ok(&Request::unmask(index, 3, 1))?;
            known(dut, &[0], "it is masked no more")?;
        }
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        known(dut, &[], "it is detached")?;
        dut.ok(&Request::attach(index, 1, fds.get(1..).unwrap_or_default()))?;
        dut.ok(&Request::disable(index))?;
        known(dut, &[], "the index is disabled")
    }
}
