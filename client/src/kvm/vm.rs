//! The requests to KVM.

use crate::msix::Message;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_msi,
};
use kvm_ioctls::VmFd;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// An entry of KVM's table of routes: from a GSI to a pin or to a message.
///
/// ```
/// use vfio_irq::kvm::RoutingEntry;
/// use vfio_irq::msix::Message;
///
/// let message = Message { address: 0xfee0_0000, data: 0x41, device: Some(0x20) };
/// let entry = kvm_bindings::kvm_irq_routing_entry::from(RoutingEntry::Message { gsi: 24, message });
/// assert_eq!((entry.gsi, entry.type_), (24, kvm_bindings::KVM_IRQ_ROUTING_MSI));
/// assert_eq!(entry.flags, kvm_bindings::KVM_MSI_VALID_DEVID);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoutingEntry {
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

/// The address of a message as KVM takes it.
struct Address {
    low: u32,
    high: u32,
}

impl From<Message> for Address {
    /// Returns the halves of the address. On x86, an extended destination ID moves to the upper
    /// half: a guest that KVM_FEATURE_MSI_EXT_DEST_ID tells so writes bits 8 to 14 of the APIC ID
    /// to bits 5 to 11 of the address, as there is no interrupt remapping. KVM takes bits 8 and up
    /// from bits 8 and up of the upper half, if KVM_CAP_X2APIC_API was enabled with
    /// KVM_X2APIC_API_USE_32BIT_IDS, and ignores bits 5 to 11.
    fn from(message: Message) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        let (low, high) = (half(message.address), half(message.address >> 32));
        if cfg!(target_arch = "x86_64")
            && high == 0
            && low & (APIC_BASE_MASK | REMAPPABLE) == APIC_BASE
        {
            return Self { low: low & !EXTENDED, high: (low & EXTENDED) << 3 };
        }
        Self { low, high }
    }
}

/// The addresses of x86 that are messages.
const APIC_BASE: u32 = 0xfee0_0000;
const APIC_BASE_MASK: u32 = 0xfff0_0000;
/// The format of interrupt remapping, where the other bits are a handle.
const REMAPPABLE: u32 = 1 << 4;
/// Bits 8 to 14 of the APIC ID.
const EXTENDED: u32 = 0xfe0;

fn flags(message: Message) -> u32 {
    message.device.map_or(0, |_| KVM_MSI_VALID_DEVID)
}

impl From<RoutingEntry> for kvm_irq_routing_entry {
    fn from(route: RoutingEntry) -> Self {
        let mut entry = Self::default();
        match route {
            RoutingEntry::Pin { gsi, chip, pin } => {
                (entry.gsi, entry.type_) = (gsi, KVM_IRQ_ROUTING_IRQCHIP);
                entry.u.irqchip = kvm_irq_routing_irqchip { irqchip: chip, pin };
            }
            RoutingEntry::Message { gsi, message } => {
                (entry.gsi, entry.type_) = (gsi, KVM_IRQ_ROUTING_MSI);
                entry.flags = flags(message);
                let Address { low, high } = message.into();
                let mut msi = kvm_irq_routing_msi {
                    address_lo: low,
                    address_hi: high,
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

/// The requests to KVM. The crate implements them for kvm-ioctls' [`VmFd`]. A VMM with another
/// type for its VM implements them itself.
///
/// ```
/// use std::io;
/// use vfio_irq::kvm::{RoutingEntry, Vm};
/// use vfio_irq::msix::Message;
/// use vmm_sys_util::eventfd::EventFd;
///
/// /// Traces the size of each new table of routes.
/// struct Traced<V>(V);
///
/// impl<V: Vm> Vm for Traced<V> {
///     fn set_routes(&self, routes: &[RoutingEntry]) -> io::Result<()> {
///         eprintln!("{} routes", routes.len());
///         self.0.set_routes(routes)
///     }
///     fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> { self.0.assign(eventfd, gsi) }
///     fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> { self.0.deassign(eventfd, gsi) }
///     fn signal(&self, message: Message) -> io::Result<()> { self.0.signal(message) }
/// }
/// let traced = Traced(vfio_irq::sim::SimulatedVm::new());
/// traced.set_routes(&[RoutingEntry::Message { gsi: 24, message: Message::default() }])?;
/// assert_eq!(traced.0.routes().len(), 1);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Vm {
    /// Replaces all routes (KVM_SET_GSI_ROUTING).
    ///
    /// # Errors
    ///
    /// The error of KVM. The previous routes stay.
    fn set_routes(&self, routes: &[RoutingEntry]) -> io::Result<()>;

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
    fn set_routes(&self, routes: &[RoutingEntry]) -> io::Result<()> {
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
        let Address { low, high } = message.into();
        self.signal_msi(kvm_msi {
            address_lo: low,
            address_hi: high,
            data: message.data,
            flags: flags(message),
            devid: message.device.unwrap_or(0),
            ..Default::default()
        })?;
        Ok(())
    }
}

macro_rules! forward {
    ($($holder:ty),*) => {$(
        impl<V: Vm + ?Sized> Vm for $holder {
            fn set_routes(&self, routes: &[RoutingEntry]) -> io::Result<()> {
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
