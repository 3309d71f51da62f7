//! Attaches vectors to queues.

use super::function::AnyFunction;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vfio_irq::{
    Action, Data, Error, Index, Name, NoResize, Operation, SetIrqs, Transport, Trigger, Vector,
    Vectors,
};

/// How the driver adds a vector for a new queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// One SET_IRQS for the new vector, through [`Vectors`]. If the host cannot add vectors
    /// dynamically, the policy of [`Vectors`] decides.
    Dynamic(NoResize),
    /// Disables MSI-X, and enables it again with the old vectors and the new one. An interrupt in
    /// between is lost. For comparison only: VMMs did this before dynamic MSI-X.
    ReleaseAll,
}

impl Default for Method {
    fn default() -> Self {
        Self::Dynamic(NoResize::default())
    }
}

/// The vectors of one controller.
pub(crate) enum Interrupts {
    Dynamic(Vectors<AnyFunction>),
    ReleaseAll(Arc<Together>),
}

impl Interrupts {
    /// Creates the vectors, none enabled. Returns the number of vectors as well.
    pub(crate) fn open(function: &AnyFunction, method: Method) -> Result<(Self, u32), Error> {
        let function = Arc::clone(function);
        Ok(match method {
            Method::Dynamic(policy) => {
                let vectors = Vectors::with_policy(function, Index::Msix, policy)?;
                let count = vectors.capabilities().count();
                (Self::Dynamic(vectors), count)
            }
            Method::ReleaseAll => {
                let together = Together { function, attached: Mutex::default() };
                let count = together.count()?;
                (Self::ReleaseAll(Arc::new(together)), count)
            }
        })
    }

    /// Attaches an eventfd to a vector.
    pub(crate) fn attach(&self, number: u32, trigger: &Trigger) -> Result<Attached, Error> {
        Ok(match self {
            Self::Dynamic(vectors) => {
                Attached::Dynamic { _vector: vectors.enable(number, trigger)? }
            }
            Self::ReleaseAll(together) => {
                together.attach(number, trigger)?;
                Attached::ReleaseAll { together: Arc::clone(together), number }
            }
        })
    }

    /// Detaches all vectors.
    pub(crate) fn disable(&self) -> Result<(), Error> {
        match self {
            Self::Dynamic(vectors) => vectors.disable(),
            Self::ReleaseAll(together) => together.disable(),
        }
    }
}

/// A vector that is attached until dropped.
pub(crate) enum Attached {
    Dynamic { _vector: Vector<AnyFunction> },
    ReleaseAll { together: Arc<Together>, number: u32 },
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Self::ReleaseAll { together, number } = self
            && let Err(error) = together.detach(*number)
        {
            tracing::warn!(%error, "a vector stays attached");
        }
    }
}

/// Vectors that are enabled all at once.
pub(crate) struct Together {
    function: AnyFunction,
    /// From vector 0 on; empty while MSI-X is disabled.
    attached: Mutex<Vec<Option<Trigger>>>,
}

impl Together {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Trigger>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> Result<u32, Error> {
        let what = Operation { verb: "query", index: MSIX, start: 0, count: 0 };
        let info = self.function.irq_info(Index::Msix);
        match info.map_err(|source| Error::Refused { what, source })?.count {
            0 => Err(Error::Absent { index: MSIX }),
            count => Ok(count),
        }
    }

    fn request(&self, verb: &'static str, start: u32, data: Data<'_>) -> Result<(), Error> {
        let request = SetIrqs { index: Index::Msix, action: Action::Trigger, start, data };
        let count = request.count();
        match self.function.set_irqs(&request) {
            Ok(0) => Ok(()),
            Ok(available) => Err(Error::TooFew { index: MSIX, asked: count, available }),
            Err(source) => {
                Err(Error::Refused { what: Operation { verb, index: MSIX, start, count }, source })
            }
        }
    }

    fn enable(&self, attached: &[Option<Trigger>]) -> Result<(), Error> {
        let fds: Vec<_> =
            attached.iter().map(|trigger| trigger.as_ref().map(AsFd::as_fd)).collect();
        self.request("enable", 0, Data::Eventfd(&fds))
    }

    fn attach(&self, number: u32, trigger: &Trigger) -> Result<(), Error> {
        let mut attached = self.lock();
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let mut wanted = attached.clone();
        wanted.resize(wanted.len().max(place.saturating_add(1)), None);
        if let Some(place) = wanted.get_mut(place) {
            *place = Some(trigger.clone());
        }
        if !attached.is_empty() {
            self.request("disable", 0, Data::None { count: 0 })?;
        }
        if let Err(cause) = self.enable(&wanted) {
            if attached.is_empty() || self.enable(&attached).is_ok() {
                return Err(cause);
            }
            let lost = (0..).zip(attached.drain(..)).filter_map(|(n, t)| t.map(|_| n)).collect();
            return Err(Error::Unrestored { cause: Box::new(cause), lost });
        }
        *attached = wanted;
        Ok(())
    }

    fn detach(&self, number: u32) -> Result<(), Error> {
        let mut attached = self.lock();
        let place = attached.get_mut(usize::try_from(number).unwrap_or(usize::MAX));
        match place {
            Some(place) if place.is_some() => {
                *place = None;
                self.request("detach", number, Data::Eventfd(&[None]))
            }
            _ => Ok(()),
        }
    }

    fn disable(&self) -> Result<(), Error> {
        let mut attached = self.lock();
        if attached.is_empty() {
            return Ok(());
        }
        attached.clear();
        self.request("disable", 0, Data::None { count: 0 })
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if let Err(error) = self.disable() {
            tracing::warn!(%error, "vectors stay enabled");
        }
    }
}

const MSIX: Name = Name(Index::Msix);
