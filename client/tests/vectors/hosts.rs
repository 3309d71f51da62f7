//! Hosts that deviate from the simulated device, as wrappers of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{Action, Data, Index, Info, SetIrqs, Transport, Trigger};

/// Returns N eventfds.
pub fn triggers<const N: usize>() -> [Trigger; N] {
    std::array::from_fn(|_| Trigger::new().unwrap())
}

/// Returns a descriptor that is not an eventfd.
pub fn no_eventfd() -> Trigger {
    Trigger::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()))
}

/// Returns a host that cannot add vectors, as Linux before 6.5.
pub fn old() -> Arc<Simulated> {
    Arc::new(Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() }))
}

/// Linux's own driver: a failed request has detached the vectors up to the failing one.
pub struct LikeC(pub Arc<Simulated>);

impl LikeC {
    fn one(&self, request: &SetIrqs<'_>, at: usize, data: Data<'_>) -> io::Result<u32> {
        let start = request.start + u32::try_from(at).unwrap();
        self.0.set_irqs(&SetIrqs { start, data, ..*request })
    }
}

impl Transport for LikeC {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.0.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let active = self.0.allocated() > 0;
        let failed = match self.0.set_irqs(request) {
            Err(error) if active => error,
            // Linux undoes an enable of an idle index.
            done => return done,
        };
        if let (Data::Eventfd(fds), Action::Trigger) = (request.data, request.action) {
            for (at, fd) in fds.iter().enumerate() {
                let bad = self.one(request, at, Data::Eventfd(&[*fd])).is_err();
                let _ = self.one(request, at, Data::Eventfd(&[None]));
                if bad {
                    break;
                }
            }
        }
        Err(failed)
    }
}

/// A host that refuses to detach a vector that is attached.
pub struct KeepsVectors(pub Arc<Simulated>);

impl Transport for KeepsVectors {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.0.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let detach = matches!(request.data, Data::Eventfd([None])) && request.start > 0;
        if detach {
            Err(io::Error::from_raw_os_error(Errno::ENOMEM.raw()))
        } else {
            self.0.set_irqs(request)
        }
    }
}

/// A device that raises these vectors after each disable.
pub struct Storm(pub Arc<Simulated>, pub Vec<u32>);

impl Transport for Storm {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.0.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let answer = self.0.set_irqs(request);
        let disable = matches!(request.data, Data::None { count: 0 });
        if disable && request.action == Action::Trigger {
            self.1.iter().for_each(|vector| self.0.raise(*vector));
        }
        answer
    }
}
