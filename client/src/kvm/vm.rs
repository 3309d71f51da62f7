//! The requests to KVM.

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_msi,
};
use kvm_ioctls::VmFd;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A message signalled interrupt: a write of `data` to `address`.
///
/// ```
/// use vfio_irq::kvm::Message;
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

impl Message {
    fn low(self) -> u32 {
        u32::try_from(self.address & u64::from(u32::MAX)).unwrap_or_default()
    }

    fn high(self) -> u32 {
        u32::try_from(self.address >> 32).unwrap_or_default()
    }

    fn flags(self) -> u32 {
        self.device.map_or(0, |_| KVM_MSI_VALID_DEVID)
    }
}

/// A route from a GSI to a pin or to a message.
///
/// ```
/// use vfio_irq::kvm::{Message, Route};
///
/// let message = Message { address: 0xfee0_0000, data: 0x41, device: Some(0x20) };
/// let entry = kvm_bindings::kvm_irq_routing_entry::from(Route::Message { gsi: 24, message });
/// assert_eq!((entry.gsi, entry.type_), (24, kvm_bindings::KVM_IRQ_ROUTING_MSI));
/// assert_eq!(entry.flags, kvm_bindings::KVM_MSI_VALID_DEVID);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// A pin of an interrupt controller.
    Pin {
        /// The GSI.
        gsi: u32,
        /// The controller: `KVM_IRQCHIP_*`.
        chip: u32,
        /// The pin of the controller.
        pin: u32,
    },
    /// A message.
    Message {
        /// The GSI.
        gsi: u32,
        /// The message.
        message: Message,
    },
}

impl From<Route> for kvm_irq_routing_entry {
    fn from(route: Route) -> Self {
        let mut entry = Self::default();
        match route {
            Route::Pin { gsi, chip, pin } => {
                (entry.gsi, entry.type_) = (gsi, KVM_IRQ_ROUTING_IRQCHIP);
                entry.u.irqchip = kvm_irq_routing_irqchip { irqchip: chip, pin };
            }
            Route::Message { gsi, message } => {
                (entry.gsi, entry.type_) = (gsi, KVM_IRQ_ROUTING_MSI);
                entry.flags = message.flags();
                let mut msi = kvm_irq_routing_msi {
                    address_lo: message.low(),
                    address_hi: message.high(),
                    data: message.data,
                    ..Default::default()
                };
                msi.__bindgen_anon_1.devid = message.device.unwrap_or(0);
                entry.u.msi = msi;
            }
        }
        entry
    }
}

/// The interrupts of a VM. The crate implements it for kvm-ioctls' [`VmFd`]. A VMM with its own
/// route table implements it itself.
///
/// ```
/// use std::io;
/// use vfio_irq::kvm::{Message, Route, Vm};
/// use vmm_sys_util::eventfd::EventFd;
///
/// /// Commits these routes together with those of other devices.
/// struct Merged<V>(V, Vec<Route>);
///
/// impl<V: Vm> Vm for Merged<V> {
///     fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
///         self.0.set_routes(&[&self.1, routes].concat())
///     }
///     fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> { self.0.assign(eventfd, gsi) }
///     fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> { self.0.deassign(eventfd, gsi) }
///     fn signal(&self, message: Message) -> io::Result<()> { self.0.signal(message) }
/// }
/// let vm = vfio_irq::sim::SimulatedVm::new();
/// let merged = Merged(&vm, vec![Route::Pin { gsi: 4, chip: 2, pin: 4 }]);
/// merged.set_routes(&[Route::Message { gsi: 24, message: Message::default() }])?;
/// assert_eq!(vm.routes().len(), 2);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Vm {
    /// Replaces all routes (KVM_SET_GSI_ROUTING).
    ///
    /// # Errors
    ///
    /// The error of KVM. The previous routes stay.
    fn set_routes(&self, routes: &[Route]) -> io::Result<()>;

    /// Assigns an irqfd: each signal of the eventfd raises the GSI (KVM_IRQFD). A signal from
    /// before the call is delivered.
    ///
    /// # Errors
    ///
    /// The error of KVM.
    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()>;

    /// Deassigns an irqfd. No interrupt arrives after the call. An irqfd that does not exist is
    /// not an error.
    ///
    /// # Errors
    ///
    /// The error of KVM.
    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()>;

    /// Sends a message (KVM_SIGNAL_MSI).
    ///
    /// # Errors
    ///
    /// The error of KVM.
    fn signal(&self, message: Message) -> io::Result<()>;
}

impl Vm for VmFd {
    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        let entries: Vec<kvm_irq_routing_entry> =
            routes.iter().map(|route| (*route).into()).collect();
        // More routes than KVM accepts.
        let many = |_| io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error());
        Ok(self.set_gsi_routing(&KvmIrqRouting::from_entries(&entries).map_err(many)?)?)
    }

    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.register_irqfd(eventfd, gsi)?)
    }

    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.unregister_irqfd(eventfd, gsi)?)
    }

    fn signal(&self, message: Message) -> io::Result<()> {
        self.signal_msi(kvm_msi {
            address_lo: message.low(),
            address_hi: message.high(),
            data: message.data,
            flags: message.flags(),
            devid: message.device.unwrap_or(0),
            ..Default::default()
        })?;
        Ok(())
    }
}

macro_rules! forward {
    ($($holder:ty),*) => {$(
        impl<V: Vm + ?Sized> Vm for $holder {
            fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
                (**self).set_routes(routes)
            }

            fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
                (**self).assign(eventfd, gsi)
            }

            fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
                (**self).deassign(eventfd, gsi)
            }

            fn signal(&self, message: Message) -> io::Result<()> {
                (**self).signal(message)
            }
        }
    )*};
}
forward!(&V, Box<V>, Arc<V>);
