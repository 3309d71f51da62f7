//! Attach, re-target and detach: all or nothing, also on a host that is not.

use super::state::{Mode, State};
use super::{NoResize, Shared};
use crate::{Action, Data, Error, Transport, Trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

/// The new eventfd of each vector; `None` detaches it.
pub(super) type Changes = BTreeMap<u32, Option<Trigger>>;

/// Adjacent vectors, which share a request.
struct Run<'a> {
    start: u32,
    triggers: Vec<Option<&'a Trigger>>,
}

impl Run<'_> {
    fn numbers(&self) -> impl Iterator<Item = u32> {
        (self.start..).take(self.triggers.len())
    }
}

fn runs<'a>(changes: impl Iterator<Item = (u32, Option<&'a Trigger>)>) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut next = None;
    for (number, trigger) in changes {
        match runs.last_mut() {
            Some(run) if next == Some(number) => run.triggers.push(trigger),
            _ => runs.push(Run { start: number, triggers: vec![trigger] }),
        }
        next = number.checked_add(1);
    }
    runs
}

impl<T: Transport> Shared<T> {
    /// Makes all of these changes. Returns an error if the host refuses one; no change is made
    /// then. The caller updates the state afterwards.
    pub(super) fn change(&self, state: &mut State, changes: &Changes) -> Result<(), Error> {
        let Some(end) = changes.keys().next_back().map(|last| last.saturating_add(1)) else {
            return Ok(());
        };
        match state.mode {
            Mode::Idle => self.first(state, changes, end),
            Mode::Fixed(size) if end > size => match self.policy {
                NoResize::ReserveAll { .. } => Err(Error::BeyondReserved {
                    index: self.name(),
                    number: end.saturating_sub(1),
                    reserved: size,
                }),
                NoResize::Reenable { spare } => {
                    self.enlarge(state, size, changes, end, end.saturating_add(spare))
                }
            },
            Mode::Fixed(_) | Mode::Dynamic => self.apply(state, changes),
        }
    }

    /// Enables the index with the first vectors.
    fn first(&self, state: &mut State, changes: &Changes, end: u32) -> Result<(), Error> {
        let all = runs(changes.iter().map(|(number, trigger)| (*number, trigger.as_ref())));
        let mut rest = all.as_slice();
        let mode = if !self.capabilities.resizable() {
            self.reserve(end)?
        } else if let [run, more @ ..] = rest
            && run.start == 0
        {
            // This request enables the index. If the host has too few vectors, it returns their
            // number.
            self.send(run).inspect_err(|_| {
                // A transport may split the request into several messages, and fail after the
                // first. If the index is idle, the device refuses this disable, which is
                // harmless.
                let _ = self.disable_index();
            })?;
            rest = more;
            Mode::Dynamic
        } else {
            // A request that starts above 0 would also allocate all vectors before its start.
            self.allocate(1, 1)?;
            Mode::Dynamic
        };
        if let Err(cause) = rest.iter().try_for_each(|run| self.send(run)) {
            return Err(self.give_up(cause));
        }
        state.mode = mode;
        Ok(())
    }

    /// Enables the index with no vector attached. If it is enabled, does nothing. Returns the
    /// error of the host.
    pub(super) fn activate(&self, state: &mut State) -> Result<(), Error> {
        if state.mode == Mode::Idle {
            state.mode = if self.capabilities.resizable() {
                self.allocate(1, 1)?;
                Mode::Dynamic
            } else {
                self.reserve(1)?
            };
        }
        Ok(())
    }

    /// Enables an index that cannot grow, with at least `end` vectors and none attached. Returns
    /// the mode.
    fn reserve(&self, end: u32) -> Result<Mode, Error> {
        let size = match self.policy {
            NoResize::ReserveAll { most } => most.max(end),
            NoResize::Reenable { spare } => end.saturating_add(spare),
        };
        Ok(Mode::Fixed(self.allocate(size, end)?))
    }

    /// Disables the index after a failed first enable. Returns the error for the caller.
    fn give_up(&self, cause: Error) -> Error {
        match self.disable_index() {
            Ok(()) => cause,
            Err(error) => {
                tracing::warn!(%error, "an index that was to be idle stays enabled");
                Error::Unrestored { cause: Box::new(cause), lost: Vec::new() }
            }
        }
    }

    /// Enables the index with `size` vectors and none attached. If the host has fewer, but at
    /// least `least`, takes all of them. Returns the number of allocated vectors.
    pub(super) fn allocate(&self, size: u32, least: u32) -> Result<u32, Error> {
        let mut size = size.min(self.capabilities.count());
        loop {
            let last = size.saturating_sub(1);
            let nothing = Data::Eventfd(&[None]);
            match self.request("allocate", Action::Trigger, last, nothing) {
                Ok(()) => return Ok(size),
                Err(Error::TooFew { available, .. }) if (least..size).contains(&available) => {
                    size = available
                }
                Err(Error::TooFew { index, available, .. }) => {
                    return Err(Error::TooFew { index, asked: least, available });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes vectors of an enabled index. If a request fails, restores the vectors that were
    /// changed.
    fn apply(&self, state: &mut State, changes: &Changes) -> Result<(), Error> {
        let runs = runs(changes.iter().map(|(number, trigger)| (*number, trigger.as_ref())));
        for (done, run) in runs.iter().enumerate() {
            if let Err(cause) = self.send(run) {
                let touched = runs.iter().take(done.saturating_add(1)).flat_map(Run::numbers);
                return Err(self.restore(state, touched.collect(), cause));
            }
        }
        Ok(())
    }

    /// Restores vectors to the recorded state, and signals each once. Returns the error for the
    /// caller.
    fn restore(&self, state: &mut State, touched: BTreeSet<u32>, cause: Error) -> Error {
        tracing::debug!(%cause, ?touched, "restoring vectors");
        let mut lost = Vec::new();
        for run in runs(touched.iter().map(|number| (*number, state.trigger(*number)))) {
            if self.send(&run).is_ok() {
                continue;
            }
            // Retry each vector alone, so that one failure does not detach the others.
            for (number, trigger) in run.numbers().zip(&run.triggers) {
                let alone = Run { start: number, triggers: vec![*trigger] };
                if self.send(&alone).is_err() && trigger.is_some() {
                    lost.push(number);
                }
            }
        }
        for number in &lost {
            state.detach(*number);
        }
        self.signal_once(state, &touched);
        if lost.is_empty() { cause } else { Error::Unrestored { cause: Box::new(cause), lost } }
    }

    /// Attaches vectors of an enabled index. If a request fails, returns its error and restores
    /// nothing.
    pub(super) fn attach_all<'a>(
        &self,
        wanted: impl Iterator<Item = (u32, Option<&'a Trigger>)>,
    ) -> Result<(), Error> {
        runs(wanted).iter().try_for_each(|run| self.send(run))
    }

    fn send(&self, run: &Run<'_>) -> Result<(), Error> {
        let fds: Vec<_> =
            run.triggers.iter().map(|trigger| trigger.map(|trigger| trigger.as_fd())).collect();
        let verb = if fds.iter().all(Option::is_none) { "detach" } else { "attach" };
        self.request(verb, Action::Trigger, run.start, Data::Eventfd(&fds))
    }
}
