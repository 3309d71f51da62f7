//! One entry of the table, and the path of its interrupts.

use super::epoll::Epoll;
use super::routes::Routes;
use super::{Message, Vm};
use crate::{Error, Transport, Trigger, Vector};

/// Bit 0 of the vector control word.
pub(super) const MASKED: u32 = 1;

/// The words that the guest wrote to one entry, and the vector behind them.
#[derive(Debug)]
pub(super) struct Entry<T: Transport> {
    pub(super) message: Message,
    /// The vector control word. Bit 0 is the mask bit.
    pub(super) control: u32,
    /// The table was saved with an interrupt that is still to be delivered.
    pub(super) owed: bool,
    /// `None` until the guest unmasks the entry for the first time.
    pub(super) live: Option<Box<Live<T>>>,
}

impl<T: Transport> Entry<T> {
    /// Returns an entry that the guest has not written.
    pub(super) fn new(device: Option<u32>) -> Self {
        let message = Message { device, ..Message::default() };
        Self { message, control: MASKED, owed: false, live: None }
    }

    /// Returns the pending bit: true if an interrupt arrived while the entry was masked.
    pub(super) fn is_pending(&self) -> bool {
        self.owed || self.live.as_ref().is_some_and(|live| live.is_pending())
    }

    /// Returns true if an interrupt arrived that the guest has not received, masked or not.
    pub(super) fn is_due(&self) -> bool {
        self.owed || self.live.as_ref().is_some_and(|live| live.is_due())
    }

    /// Delivers the interrupt of a restored table after unmask. Returns an error if the signal
    /// fails.
    pub(super) fn deliver_owed(&mut self) -> Result<(), Error> {
        if let Some(live) = self.live.as_ref().filter(|_| self.owed) {
            live.signal()?;
            self.owed = false;
        }
        Ok(())
    }
}

/// A vector that the guest uses.
#[derive(Debug)]
pub(super) struct Live<T: Transport> {
    vector: Vector<T>,
    /// The GSI of the route; `None` if no GSI was left.
    gsi: Option<u32>,
    /// The eventfd that KVM_IRQFD assigned to the GSI.
    irqfd: Option<Trigger>,
    way: Way,
}

/// The path of the host's interrupts.
#[derive(Debug)]
enum Way {
    /// Masked: an eventfd without a reader.
    Masked(Trigger),
    /// An eventfd in the epoll set, which user space reads.
    Polled(Trigger),
    /// An irqfd of KVM. `spare` is the eventfd of the other two, for the next mask.
    Irqfd { spare: Option<Trigger> },
}

/// The path of an unmasked vector: its irqfd, or user space until its route is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    Irqfd,
    UserSpace,
}

fn kvm<R>(what: &'static str, outcome: std::io::Result<R>) -> Result<R, Error> {
    outcome.map_err(|source| Error::Kvm { what, source })
}

impl<T: Transport> Live<T> {
    /// Returns a vector that was just enabled on `trigger`. User space sends its message at
    /// first.
    pub(super) fn new<V: Vm>(
        vector: Vector<T>,
        trigger: Trigger,
        message: Message,
        routes: &Routes<V>,
        epoll: &Epoll,
    ) -> Result<Self, Error> {
        epoll.add(&trigger, vector.number())?;
        let gsi = routes.allocate(message);
        if gsi.is_none() {
            tracing::debug!(number = vector.number(), "no GSI is left: signalled from user space");
        }
        Ok(Self { vector, gsi, irqfd: None, way: Way::Polled(trigger) })
    }

    fn is_pending(&self) -> bool {
        matches!(&self.way, Way::Masked(trigger) if trigger.is_signalled())
    }

    /// Returns true if the eventfd was signalled and not read yet. KVM reads at once.
    fn is_due(&self) -> bool {
        match &self.way {
            Way::Masked(trigger) | Way::Polled(trigger) => trigger.is_signalled(),
            Way::Irqfd { .. } => false,
        }
    }

