//! The capabilities, requests, INTx, events and triggers of the API.

use std::sync::Arc;
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{
    Action, Capabilities, Data, Event, Index, Intx, KernelDevice, SetIrqs, Transport, Trigger,
    Vectors,
};

fn trigger() -> Trigger {
    Trigger::new().unwrap()
}

#[test]
fn i03_to_i07_capabilities_name_what_the_host_reports() {
    let device =
        Simulated::with(IrqCaps { msi: 0, msix: 16, dynamic: false, ..IrqCaps::default() });
    let of = |index| Capabilities::of(&device, index).unwrap();
    assert_eq!(of(Index::Intx).to_string(), "INTx: 1 vector, added at any time, maskable");
    assert_eq!(of(Index::Msi).to_string(), "MSI: none", "an absent index is not an error");
    assert_eq!(of(Index::Msix).to_string(), "MSI-X: 16 vectors, enabled as a set, maskable");
    assert!(Index::ALL.iter().all(|index| of(*index).eventfd()));
    assert!(of(Index::Intx).automasked() && !of(Index::Msix).automasked());
    let msi = Simulated::with(IrqCaps { msi_maskable: false, ..IrqCaps::default() });
    let msi = Capabilities::of(&msi, Index::Msi).unwrap();
    assert!(!msi.maskable() && !msi.resizable());
}

#[test]
fn c07_and_c08_requests_have_the_layout_of_the_abi() {
    let data = Data::Eventfd(&[None]);
    let detach = SetIrqs { index: Index::Msix, action: Action::Trigger, start: 7, data };
    let bytes = detach.to_bytes();
    let words: Vec<_> = bytes.as_chunks().0.iter().map(|word| i32::from_ne_bytes(*word)).collect();
    assert_eq!(words, [24, 36, 2, 7, 1, -1]);
    let data = Data::Bool(&[true, false, true]);
    let unmask = SetIrqs { index: Index::Msix, action: Action::Unmask, start: 8, data };
    assert_eq!((unmask.count(), unmask.flags(), unmask.to_bytes().len()), (3, 2 | 16, 23));
}

#[test]
fn v03_and_v06_a_transport_returns_what_the_device_answers() {
    let device = Simulated::with(IrqCaps { interrupts: 3, ..IrqCaps::default() });
    let request = |data| {
        device.set_irqs(&SetIrqs { index: Index::Msix, action: Action::Trigger, start: 0, data })
    };
    assert_eq!(request(Data::Eventfd(&[None; 5])).unwrap(), 3);
    assert_eq!(device.allocated(), 0);
    let idle = request(Data::None { count: 0 }).unwrap_err();
    assert_eq!(idle.raw_os_error(), Some(Errno::EINVAL.raw()));
}

#[test]
fn a_descriptor_without_vfio_is_enotty() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = Capabilities::of(&KernelDevice::new(&null), Index::Msix).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTTY.raw()));
}

#[test]
fn a_host_without_interrupts_is_enospc_with_a_hint() {
    let full = Simulated::with(IrqCaps { interrupts: 0, ..IrqCaps::default() });
    let vectors = Vectors::open(full, Index::Msix).unwrap();
    let error = vectors.enable(0, trigger()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC.raw()));
    assert!(error.to_string().ends_with("let queues share vectors, or free other interrupts"));
}

#[test]
fn v07_two_vectors_swap_their_eventfds_in_one_call() {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
    let (first, second) = (trigger(), trigger());
    let a = vectors.enable(0, &first).unwrap();
    let b = vectors.enable(1, &second).unwrap();
    let before = device.requests();
    vectors.retarget_many([(&a, &second), (&b, &first)]).unwrap();
    assert_eq!(device.requests(), before + 1);
    device.raise(0);
    assert_eq!((first.take(), second.take()), (0, 1));
}

#[test]
fn v04_a_loopback_signals_a_masked_vector() {
    let vectors = Vectors::open(Simulated::new(), Index::Msix).unwrap();
    let vector = vectors.enable(0, trigger()).unwrap();
    vector.mask().unwrap();
    vector.loopback().unwrap();
    assert_eq!(vector.trigger().unwrap().take(), 1);
}

#[test]
fn x02_a_second_resample_eventfd_replaces_the_first() {
    let device = Arc::new(Simulated::new());
    let mut intx = Intx::enable(Arc::clone(&device), trigger()).unwrap();
    let first = trigger();
    intx.set_resample(Some(first.clone())).unwrap();
    intx.set_resample(Some(trigger())).unwrap();
    device.assert_intx();
    device.signal(&first);
    device.assert_intx();
    assert_eq!(intx.trigger().take(), 1, "the first eventfd is disarmed");
    intx.loopback().unwrap();
    assert_eq!(intx.trigger().take(), 1, "a loopback of a masked INTx");
    intx.unmask().unwrap();
    intx.retarget(trigger()).unwrap();
    device.assert_intx();
    assert_eq!(intx.trigger().take(), 1);
}

#[test]
fn e03_an_event_takes_err_or_req() {
    let device = Arc::new(Simulated::new());
    let event = Event::open(Arc::clone(&device), Index::Err, trigger()).unwrap();
    let other = Event::open(Arc::clone(&device), Index::Req, trigger()).unwrap();
    assert!(!event.trigger().is_signalled() && !other.trigger().is_signalled());
    let error = Event::open(&device, Index::Msix, trigger()).unwrap_err();
    assert_eq!(error.to_string(), "this call takes ERR or REQ, not MSI-X");
}

#[test]
fn a_trigger_counts_until_it_is_taken() {
    let trigger = trigger();
    let clone = trigger.clone();
    clone.signal().unwrap();
    assert!(trigger.is_signalled() && trigger.is_signalled(), "a poll reads nothing");
    trigger.eventfd().write(3).unwrap();
    assert_eq!((trigger.take(), clone.take()), (4, 0));
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = Trigger::from(std::os::fd::OwnedFd::from(null)).signal().unwrap_err();
    assert!(error.to_string().starts_with("an eventfd cannot be signalled: "));
}
