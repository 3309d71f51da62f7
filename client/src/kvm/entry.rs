//! One entry of the table, and the way its interrupts take.

use super::routes::Routes;
use super::watch::Watch;
use super::{Message, Vm};
use crate::{Error, Transport, Trigger, Vector};

/// Bit 0 of the vector control word.
pub(super) const MASKED: u32 = 1;

/// What the guest wrote, and what there is behind it.
#[derive(Debug)]
pub(super) struct Entry<T: Transport> {
    pub(super) message: Message,
    /// The vector control word; bit 0 masks.
    pub(super) control: u32,
    /// An interrupt that came in where the table was saved and is still to be delivered.
    pub(super) owed: bool,
    /// Nothing until the guest unmasks it for the first time.
    pub(super) live: Option<Box<Live<T>>>,
}

impl<T: Transport> Entry<T> {
    /// An entry that the guest has not written to.
    pub(super) fn new(device: Option<u32>) -> Self {
        let message = Message { device, ..Message::default() };
        Self { message, control: MASKED, owed: false, live: None }
    }

    /// Its pending bit: what came in while it was masked.
    pub(super) fn is_pending(&self) -> bool {
        self.owed || self.live.as_ref().is_some_and(|live| live.is_pending())
    }

    /// Whether an interrupt came in that the guest has not been told of, masked or not.
    pub(super) fn is_due(&self) -> bool {
        self.owed || self.live.as_ref().is_some_and(|live| live.is_due())
    }

    /// Signals what is owed, now that the vector is open.
    pub(super) fn pay(&mut self) -> Result<(), Error> {
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
    /// Its route; `None` when there was no GSI left.
    gsi: Option<u32>,
    /// The eventfd with an irqfd.
    fast: Option<Trigger>,
    way: Way,
}

/// Where the host's interrupts go.
#[derive(Debug)]
enum Way {
    /// Masked: to an eventfd that nobody waits for.
    Held(Trigger),
    /// To an eventfd that user space waits for.
    Watched(Trigger),
    /// To KVM. The eventfd of the other two is kept for the next mask.
    Direct { spare: Option<Trigger> },
}

/// Whether a vector waits for its route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Open {
    Direct,
    Waiting,
}

fn kvm<R>(what: &'static str, outcome: std::io::Result<R>) -> Result<R, Error> {
    outcome.map_err(|source| Error::Kvm { what, source })
}

impl<T: Transport> Live<T> {
    /// A vector that was just enabled on `trigger`: signalled from user space at first.
    pub(super) fn new<V: Vm>(
        vector: Vector<T>,
        trigger: Trigger,
        message: Message,
        routes: &Routes<V>,
        watch: &Watch,
    ) -> Result<Self, Error> {
        watch.add(&trigger, vector.number())?;
        let gsi = routes.allocate(message);
        if gsi.is_none() {
            tracing::debug!(number = vector.number(), "no GSI is left: signalled from user space");
        }
        Ok(Self { vector, gsi, fast: None, way: Way::Watched(trigger) })
    }

    fn is_pending(&self) -> bool {
        matches!(&self.way, Way::Held(trigger) if trigger.is_signalled())
    }

    /// Whether it was signalled and nobody took that yet; KVM takes at once.
    fn is_due(&self) -> bool {
        match &self.way {
            Way::Held(trigger) | Way::Watched(trigger) => trigger.is_signalled(),
            Way::Direct { .. } => false,
        }
    }

    /// Signals the eventfd that its interrupts signal.
    fn signal(&self) -> Result<(), Error> {
        match (&self.way, &self.fast) {
            (Way::Held(trigger) | Way::Watched(trigger), _) => trigger.signal(),
            (Way::Direct { .. }, Some(fast)) => fast.signal(),
            (Way::Direct { .. }, None) => Ok(()),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.way, Way::Held(_))
    }

    /// Sends the message for what came in since it was asked last; whether there was anything.
    pub(super) fn pass_on<V: Vm>(&self, message: Message, vm: &V) -> Result<bool, Error> {
        let Way::Watched(trigger) = &self.way else { return Ok(false) };
        if trigger.take() == 0 {
            return Ok(false);
        }
        // Not tried again: a guest's message that leads nowhere would never end.
        kvm("an interrupt from user space", vm.signal(message))?;
        Ok(true)
    }

    /// Masks it.
    pub(super) fn hold(&mut self, watch: &Watch) -> Result<(), Error> {
        self.way = match &self.way {
            Way::Held(_) => return Ok(()),
            Way::Watched(trigger) => {
                watch.remove(trigger)?;
                Way::Held(trigger.clone())
            }
            Way::Direct { spare } => {
                let trigger = spare.clone().map_or_else(Trigger::new, Ok)?;
                self.vector.retarget(&trigger)?;
                Way::Held(trigger)
            }
        };
        Ok(())
    }

    /// Unmasks it, with this message. What came in meanwhile is delivered once.
    pub(super) fn open<V: Vm>(
        &mut self,
        message: Message,
        routes: &Routes<V>,
        watch: &Watch,
    ) -> Result<Open, Error> {
        let Way::Held(trigger) = &self.way else { return self.advance(message, routes, watch) };
        watch.add(trigger, self.vector.number())?;
        self.way = Way::Watched(trigger.clone());
        let open = self.advance(message, routes, watch)?;
        self.pass_on(message, routes.vm())?;
        Ok(open)
    }

    /// Moves it to its irqfd if its route is there.
    pub(super) fn advance<V: Vm>(
        &mut self,
        message: Message,
        routes: &Routes<V>,
        watch: &Watch,
    ) -> Result<Open, Error> {
        let Way::Watched(trigger) = &self.way else { return Ok(Open::Direct) };
        // One that was not to be had before may be now.
        self.gsi = self.gsi.or_else(|| routes.allocate(message));
        let Some(gsi) = self.gsi.filter(|gsi| routes.is_current(*gsi, message)) else {
            return Ok(Open::Waiting);
        };
        let spare = if let Some(fast) = &self.fast {
            self.vector.retarget(fast)?;
            watch.remove(trigger)?;
            if trigger.take() > 0 {
                fast.signal()?;
            }
            Some(trigger.clone())
        } else {
            // KVM takes what is in the eventfd already.
            kvm("an irqfd", routes.vm().assign(trigger.eventfd(), gsi))?;
            self.fast = Some(trigger.clone());
            watch.remove(trigger)?;
            None
        };
        self.way = Way::Direct { spare };
        Ok(Open::Direct)
    }

    /// Takes it down. The host's vector goes with it.
    pub(super) fn close<V: Vm>(self, routes: &Routes<V>, watch: &Watch) {
        if let Way::Watched(trigger) = &self.way
            && let Err(error) = watch.remove(trigger)
        {
            tracing::warn!(%error, "a vector that goes");
        }
        let Some(gsi) = self.gsi else { return };
        let gone = self.fast.map_or(Ok(()), |fast| routes.vm().deassign(fast.eventfd(), gsi));
        match gone {
            Ok(()) => routes.release(gsi),
            // Its GSI must not be used for another.
            Err(error) => tracing::warn!(%error, gsi, "an irqfd stays"),
        }
    }
}
