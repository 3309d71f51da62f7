//! What the table needs of the VMM: a route for each vector.

use crate::{Error, Trigger};
use std::io;
use std::sync::Arc;

/// A message signalled interrupt: a write of `data` to `address`.
///
/// ```
/// use vfio_irq::msix::Message;
///
/// // On x86 the address selects the processor, and the data selects its vector.
/// let message = Message { address: 0xfee0_3000, data: 0x41, device: None };
/// assert_eq!((message.address >> 12 & 0xff, message.data & 0xff), (3, 0x41));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// The address of the write.
    pub address: u64,
    /// The data of the write.
    pub data: u32,
    /// The device identifier, if the interrupt controller needs one (Arm's ITS).
    pub device: Option<u32>,
}

/// The interrupt routes of a VM. The tables of all its devices share them.
///
/// This is a VMM whose routes take effect at once, in a table that it shares with its emulated
/// devices. `ADOPTING.md` shows the whole of it.
///
/// ```
/// use std::io;
/// use std::sync::{Arc, Mutex};
/// use vfio_irq::msix::{Message, MsixTable, Route, Routes};
/// use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
///
/// #[derive(Clone)]
/// struct Vm(Arc<Mutex<Vec<Option<Message>>>>);
/// struct Gsi(usize, Vm, Trigger);
///
/// impl Routes for Vm {
///     type Route = Gsi;
///     fn allocate(&self) -> io::Result<Option<Gsi>> {
///         let mut routes = self.0.lock().unwrap();
///         routes.push(None);
///         let trigger = Trigger::new().map_err(io::Error::other)?;
///         Ok(Some(Gsi(routes.len() - 1, self.clone(), trigger)))
///     }
/// }
///
/// impl Route for Gsi {
///     fn trigger(&self) -> &Trigger {
///         &self.2
///     }
///     fn set(&mut self, message: Message) -> io::Result<bool> {
///         self.1.0.lock().unwrap()[self.0] = Some(message);
///         Ok(true) // The hypervisor has the whole table, and this eventfd as an irqfd.
///     }
/// }
///
/// let vm = Vm(Arc::default());
/// let mut table = MsixTable::new(Vectors::open(Simulated::new(), Index::Msix)?, vm.clone())?;
/// table.set_control(0x8000)?;
/// table.write(8, &0x41_u64.to_le_bytes())?; // The guest unmasks entry 0.
/// assert_eq!(vm.0.lock().unwrap()[0].unwrap().data, 0x41);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
pub trait Routes {
    /// One route.
    type Route: Route;

    /// Allocates a route, such as a GSI of KVM. Returns `None` if no route is left. User space
    /// then sends the messages of the vector ([`Routes::signal`]).
    ///
    /// # Errors
    ///
    /// The error of the hypervisor. The vector is not enabled; [`super::MsixTable::retry`] tries
    /// again.
    fn allocate(&self) -> io::Result<Option<Self::Route>>;

    /// Commits every route that waits. Routes that take effect at once need nothing here.
    ///
    /// # Errors
    ///
    /// The error of the hypervisor. The routes wait for the next call.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Returns true if enough routes wait that the table is to call [`Routes::flush`] after a
    /// write of the guest.
    fn is_due(&self) -> bool {
        false
    }

    /// Sends a message from user space (KVM_SIGNAL_MSI): the message of a vector whose route
    /// waits, or that has none. [`super::MsixTable::handle_events`] is the only caller.
    ///
    /// # Errors
    ///
    /// The error of the hypervisor; the message is dropped. Without an implementation,
    /// "unsupported": no implementation is needed where [`Routes::allocate`] always returns a route
    /// and [`Route::set`] always returns true.
    fn signal(&self, _message: Message) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns an eventfd for a masked vector, or for a vector without a route: nonblocking, with
    /// a count of 0, and without another reader. A VMM whose virtual processors may not call
    /// `eventfd2` makes them ahead.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] if no eventfd is left. The table then detaches the vector that was
    /// to be masked, and the device holds its interrupts.
    fn eventfd(&self) -> Result<Trigger, Error> {
        Trigger::new()
    }
}

/// One route: signals of its eventfd become messages to the guest. Dropping it gives it back, after
/// the vector was detached.
pub trait Route {
    /// Returns the eventfd. The hypervisor reads it from the first time that [`Route::set`]
    /// returns true. Until then, the table reads it; the eventfd is then a nonblocking one.
    fn trigger(&self) -> &Trigger;

    /// Sets the message of the route. Returns true if signals of the eventfd now become this
    /// message, also a signal from before the call. Returns false if the route waits for
    /// [`Routes::flush`]; the table then calls `set` again after it.
    ///
    /// No vector signals the eventfd while the table changes the message of a route. On
    /// Microsoft's hypervisor, a changed message needs a deassign and an assign.
    ///
    /// # Errors
    ///
    /// The error of the hypervisor. User space sends the messages of the vector, and
    /// [`super::MsixTable::retry`] tries again.
    fn set(&mut self, message: Message) -> io::Result<bool>;
}

macro_rules! forward {
    ($($holder:ty),*) => {$(
        impl<R: Routes + ?Sized> Routes for $holder {
            type Route = R::Route;

            fn allocate(&self) -> io::Result<Option<R::Route>> {
                (**self).allocate()
            }

            fn flush(&self) -> io::Result<()> {
                (**self).flush()
            }

            fn is_due(&self) -> bool {
                (**self).is_due()
            }

            fn signal(&self, message: Message) -> io::Result<()> {
                (**self).signal(message)
            }

            fn eventfd(&self) -> Result<Trigger, Error> {
                (**self).eventfd()
            }
        }
    )*};
}
forward!(&R, Box<R>, Arc<R>);

impl<R: Route + ?Sized> Route for Box<R> {
    fn trigger(&self) -> &Trigger {
        (**self).trigger()
    }

    fn set(&mut self, message: Message) -> io::Result<bool> {
        (**self).set(message)
    }
}
