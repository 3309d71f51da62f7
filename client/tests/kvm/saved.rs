//! A saved table, restored on another VM.

use crate::machine::{ENABLE, FUNCTION_MASK, Machine, is_pending, opened, set_mask, table, unmask};
use std::sync::Arc;
use vfio_irq::kvm::{KvmRoutes, Vm};
use vfio_irq::msix::{Message, MsixTable, Saved};
use vfio_irq::sim::{Errno, Simulated, SimulatedVm};
use vfio_irq::{Error, Index, Transport, Vectors};

pub const CASES: [(&str, fn()); 8] = [
    ("a_restored_table_reads_as_the_one_saved", reads_the_same),
    ("saving_changes_nothing", saving_changes_nothing),
    ("what_was_pending_comes_when_it_is_unmasked_elsewhere", pending_moves),
    ("what_user_space_had_not_passed_on_comes_elsewhere", undelivered_moves),
    ("a_host_without_vectors_owes_what_was_restored", owed_until_there_are_vectors),
    ("a_reset_forgets_everything", reset_forgets),
    ("a_saved_table_has_a_stable_format", serialized),
    ("device_and_hypervisor_can_be_trait_objects", trait_objects),
];

pub const REAL: [(&str, fn()); 1] = [("kvm_a_restored_table_delivers", delivers)];

fn reads_the_same() {
    for control in [0, ENABLE, ENABLE | FUNCTION_MASK] {
        let (_, _, mut here) = opened(70, 70);
        here.set_control(control).unwrap();
        for number in [0, 5, 69] {
            unmask(&mut here, number, 0x40);
        }
        here.write(16, &0xfee0_1000_1234_5678_u64.to_le_bytes()).unwrap();
        set_mask(&mut here, 5, true);
        let saved = here.save();
        assert_eq!((saved.table.len(), saved.pending.len()), (70 * 16, 16));
        let (vm, device, mut there) = opened(70, 70);
        // `restore` releases the previous vectors.
        unmask(&mut there, 33, 0x51);
        there.commit().unwrap();
        there.restore(&saved).unwrap();
        assert_eq!(there.save(), saved);
        let expected: &[u32] = if control == ENABLE { &[0, 69] } else { &[] };
        assert_eq!(there.vectors().enabled(), expected);
        drop(there);
        assert_eq!(device.leaks(), None);
        assert_eq!(vm.irqfds(), 0);
    }
}

fn saving_changes_nothing() {
    let (vm, device, mut table) = opened(64, 64);
    unmask(&mut table, 1, 0x41);
    unmask(&mut table, 2, 0x42);
    table.commit().unwrap();
    unmask(&mut table, 3, 0x43);
    set_mask(&mut table, 1, true);
    (1..4).for_each(|number| device.raise(number));
    let before = device.requests();
    let saved = table.save();
    assert_eq!(saved.pending[0], 0b1010, "2 went to KVM");
    assert_eq!(table.save(), saved);
    assert_eq!(device.requests(), before);
    assert_eq!(table.handle_events().unwrap(), 1, "the guest goes on: 3 is signalled");
    set_mask(&mut table, 1, false);
    assert_eq!(table.save().pending[0], 0, "1 went to its irqfd when it was unmasked");
    let mut received: Vec<u32> = vm.received().iter().map(|message| message.data).collect();
    received.sort_unstable();
    assert_eq!(received, [0x41, 0x42, 0x43], "each once");
}

fn pending_moves() {
    let (_, device, mut here) = opened(64, 64);
    for number in [4, 9] {
        unmask(&mut here, number, 0x40);
        set_mask(&mut here, number, true);
        device.raise(number);
    }
    let saved = here.save();
    let (vm, device, mut there) = opened(64, 64);
    there.restore(&saved).unwrap();
    assert!(is_pending(&mut there, 4) && is_pending(&mut there, 9) && !is_pending(&mut there, 5));
    assert_eq!(device.allocated(), 1, "Enable allocates vector 0, a masked vector nothing");
    set_mask(&mut there, 4, false);
    assert!(!is_pending(&mut there, 4) && is_pending(&mut there, 9));
    assert_eq!(there.handle_events().unwrap(), 1);
    // A second migration, before vector 9 is unmasked.
    let (_, _, mut farther) = opened(64, 64);
    farther.restore(&there.save()).unwrap();
    set_mask(&mut farther, 9, false);
    assert_eq!(farther.handle_events().unwrap(), 1);
    set_mask(&mut farther, 9, true);
    set_mask(&mut farther, 9, false);
    assert_eq!(farther.handle_events().unwrap(), 0, "once");
    assert_eq!(vm.received().len(), 1);
}

fn undelivered_moves() {
    let (here_vm, device, mut here) = opened(64, 64);
    here.write(7 * 16, &0x12_fee0_1fe8_u64.to_le_bytes()).unwrap();
    here.write(7 * 16 + 8, &0x61_u64.to_le_bytes()).unwrap();
    device.raise(7);
    // `handle_events` was not called.
    assert!(!is_pending(&mut here, 7), "it is not masked: the guest sees no pending bit");
    let (vm, _, mut there) = opened(64, 64);
    there.restore(&here.save()).unwrap();
    assert!(!is_pending(&mut there, 7));
    assert_eq!(there.handle_events().unwrap(), 1);
    let message = Message { address: 0x12_fee0_1fe8, data: 0x61, device: None };
    assert_eq!(
        vm.received(),
        [message],
        "the upper half and the bits of extended destinations, too"
    );
    assert!(here_vm.received().is_empty());
}

