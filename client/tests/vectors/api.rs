//! The capabilities, requests, INTx, events and triggers of the API.

use std::sync::Arc;
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{Action, Capabilities, Data, Index, Intx, KernelDevice, SetIrqs, Trigger};

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
fn a_descriptor_without_vfio_is_enotty() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = Capabilities::of(&KernelDevice::new(&null), Index::Msix).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTTY.raw()));
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
