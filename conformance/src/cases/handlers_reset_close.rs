//! Effects on the rest of the system: rules V-11 to V-13.

use super::dut::{check, need};
use super::{Dut, cases};
use crate::{Index, Request, flags};

cases! {
    /// Attached vectors are listed as vfio-msi[N](BDF) and vfio-msix[N](BDF); detached vectors are
    /// not.
    fn v11_handlers_are_named(dut, index, _ in 4..) {
        need(dut.target.handlers().is_some(), "no handlers are listed here")?;
        let fds: [_; 2] = dut.fds()?;
        dut.attach(index, 1, &[fds[0], -1, -1])?;
        let name = if index == Index::Msi { "vfio-msi[1](" } else { "vfio-msix[1](" };
        let listed = |dut: &mut Dut<'_>| dut.target.handlers().unwrap_or_default();
        let there = listed(dut);
        let right = there.len() == 1 && there.iter().all(|handler| handler.starts_with(name));
        check(right, || format!("handlers {there:?}"))?;
        dut.ok(&Request::attach(index, 1, &[-1]))?;
        let there = listed(dut);
        check(there.is_empty(), || format!("handlers {there:?} after the detach"))
    }

    /// A reset of the device leaves attached vectors working.
    fn v12_reset_leaves_vectors_working(dut, index, count in 1..) {
        let vectors = dut.target.reach(index).min(count).min(3);
        need(vectors > 0, "nothing raises this index here")?;
        let fds = dut.many_fds(vectors)?;
        dut.attach(index, 0, &fds)?;
        need(dut.target.reset()?, "nothing is reset here")?;
        dut.all_attached(index, &fds)?;
        dut.ready(index, vectors, &fds)?;
        (0..).zip(&fds).try_for_each(|(vector, fd)| dut.delivers(index, vector, *fd))
    }

    /// After a reset, a vector that is detached and attached again works.
    fn v12_attach_after_reset(dut, index, count in 1..) {
        let vectors = dut.target.reach(index).min(count).min(3);
        need(vectors > 0, "nothing raises this index here")?;
        let fds = dut.many_fds(vectors)?;
        dut.attach(index, 0, &fds)?;
        dut.ok(&Request::attach(index, 0, &[-1]))?;
        need(dut.target.reset()?, "nothing is reset here")?;
        dut.ok(&Request::attach(index, 0, &fds))?;
        dut.ready(index, vectors, &fds)?;
        (0..).zip(&fds).try_for_each(|(vector, fd)| dut.delivers(index, vector, *fd))
    }

    /// A vector whose message was cleared by a hidden reset works once it is attached again: with
    /// the same eventfd, with another one, or after a detach.
    fn v12_a_cleared_table_is_repaired(dut) {
        let (index, vectors) = (Index::Msix, 2);
        need(dut.info(index)?.count >= vectors, "the device has too few vectors of MSI-X")?;
        need(dut.target.reach(index) >= vectors, "nothing raises MSI-X here")?;
        let [first, second, other] = dut.fds()?;
        dut.attach(index, 0, &[other, first])?;
        dut.ready(index, vectors, &[other, first])?;
        let again = |fds: &[i32]| fds.iter().map(|fd| Request::attach(index, 1, &[*fd])).collect();
        let ways: [(&str, i32, Vec<Request>); 3] = [
            ("the same eventfd", first, again(&[first])),
            ("another eventfd", second, again(&[second])),
            ("a detach and an attach", second, again(&[-1, second])),
        ];
        for (way, fd, requests) in ways {
            need(dut.target.forget_message(1)?, "there is no table here")?;
            requests.iter().try_for_each(|request| dut.ok(request))?;
            dut.target.raise(index, 1)?;
            dut.arrives(fd, &format!("cleared, then {way}"))?;
            // The vector beside it did not change.
            dut.delivers(index, 0, other)?;
        }
        Ok(())
    }

    /// Closing an active device releases everything, and the device opens idle.
    fn v13_close_while_active(dut, index, count in 2..) {
        let fds = dut.many_fds(count.min(8))?;
        dut.attach(index, 0, &fds)?;
        dut.on(&[Index::Err, Index::Req], |dut, event| {
            let fd = dut.fd()?;
            dut.ok(&Request::attach(event, 0, &[fd]))
        })?;
        if dut.maskable(index)? {
            dut.ok(&Request::mask(index, 1, 1))?;
        }
        dut.reopen()?;
        dut.idle(index, "after it was closed and opened")?;
        let fd = dut.fd()?;
        dut.attach(index, 0, &[fd])?;
        dut.loops_to(index, 0, &[fd], &[])
    }

    /// Closing a device while INTx is active releases INTx.
    fn v13_line_closes(dut) {
        need(dut.target.handlers().is_some(), "no handlers are listed here")?;
        need(dut.info(Index::Intx)?.count == 1, "the device has no interrupt pin")?;
        let [fd, resample] = dut.fds()?;
        dut.attach(Index::Intx, 0, &[fd])?;
        dut.ok(&Request::fds(flags::UNMASK, Index::Intx, 0, &[resample]))?;
        dut.reopen()?;
        dut.idle(Index::Intx, "after it was closed and opened")
    }
}
