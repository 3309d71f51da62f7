//! Bringing vectors up to date with what the guest wrote, and to their irqfds.

use super::Vm;
use super::entry::{Entry, Live, MASKED, Open};
use super::table::{ENABLE, MsixTable, WRITABLE};
use crate::{Error, Transport, Trigger};

impl<T: Transport, V: Vm> MsixTable<T, V> {
    /// Brings every vector up to date with what the guest wrote.
    ///
    /// # Errors
    ///
    /// The first of what the host or KVM refused; the other vectors are up to date.
    pub fn retry(&mut self) -> Result<(), Error> {
        let new: Vec<u32> = self.numbers().filter(|number| self.is_new(*number)).collect();
        let mut outcome = self.bring_up(&new);
        for number in self.numbers() {
            outcome = outcome.and(self.update(number, false));
        }
        outcome.and(self.settle())
    }

    /// Signals the vectors that wait for their irqfd, as far as they were raised; how many were. To
    /// be called whenever the descriptor of the table ([`AsFd`](std::os::fd::AsFd)) is readable.
    ///
    /// # Errors
    ///
    /// The first [`Error::Kvm`], when the guest's message leads nowhere: that interrupt is dropped, as
    /// KVM drops those of an irqfd. The others have been signalled.
    pub fn handle_events(&mut self) -> Result<usize, Error> {
        let (mut signalled, mut outcome) = (0_usize, Ok(()));
        for number in self.watch.ready()? {
            let Some(entry) = self.entry(number) else { continue };
            let (Some(live), message) = (&entry.live, entry.message) else { continue };
            match live.pass_on(message, self.routes.vm()) {
                Ok(told) => signalled = signalled.saturating_add(told.into()),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| signalled)
    }

    /// Commits the routes that wait, of all devices, and moves this table's vectors to their
    /// irqfds. A VMM calls it when the guest has been quiet for a moment, or from a timer.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`]; vectors that could not be moved are signalled from user space as before.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.routes.commit()?;
        self.move_on()
    }

    /// Vectors that are signalled from user space until their routes are committed.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + use<T, V> {
        0..self.vectors.capabilities().count()
    }

    fn entry(&self, number: u32) -> Option<&Entry<T>> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    fn is_open(&self, entry: &Entry<T>) -> bool {
        self.control & WRITABLE == ENABLE && entry.control & MASKED == 0
    }

    fn is_new(&self, number: u32) -> bool {
        self.entry(number).is_some_and(|entry| entry.live.is_none() && self.is_open(entry))
    }

    /// Brings one vector up to date.
    pub(super) fn update(&mut self, number: u32, changed: bool) -> Result<(), Error> {
        let Some(open) = self.entry(number).map(|entry| self.is_open(entry)) else { return Ok(()) };
        if self.is_new(number) {
            return self.bring_up(&[number]);
        }
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(entry) = self.entries.get_mut(at) else { return Ok(()) };
        let Some(live) = &mut entry.live else { return Ok(()) };
        if !open || changed {
            live.hold(&self.watch)?;
        }
        if open && live.is_held() {
            let opened = live.open(entry.message, &self.routes, &self.watch);
            if !matches!(opened, Ok(Open::Direct)) {
                self.waiting.insert(number);
            }
            opened?;
            entry.pay()?;
        }
        Ok(())
    }

    /// Enables vectors that the guest has not used before: at once, or if the host has not as many,
    /// as many as it has.
    fn bring_up(&mut self, numbers: &[u32]) -> Result<(), Error> {
        let triggers: Result<Vec<_>, Error> =
            numbers.iter().map(|number| Ok((*number, Trigger::new()?))).collect();
        let triggers = triggers?;
        match self.vectors.enable_many(triggers.iter().map(|(number, trigger)| (*number, trigger)))
        {
            Ok(vectors) => {
                for (vector, (number, trigger)) in vectors.into_iter().zip(triggers) {
                    let Some(entry) =
                        usize::try_from(number).ok().and_then(|at| self.entries.get_mut(at))
                    else {
                        continue;
                    };
                    let message = entry.message;
                    let live = Live::new(vector, trigger, message, &self.routes, &self.watch)?;
                    entry.live = Some(Box::new(live));
                    self.waiting.insert(number);
                    entry.pay()?;
                }
                Ok(())
            }
            Err(error) if numbers.len() > 1 => {
                tracing::debug!(%error, "one vector at a time");
                let alone = numbers.iter().map(|number| self.bring_up(&[*number]));
                alone.fold(Ok(()), Result::and)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.routes.is_due() { self.commit() } else { Ok(()) }
    }

    /// Moves the vectors whose routes are there.
    fn move_on(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for number in std::mem::take(&mut self.waiting) {
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(at) else { continue };
            // One that is masked asks again when it is unmasked.
            let Some(live) = entry.live.as_mut().filter(|live| !live.is_held()) else { continue };
            match live.advance(entry.message, &self.routes, &self.watch) {
                Ok(Open::Direct) => {}
                Ok(Open::Waiting) => {
                    self.waiting.insert(number);
                }
                Err(error) => {
                    self.waiting.insert(number);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    pub(super) fn take_down(&mut self) -> Result<(), Error> {
        self.waiting.clear();
        // First, so that no vector is detached alone.
        let outcome = self.vectors.disable();
        for entry in &mut self.entries {
            entry.owed = false;
            if let Some(live) = entry.live.take() {
                live.close(&self.routes, &self.watch);
            }
        }
        outcome
    }
}