    /// Signals the eventfd that the vector's interrupts signal.
    fn signal(&self) -> Result<(), Error> {
        match (&self.way, &self.irqfd) {
            (Way::Masked(trigger) | Way::Polled(trigger), _) => trigger.signal(),
            (Way::Irqfd { .. }, Some(irqfd)) => irqfd.signal(),
            (Way::Irqfd { .. }, None) => Ok(()),
        }
    }

    pub(super) fn is_masked(&self) -> bool {
        matches!(self.way, Way::Masked(_))
    }

    /// Sends the message if the eventfd was signalled since the last call. Returns true if it
    /// was.
    pub(super) fn pass_on<V: Vm>(&self, message: Message, vm: &V) -> Result<bool, Error> {
        let Way::Polled(trigger) = &self.way else { return Ok(false) };
        if trigger.take() == 0 {
            return Ok(false);
        }
        // No retry: a message that KVM refuses would be retried forever.
        kvm("an interrupt from user space", vm.signal(message))?;
        Ok(true)
    }

    /// Masks the vector. Returns an error if the host refuses the re-target.
    pub(super) fn mask(&mut self, epoll: &Epoll) -> Result<(), Error> {
        self.way = match &self.way {
            Way::Masked(_) => return Ok(()),
            Way::Polled(trigger) => {
                epoll.remove(trigger)?;
                Way::Masked(trigger.clone())
            }
            Way::Irqfd { spare } => {
                let trigger = spare.clone().map_or_else(Trigger::new, Ok)?;
                self.vector.retarget(&trigger)?;
                Way::Masked(trigger)
            }
        };
        Ok(())
    }

    /// Unmasks the vector with this message. Interrupts that arrived meanwhile are delivered
    /// once. Returns the path of the vector.
    pub(super) fn unmask<V: Vm>(
        &mut self,
        message: Message,
        routes: &Routes<V>,
        epoll: &Epoll,
    ) -> Result<Path, Error> {
        let Way::Masked(trigger) = &self.way else { return self.advance(message, routes, epoll) };
        epoll.add(trigger, self.vector.number())?;
        self.way = Way::Polled(trigger.clone());
        let path = self.advance(message, routes, epoll)?;
        self.pass_on(message, routes.vm())?;
        Ok(path)
    }

    /// Moves the vector to its irqfd if its route is committed. Returns the path of the vector.
    pub(super) fn advance<V: Vm>(
        &mut self,
        message: Message,
        routes: &Routes<V>,
        epoll: &Epoll,
    ) -> Result<Path, Error> {
        let Way::Polled(trigger) = &self.way else { return Ok(Path::Irqfd) };
        // If no GSI was left before, one may be free now.
        self.gsi = self.gsi.or_else(|| routes.allocate(message));
        let Some(gsi) = self.gsi.filter(|gsi| routes.is_current(*gsi, message)) else {
            return Ok(Path::UserSpace);
        };
        let spare = if let Some(irqfd) = &self.irqfd {
            self.vector.retarget(irqfd)?;
            epoll.remove(trigger)?;
            if trigger.take() > 0 {
                irqfd.signal()?;
            }
            Some(trigger.clone())
        } else {
            // KVM_IRQFD delivers a signal from before the call.
            kvm("an irqfd", routes.vm().assign(trigger.eventfd(), gsi))?;
            self.irqfd = Some(trigger.clone());
            epoll.remove(trigger)?;
            None
        };
        self.way = Way::Irqfd { spare };
        Ok(Path::Irqfd)
    }

    /// Releases the vector, its irqfd and its GSI. The drop of `self` detaches the host's vector.
    pub(super) fn close<V: Vm>(self, routes: &Routes<V>, epoll: &Epoll) {
        if let Way::Polled(trigger) = &self.way
            && let Err(error) = epoll.remove(trigger)
        {
            tracing::warn!(%error, "a released vector stays in the epoll set");
        }
        let Some(gsi) = self.gsi else { return };
        let gone = self.irqfd.map_or(Ok(()), |irqfd| routes.vm().deassign(irqfd.eventfd(), gsi));
        match gone {
            Ok(()) => routes.release(gsi),
            // The irqfd still raises this GSI, so the GSI must not be reused.
            Err(error) => tracing::warn!(%error, gsi, "an irqfd stays"),
        }
    }
}
