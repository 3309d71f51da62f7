//! Updates of vectors after the guest's writes, and moves to their irqfds.

use super::Routes;
use super::entry::{Entry, MASKED, Path, Prepared};
use super::table::{ENABLE, MsixTable, WRITABLE};
use crate::error::hypervisor;
use crate::{Error, Transport};

impl<T: Transport, R: Routes> MsixTable<T, R> {
    /// Updates every vector to the state that the guest wrote.
    ///
    /// # Errors
    ///
    /// The first error of the host or the hypervisor. The other vectors are up to date.
    pub fn retry(&mut self) -> Result<(), Error> {
        let new: Vec<u32> = self.numbers().filter(|number| self.is_new(*number)).collect();
        let mut outcome = self.bring_up(&new);
        if self.control & ENABLE != 0 {
            // With all vectors masked, `bring_up` enabled nothing. The device needs Enable.
            outcome = outcome.and(self.vectors.activate());
        }
        for number in self.numbers() {
            outcome = outcome.and(self.update(number, false));
        }
        outcome.and(self.commit_if_due())
    }

    /// Sends the messages of vectors that wait for their irqfd and were signalled. Returns the
    /// number of messages. A VMM calls this whenever the table's descriptor
    /// ([`AsFd`](std::os::fd::AsFd)) is readable.
    ///
    /// # Errors
    ///
    /// The first [`Error::Hypervisor`], if the hypervisor refuses the guest's message. That
    /// interrupt is dropped, as KVM drops an interrupt of an irqfd. The other messages are sent.
    pub fn handle_events(&mut self) -> Result<usize, Error> {
        let (mut signalled, mut outcome) = (0_usize, Ok(()));
        for number in self.epoll.ready()? {
            let Some(entry) = self.entry(number) else { continue };
            let (Some(live), message) = (&entry.live, entry.message) else { continue };
            match live.pass_on(message, &self.routes) {
                Ok(told) => signalled = signalled.saturating_add(told.into()),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| signalled)
    }

    /// Commits the waiting routes of all devices, and moves this table's vectors to their irqfds.
    /// A VMM calls this from a timer while [`MsixTable::waiting`] is not 0.
    ///
    /// # Errors
    ///
    /// [`Error::Hypervisor`] if the hypervisor refuses. User space still sends the messages of
    /// vectors that could not move.
    pub fn commit(&mut self) -> Result<(), Error> {
        hypervisor("new interrupt routes", self.routes.flush())?;
        self.move_on()
    }

    /// Returns the number of vectors whose messages user space sends until their routes are
    /// committed.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + use<T, R> {
        0..self.vectors.capabilities().count()
    }

    fn entry(&self, number: u32) -> Option<&Entry<T, R::Route>> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    fn is_open(&self, entry: &Entry<T, R::Route>) -> bool {
        self.control & WRITABLE == ENABLE && entry.control & MASKED == 0
    }

    fn is_new(&self, number: u32) -> bool {
        self.entry(number).is_some_and(|entry| entry.live.is_none() && self.is_open(entry))
    }

    /// Updates one vector to the state that the guest wrote. Returns the error of the host or
    /// the hypervisor.
    pub(super) fn update(&mut self, number: u32, changed: bool) -> Result<(), Error> {
        let Some(open) = self.entry(number).map(|entry| self.is_open(entry)) else { return Ok(()) };
        if self.is_new(number) {
            return self.bring_up(&[number]);
        }
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(entry) = self.entries.get_mut(at) else { return Ok(()) };
        let Some(live) = &mut entry.live else { return Ok(()) };
        if !open || changed {
            match live.mask(&self.routes, &self.epoll) {
                // Without an eventfd, a detach masks the vector: the device holds its interrupts.
                Err(error @ Error::Descriptor { .. }) => {
                    tracing::debug!(%error, number, "detached, as it cannot be masked");
                    entry.live.take().into_iter().for_each(|live| live.close(&self.epoll));
                    return if open { self.bring_up(&[number]) } else { Ok(()) };
                }
                outcome => outcome?,
            }
        }
        if open && live.path() == Path::Masked {
            let unmasked = live.unmask(entry.message, &self.routes, &self.epoll);
            if live.path() != Path::Irqfd {
                self.waiting.insert(number);
            }
            unmasked?;
            entry.deliver_owed()?;
        }
        Ok(())
    }

    /// Enables vectors that the guest uses for the first time, in one call. If the host has too
    /// few interrupts, enables as many as it has. Returns the error of the host or the hypervisor.
    fn bring_up(&mut self, numbers: &[u32]) -> Result<(), Error> {
        match self.bring_up_all(numbers) {
            Err(error) if numbers.len() > 1 => {
                tracing::debug!(%error, "enabling one vector at a time");
                let alone = numbers.iter().map(|number| self.bring_up_all(&[*number]));
                alone.fold(Ok(()), Result::and)
            }
            outcome => outcome,
        }
    }

    fn bring_up_all(&mut self, numbers: &[u32]) -> Result<(), Error> {
        let mut prepared = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(entry) = self.entry(*number) else { continue };
            prepared.push((*number, Prepared::new(entry.message, &self.routes)?));
        }
        let wanted: Result<Vec<_>, Error> =
            prepared.iter().map(|(number, route)| Ok((*number, route.trigger()?))).collect();
        let vectors = self.vectors.enable_many(wanted?)?;
        for (vector, (number, route)) in vectors.into_iter().zip(prepared) {
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(at) else { continue };
            let live = entry.live.insert(Box::new(route.live(vector, &self.epoll)?));
            if live.path() != Path::Irqfd {
                self.waiting.insert(number);
            }
            entry.deliver_owed()?;
        }
        Ok(())
    }

    pub(super) fn commit_if_due(&mut self) -> Result<(), Error> {
        if self.routes.is_due() { self.commit() } else { Ok(()) }
    }

    /// Moves the vectors whose routes are committed. Returns the first error.
    fn move_on(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for number in std::mem::take(&mut self.waiting) {
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(at) else { continue };
            // A masked vector takes this path again at unmask.
            let Some(live) = entry.live.as_mut().filter(|live| live.path() == Path::UserSpace)
            else {
                continue;
            };
            outcome = outcome.and(live.unmask(entry.message, &self.routes, &self.epoll));
            if live.path() != Path::Irqfd {
                self.waiting.insert(number);
            }
        }
        outcome
    }

    pub(super) fn take_down(&mut self) -> Result<(), Error> {
        self.waiting.clear();
        // Disable first, so that the drops below send no request for each vector.
        let outcome = self.vectors.disable();
        for entry in &mut self.entries {
            entry.owed = false;
            if let Some(live) = entry.live.take() {
                live.close(&self.epoll);
            }
        }
        outcome
    }
}