fn owed_until_there_are_vectors() {
    let (_, device, mut here) = opened(64, 64);
    unmask(&mut here, 0, 0x40);
    device.raise(0);
    let saved = here.save();
    let (_, device, mut there) = opened(64, 64);
    device.set_interrupts(0);
    assert_eq!(there.restore(&saved).unwrap_err().errno(), Some(Errno::ENOSPC.raw()));
    assert_eq!(there.save(), saved, "restored all the same");
    device.set_interrupts(64);
    there.retry().unwrap();
    assert_eq!(there.handle_events().unwrap(), 1);
    // A saved table of another size changes nothing.
    let other = Saved { control: 0, table: vec![0; 16], pending: vec![0; 8] };
    let error = there.restore(&other).unwrap_err();
    assert!(matches!(error, Error::WrongTableSize { entries: 64, table: 16, pending: 8 }));
    assert_eq!(
        error.to_string(),
        "the saved state has 16 bytes of table and 8 of pending bits: a table of 64 entries has 1024 and 8"
    );
    assert_eq!(there.vectors().enabled(), [0]);
}

fn reset_forgets() {
    let (vm, device, mut table) = opened(64, 64);
    let fresh = table.save();
    unmask(&mut table, 3, 0x40);
    unmask(&mut table, 4, 0x40);
    table.commit().unwrap();
    set_mask(&mut table, 4, true);
    device.raise(4);
    table.reset().unwrap();
    assert_eq!(table.save(), Saved { control: 0, ..fresh });
    assert_eq!((device.leaks(), vm.irqfds()), (None, 0));
    table.set_control(ENABLE).unwrap();
    unmask(&mut table, 4, 0x40);
    assert_eq!(table.handle_events().unwrap(), 0, "nothing is owed");
}

/// A VMM with several transports and hypervisors holds both as trait objects.
fn trait_objects() {
    fn crosses_threads<S: Send>(_: &S) {}
    let (simulated, device) = (Arc::new(SimulatedVm::new()), Arc::new(Simulated::new()));
    let vm: Arc<dyn Vm + Send + Sync> = simulated.clone();
    let transport: Arc<dyn Transport + Send + Sync> = device.clone();
    let vectors = Vectors::open(transport, Index::Msix).unwrap();
    let routes = KvmRoutes::new(vm, Vec::new(), 24..64);
    let mut table = MsixTable::with_device_id(vectors, routes, Some(0x21)).unwrap();
    crosses_threads(&table);
    table.set_control(ENABLE).unwrap();
    table.write(12, &0_u32.to_le_bytes()).unwrap();
    device.raise(0);
    assert_eq!(table.handle_events().unwrap(), 1);
    assert_eq!(simulated.received()[0].device, Some(0x21));
    table.commit().unwrap();
    device.raise(0);
    assert_eq!(simulated.received()[0].device, Some(0x21), "in the route, too");
    let _ = crosses_threads::<
        MsixTable<Arc<vfio_ioctls::VfioDevice>, KvmRoutes<Arc<kvm_ioctls::VmFd>>>,
    >;
}

fn delivers() {
    let machine = Machine::new();
    let (device, mut here) = table(machine.vm.clone(), 64, 64);
    here.set_control(ENABLE).unwrap();
    unmask(&mut here, 1, 0x81);
    unmask(&mut here, 2, 0x82);
    here.commit().unwrap();
    set_mask(&mut here, 2, true);
    device.raise(2);
    let saved = here.save();
    drop(here);
    let machine = Machine::new();
    let (device, mut there) = table(machine.vm.clone(), 64, 64);
    there.restore(&saved).unwrap();
    there.commit().unwrap();
    device.raise(1);
    assert!(machine.wait(0x81));
    assert!(!machine.take(0x82));
    set_mask(&mut there, 2, false);
    there.handle_events().unwrap();
    assert!(machine.wait(0x82), "what was pending where it was saved");
}

/// A table that one version saved is restored by the next.
fn serialized() {
    let (_, _, mut table) = opened(2, 2);
    unmask(&mut table, 1, 0x41);
    let text = serde_json::to_string(&table.save()).unwrap();
    let expected = r#"{"control":32768,"table":[0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,224,254,0,0,0,0,65,0,0,0,0,0,0,0],"pending":[0,0,0,0,0,0,0,0]}"#;
    assert_eq!(text, expected);
    let saved: Saved = serde_json::from_str(expected).unwrap();
    assert_eq!(saved, table.save());
    let newer = expected.replace("}", r#","more":1}"#);
    let error = serde_json::from_str::<Saved>(&newer).unwrap_err().to_string();
    assert!(error.contains("unknown field `more`"), "{error}");
}
