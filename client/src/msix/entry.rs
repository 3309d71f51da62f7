//! One entry of the table, and the path of its interrupts.

use super::epoll::Epoll;
use super::{Message, Route, Routes};
use crate::error::hypervisor;
use crate::{Error, Transport, Trigger, Vector};

/// Bit 0 of the vector control word.
pub(super) const MASKED: u32 = 1;

/// The words that the guest wrote to one entry, and the vector behind them.
pub(super) struct Entry<T: Transport, R: Route> {
    pub(super) message: Message,
    /// The vector control word. Bit 0 is the mask bit.
    pub(super) control: u32,
    /// An interrupt arrived that unmask is to deliver.
    pub(super) owed: bool,
    /// `None` until the guest unmasks the entry for the first time.
    pub(super) live: Option<Box<Live<T, R>>>,
}

impl<T: Transport, R: Route> Entry<T, R> {
    /// Returns an entry that the guest has not written.
    pub(super) fn new(device: Option<u32>) -> Self {
        let message = Message { device, ..Message::default() };
        Self { message, control: MASKED, owed: false, live: None }
    }

    /// Returns the pending bit: true if an interrupt arrived while the entry was masked.
    pub(super) fn take_pending(&mut self) -> bool {
        self.owed |= self.live.as_ref().is_some_and(|live| live.take_pending());
        self.owed
    }

    /// Returns true if an interrupt arrived that the guest has not received, masked or not.
    pub(super) fn is_due(&self) -> bool {
        self.owed || self.live.as_ref().is_some_and(|live| live.is_due())
    }

    /// Delivers the interrupt that is owed. Returns an error if the signal fails.
    pub(super) fn deliver_owed(&mut self) -> Result<(), Error> {
        if let Some(live) = self.live.as_ref().filter(|_| self.owed) {
            live.target()?.signal()?;
            self.owed = false;
        }
        Ok(())
    }
}

/// A vector that the guest uses.
///
/// # Invariants
///
/// The vector signals the route's eventfd on the path `Irqfd`, and [`Live::held`] on the two
/// others. Once the path was `Irqfd`, the hypervisor reads the route's eventfd, so that the two
/// others need an eventfd of their own: `own` is `Some` before the path leaves `Irqfd`.
pub(super) struct Live<T: Transport, R: Route> {
    /// Before the route: fields are dropped in this order, and the vector is to be detached first.
    vector: Vector<T>,
    /// `None` if no route was left.
    route: Option<R>,
    /// An eventfd that only the table reads.
    own: Option<Trigger>,
    path: Path,
}

/// The path of the host's interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    /// Masked: an eventfd without a reader.
    Masked,
    /// An eventfd in the epoll set: user space reads it and sends the message.
    UserSpace,
    /// The eventfd of the route, which the hypervisor reads.
    Irqfd,
}

/// What a vector needs before it is enabled: its eventfd, and the route behind it.
pub(super) struct Prepared<R> {
    route: Option<R>,
    own: Option<Trigger>,
    path: Path,
}

impl<R: Route> Prepared<R> {
    pub(super) fn new(message: Message, routes: &impl Routes<Route = R>) -> Result<Self, Error> {
        let mut route = hypervisor("a route", routes.allocate())?;
        let Some(some) = &mut route else {
            tracing::debug!(?message, "no route is left: signalled from user space");
            return Ok(Self { route, own: Some(routes.eventfd()?), path: Path::UserSpace });
        };
        let current = hypervisor("a message", some.set(message))?;
        let path = if current { Path::Irqfd } else { Path::UserSpace };
        Ok(Self { route, own: None, path })
    }

    pub(super) fn trigger(&self) -> Result<&Trigger, Error> {
        held(self.own.as_ref(), self.route.as_ref())
    }

    /// Returns the vector, which was just enabled on [`Prepared::trigger`].
    pub(super) fn live<T: Transport>(
        self,
        vector: Vector<T>,
        epoll: &Epoll,
    ) -> Result<Live<T, R>, Error> {
        if self.path == Path::UserSpace {
            epoll.add(self.trigger()?, vector.number())?;
        }
        let Self { route, own, path } = self;
        Ok(Live { vector, route, own, path })
    }
}

