//! Vectors without handles, and vectors that are attached again after a reset.

use std::io;
use std::sync::{Arc, Mutex};
use vfio_irq::sim::Simulated;
use vfio_irq::{Data, Error, Index, Info, SetIrqs, Transport, Trigger, Vectors};

#[test]
fn a_kept_vector_is_retargeted_and_detached_by_its_number() {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(device.clone(), Index::Msix).unwrap();
    let (old, new) = (Trigger::new().unwrap(), Trigger::new().unwrap());
    let (first, second) = (vectors.enable(3, &old).unwrap(), vectors.enable(4, &old).unwrap());
    first.keep();
    assert!(vectors.is_enabled(3) && vectors.is_enabled(4) && !vectors.is_enabled(5));
    assert!(matches!(vectors.enable(4, &new), Err(Error::AlreadyEnabled { number: 4, .. })));
    let handle = vectors.enable(3, &new).unwrap();
    device.raise(3);
    assert_eq!((old.take(), new.take()), (0, 1));

    vectors.detach(3).unwrap();
    vectors.detach(3).unwrap();
    assert!(matches!(handle.retarget(&old), Err(Error::Disabled { number: 3 })));
    assert!(matches!(vectors.detach(64), Err(Error::NoSuchVector { number: 64, .. })));
    second.loopback().unwrap();
    assert_eq!((vectors.enabled(), old.take()), (vec![4], 1));

    vectors.disable().unwrap();
    assert!(!vectors.is_enabled(4));
    second.keep(); // Stale: nothing to keep.
    assert!(vectors.enabled().is_empty());
}

/// Records the vectors of each request that attaches.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Transport for Recorder {
    fn irq_info(&self, _: Index) -> io::Result<Info> {
        Ok(Info { flags: 3, count: 8 }) // EVENTFD and MASKABLE.
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let kind = match request.data {
            Data::Eventfd(_) => "attach",
            _ => "mask",
        };
        self.0.lock().unwrap().push(format!("{kind} {}+{}", request.start, request.count()));
        Ok(0)
    }
}

#[test]
fn rearm_attaches_every_enabled_vector_again_and_signals_it_once() {
    let vectors = Vectors::open(Recorder::default(), Index::Msix).unwrap();
    let trigger = Trigger::new().unwrap();
    let handles = vectors.enable_many([0, 1, 5].map(|n| (n, &trigger))).unwrap();
    handles[2].mask().unwrap();
    vectors.transport().0.lock().unwrap().clear();
    vectors.rearm().unwrap();
    // A mask comes first: a masked vector must not signal in between.
    assert_eq!(*vectors.transport().0.lock().unwrap(), ["mask 5+1", "attach 0+2", "attach 5+1"]);
    assert_eq!(trigger.take(), 2, "vectors 0 and 1; vector 5 is signalled at unmask");
    handles[2].unmask().unwrap();
    assert_eq!(trigger.take(), 1);

    drop(handles);
    vectors.transport().0.lock().unwrap().clear();
    vectors.rearm().unwrap();
    assert!(vectors.transport().0.lock().unwrap().is_empty(), "nothing is enabled");
}
