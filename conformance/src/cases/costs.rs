//! The cost of a request, as counts: rule B-06. `bench` measures the time.

use super::stage::{Stop, check, need};
use super::{Stage, Verdict, cases};
use crate::target::Calls;
use crate::{Answer, Index, Request};

/// Sends a request that must succeed. Returns its calls of the kernel.
fn calls_of(stage: &mut Stage<'_>, request: &Request) -> Result<Calls, Stop> {
    let counted = stage.target.calls_of(&request.bytes())?;
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
    stage: &mut Stage<'_>,
    index: Index,
    active: u32,
) -> Result<Vec<(Request, Calls)>, Stop> {
    let (fds, other) = (stage.fds(active)?, stage.fd()?);
    stage.attach(index, 0, &fds)?;
    let last = stage.info(index)?.count - 1;
    let mut requests = vec![
        Request::attach(index, 1, &[other]),
        Request::attach(index, 1, &[other]),
        Request::loopback(index, 1, 1),
        Request::attach(index, 1, &[-1]),
        Request::attach(index, 1, &[other]),
    ];
    if stage.dynamic(index)? {
        requests.push(Request::attach(index, last, &[other]));
        requests.push(Request::attach(index, last, &[-1]));
    }
    if stage.maskable(index)? {
        requests.push(Request::mask(index, 1, 1));
        requests.push(Request::unmask(index, 1, 1));
    }
    let counted = requests.into_iter().map(|request| {
        let calls = calls_of(stage, &request)?;
        Ok((request, calls))
    });
    let counted = counted.collect::<Result<_, Stop>>()?;
    stage.ok(&Request::disable(index))?;
    Ok(counted)
}

/// Fails unless the host keeps state for these vectors and for no others.
fn known(stage: &mut Stage<'_>, expected: &[u32], when: &str) -> Verdict {
    let known = stage.target.known();
    need(known.is_some(), "what is known of vectors cannot be read here")?;
    let known = known.unwrap_or_default();
    check(known == expected, || format!("{when}: known of {known:?}, not of {expected:?}"))
}

cases! {
    /// Replacing a trigger looks up the eventfd and waits for handlers; the same eventfd is only
    /// looked up. (Linux: the interrupt is freed and requested both times.)
    fn b06_a_replacement_requests_nothing(stage) {
        stage.each(2, |stage, index, _| {
            let (fds, other) = (stage.fds(2)?, stage.fd()?);
            stage.attach(index, 0, &fds)?;
            let interrupts = stage.target.interrupts();
            let replace = Request::attach(index, 0, &[other]);
            let looked_up = ("eventfd_ctx_fdget", 1);
            let (first, again) = if stage.beyond() {
                (calls(&[looked_up, ("synchronize_irq", 1)]), calls(&[looked_up]))
            } else {
                let rewritten = ("pci_write_msi_msg", usize::from(index == Index::Msix));
                let anew = [looked_up, ("free_irq", 1), ("request_threaded_irq", 1), rewritten];
                let anew: Calls = anew.into_iter().filter(|(_, times)| *times > 0).collect();
                (anew.clone(), anew)
            };
            for (when, expected) in [("another eventfd", first), ("the same", again)] {
                let called = calls_of(stage, &replace)?;
                check(called == expected, || format!("{when}: {called:?}, not {expected:?}"))?;
            }
            let after = stage.target.interrupts();
            check(interrupts == after, || format!("interrupts {interrupts:?}, then {after:?}"))?;
            stage.loops_to(index, 0, &[other], &fds)
        })
    }

    /// A request for one vector makes the same calls with two active vectors and with all of the
    /// table but one.
    fn b06_costs_what_it_touches(stage) {
        stage.each(4, |stage, index, count| {
            let few = one_of_each(stage, index, 2)?;
            let many = one_of_each(stage, index, count - 1)?;
            for ((request, few), (_, many)) in few.into_iter().zip(many) {
                check(!few.is_empty(), || format!("{request} called nothing that is counted"))?;
                check(few == many, || {
                    format!("{request}: with two active {few:?}, with {} {many:?}", count - 1)
                })?;
            }
            Ok(())
        })
    }

    /// The host keeps state for vectors that are attached or masked, and for no others.
    fn b06_remembers_what_is_in_use(stage) {
        stage.each(4, |stage, index, _| {
            let fds = stage.fds(2)?;
            stage.attach(index, 0, &[fds.first().copied().unwrap_or(-1), -1])?;
            known(stage, &[0], "one is attached")?;
            if stage.maskable(index)? {
                stage.ok(&Request::mask(index, 3, 1))?;
                known(stage, &[0, 3], "one more is masked")?;
                stage.ok(&Request::unmask(index, 3, 1))?;
                known(stage, &[0], "it is masked no more")?;
            }
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            known(stage, &[], "it is detached")?;
            stage.ok(&Request::attach(index, 1, fds.get(1..).unwrap_or_default()))?;
            stage.ok(&Request::disable(index))?;
            known(stage, &[], "the index is disabled")
        })
    }
}
