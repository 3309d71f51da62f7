//! Effects on the rest of the system: rules V-11 to V-13.

use super::stage::{check, need};
use super::{Stage, cases};
use crate::{Index, Request, flags};

cases! {
    /// Attached vectors are listed as vfio-msi[N](BDF) and vfio-msix[N](BDF); detached vectors are
    /// not.
    fn v11_handlers_are_named(stage) {
        stage.each(4, |stage, index, _| {
            need(stage.target.handlers().is_some(), "no handlers are listed here")?;
            let fds = stage.fds(2)?;
            stage.attach(index, 1, &[fds.first().copied().unwrap_or(-1), -1, -1])?;
            let name = if index == Index::Msi { "vfio-msi[1](" } else { "vfio-msix[1](" };
            let listed = |stage: &mut Stage<'_>| stage.target.handlers().unwrap_or_default();
            let there = listed(stage);
            let right = there.len() == 1 && there.iter().all(|handler| handler.starts_with(name));
            check(right, || format!("handlers {there:?}"))?;
            stage.ok(&Request::attach(index, 1, &[-1]))?;
            let there = listed(stage);
            check(there.is_empty(), || format!("handlers {there:?} after the detach"))
        })
    }

    /// A reset of the device leaves attached vectors working.
    fn v12_reset_leaves_vectors_working(stage) {
        stage.each(1, |stage, index, count| {
            let vectors = stage.target.reach(index).min(count).min(3);
            need(vectors > 0, "nothing raises this index here")?;
            let fds = stage.fds(vectors)?;
            stage.attach(index, 0, &fds)?;
            need(stage.target.reset()?, "nothing is reset here")?;
            stage.all_attached(index, &fds)?;
            stage.ready(index, vectors, &fds)?;
            (0..).zip(&fds).try_for_each(|(vector, fd)| stage.delivers(index, vector, *fd))
        })
    }

    /// After a reset, a vector that is detached and attached again works.
    fn v12_attach_after_reset(stage) {
        stage.each(1, |stage, index, count| {
            let vectors = stage.target.reach(index).min(count).min(3);
            need(vectors > 0, "nothing raises this index here")?;
            let fds = stage.fds(vectors)?;
            stage.attach(index, 0, &fds)?;
            stage.ok(&Request::attach(index, 0, &[-1]))?;
            need(stage.target.reset()?, "nothing is reset here")?;
            stage.ok(&Request::attach(index, 0, &fds))?;
            stage.ready(index, vectors, &fds)?;
            (0..).zip(&fds).try_for_each(|(vector, fd)| stage.delivers(index, vector, *fd))
        })
    }

    /// A vector whose message was cleared by a hidden reset works once it is attached again: with
    /// the same eventfd, with another one, or after a detach.
    fn v12_a_cleared_table_is_repaired(stage) {
        let (index, vectors) = (Index::Msix, 2);
        need(stage.info(index)?.count >= vectors, "the device has too few vectors of MSI-X")?;
        need(stage.target.reach(index) >= vectors, "nothing raises MSI-X here")?;
        let (first, second, other) = (stage.fd()?, stage.fd()?, stage.fd()?);
        stage.attach(index, 0, &[other, first])?;
        stage.ready(index, vectors, &[other, first])?;
        let again = |fds: &[i32]| fds.iter().map(|fd| Request::attach(index, 1, &[*fd])).collect();
        let ways: [(&str, i32, Vec<Request>); 3] = [
            ("the same eventfd", first, again(&[first])),
            ("another eventfd", second, again(&[second])),
            ("a detach and an attach", second, again(&[-1, second])),
        ];
        for (way, fd, requests) in ways {
            need(stage.target.forget_message(1)?, "there is no table here")?;
            requests.iter().try_for_each(|request| stage.ok(request))?;
            stage.target.raise(index, 1)?;
            stage.arrives(fd, &format!("cleared, then {way}"))?;
            // The vector beside it did not change.
            stage.delivers(index, 0, other)?;
        }
        Ok(())
    }

    /// Closing an active device releases everything, and the device opens idle.
    fn v13_close_while_active(stage) {
        stage.each(2, |stage, index, count| {
            let fds = stage.fds(count.min(8))?;
            stage.attach(index, 0, &fds)?;
            let (err, req) = (stage.fd()?, stage.fd()?);
            stage.ok(&Request::attach(Index::Err, 0, &[err]))?;
            stage.ok(&Request::attach(Index::Req, 0, &[req]))?;
            if stage.maskable(index)? {
                stage.ok(&Request::mask(index, 1, 1))?;
            }
            stage.reopen()?;
            stage.idle(index, "after it was closed and opened")?;
            let fd = stage.fd()?;
            stage.attach(index, 0, &[fd])?;
            stage.loops_to(index, 0, &[fd], &[])
        })
    }

    /// Closing a device while INTx is active releases INTx.
    fn v13_line_closes(stage) {
        need(stage.target.handlers().is_some(), "no handlers are listed here")?;
        need(stage.info(Index::Intx)?.count == 1, "the device has no interrupt pin")?;
        let (fd, resample) = (stage.fd()?, stage.fd()?);
        stage.attach(Index::Intx, 0, &[fd])?;
        stage.ok(&Request::fds(flags::UNMASK, Index::Intx, 0, &[resample]))?;
        stage.reopen()?;
        stage.idle(Index::Intx, "after it was closed and opened")
    }
}