fn held<'a, R: Route>(
    own: Option<&'a Trigger>,
    route: Option<&'a R>,
) -> Result<&'a Trigger, Error> {
    own.or_else(|| route.map(Route::trigger))
        .ok_or_else(|| Error::descriptor("a vector has no eventfd", std::io::ErrorKind::NotFound))
}

impl<T: Transport, R: Route> Live<T, R> {
    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// Returns the eventfd of a vector that is masked, or whose messages user space sends.
    fn held(&self) -> Result<&Trigger, Error> {
        held(self.own.as_ref(), self.route.as_ref())
    }

    /// Returns the eventfd that the vector signals.
    fn target(&self) -> Result<&Trigger, Error> {
        match (self.path, &self.route) {
            (Path::Irqfd, Some(route)) => Ok(route.trigger()),
            _ => self.held(),
        }
    }

    /// Returns true if a masked vector was signalled since the last call.
    fn take_pending(&self) -> bool {
        self.path == Path::Masked && self.held().is_ok_and(|trigger| trigger.take() > 0)
    }

    /// Returns true if the eventfd was signalled and not read yet. A hypervisor reads at once.
    fn is_due(&self) -> bool {
        self.path != Path::Irqfd && self.held().is_ok_and(Trigger::is_signalled)
    }

    /// Sends the message if the eventfd was signalled since the last call. Returns true if it
    /// was.
    pub(super) fn pass_on(
        &self,
        message: Message,
        routes: &impl Routes<Route = R>,
    ) -> Result<bool, Error> {
        if self.path != Path::UserSpace || self.held()?.take() == 0 {
            return Ok(false);
        }
        // No retry: a message that the hypervisor refuses would be retried forever.
        hypervisor("an interrupt from user space", routes.signal(message))?;
        Ok(true)
    }

    /// Masks the vector. Returns an error if the host refuses the re-target, or if no eventfd is
    /// left.
    pub(super) fn mask(
        &mut self,
        routes: &impl Routes<Route = R>,
        epoll: &Epoll,
    ) -> Result<(), Error> {
        match self.path {
            Path::Masked => {}
            Path::UserSpace => epoll.remove(self.held()?)?,
            Path::Irqfd => {
                let own = self.own.take().map_or_else(|| routes.eventfd(), Ok)?;
                self.vector.retarget(&*self.own.insert(own))?;
            }
        }
        self.path = Path::Masked;
        Ok(())
    }

    /// Unmasks the vector with this message, or moves it to its irqfd if its route was committed.
    /// An interrupt that arrived meanwhile is delivered.
    pub(super) fn unmask(
        &mut self,
        message: Message,
        routes: &impl Routes<Route = R>,
        epoll: &Epoll,
    ) -> Result<(), Error> {
        let before = self.path;
        let connected = self.connect(message, routes);
        match (before, self.path) {
            (Path::UserSpace, Path::Irqfd) => epoll.remove(self.held()?)?,
            // The route waits, or the hypervisor refused: user space delivers.
            (Path::Masked, Path::Masked) => {
                epoll.add(self.held()?, self.vector.number())?;
                self.path = Path::UserSpace;
            }
            _ => {}
        }
        connected
    }

    /// Moves the vector to the eventfd of its route, if the hypervisor has the message. Leaves it
    /// where it is if the message waits, or if no route is left.
    fn connect(&mut self, message: Message, routes: &impl Routes<Route = R>) -> Result<(), Error> {
        if self.path == Path::Irqfd {
            return Ok(());
        }
        if self.route.is_none() {
            // One may be free now.
            self.route = hypervisor("a route", routes.allocate())?;
        }
        let Some(route) = &mut self.route else { return Ok(()) };
        if !hypervisor("a message", route.set(message))? {
            return Ok(());
        }
        let Some(own) = &self.own else {
            // The vector signals this eventfd already.
            self.path = Path::Irqfd;
            return Ok(());
        };
        self.vector.retarget(route.trigger())?;
        self.path = Path::Irqfd;
        if own.take() > 0 { route.trigger().signal() } else { Ok(()) }
    }

    /// Releases the vector and its route. The drop of `self` detaches the host's vector.
    pub(super) fn close(self, epoll: &Epoll) {
        if self.path == Path::UserSpace
            && let Err(error) = self.held().and_then(|trigger| epoll.remove(trigger))
        {
            tracing::warn!(%error, "a released vector stays in the epoll set");
        }
    }
}
