//! Tests on the KVM of this machine.

use crate::machine::{ENABLE, FUNCTION_MASK, Machine, is_pending, set_mask, table, unmask};
use kvm_bindings::{KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS, kvm_enable_cap};
use kvm_ioctls::Kvm;
use std::sync::Arc;
use vfio_irq::Trigger;

pub const CASES: [(&str, fn()); 8] = [
    ("kvm_an_eventfd_arrives_in_the_lapic", an_eventfd_arrives),
    ("kvm_a_vector_works_from_its_first_unmask", works_from_its_first_unmask),
    ("kvm_a_batch_moves_vectors_to_their_irqfds", a_batch_moves_vectors),
    ("kvm_a_mask_keeps_what_is_pending", a_mask_keeps_what_is_pending),
    ("kvm_the_function_mask_holds_all", the_function_mask_holds_all),
    ("kvm_a_new_message_takes_effect_at_once", a_new_message_takes_effect),
    ("kvm_2048_vectors_all_arrive", all_arrive),
    ("kvm_a_processor_above_255_is_reached", above_255),
];

fn an_eventfd_arrives() {
    use vfio_irq::kvm::{RoutingEntry, Vm};
    use vfio_irq::msix::Message;
    let machine = Machine::new();
    let message = Message { address: 0xfee0_0000, data: 0x51, device: None };
    machine.vm.set_routes(&[RoutingEntry::Message { gsi: 30, message }]).unwrap();
    let trigger = Trigger::new().unwrap();
    machine.vm.assign(trigger.eventfd(), 30).unwrap();
    assert!(!machine.take(0x51));
    trigger.signal().unwrap();
    assert!(machine.wait(0x51));
    machine.vm.deassign(trigger.eventfd(), 30).unwrap();
    trigger.signal().unwrap();
    assert!(!machine.take(0x51));
}

fn works_from_its_first_unmask() {
    let machine = Machine::new();
    let (device, mut table) = table(machine.vm.clone(), 64, 64);
    table.set_control(ENABLE).unwrap();
    unmask(&mut table, 7, 0x61);
    assert_eq!(table.waiting(), 1);
    device.raise(7);
    assert!(!machine.take(0x61), "user space has not been told yet");
    assert_eq!(table.handle_events().unwrap(), 1);
    assert!(machine.take(0x61));
    assert_eq!(table.handle_events().unwrap(), 0);
}

fn a_batch_moves_vectors() {
    let machine = Machine::new();
    let (device, mut table) = table(machine.vm.clone(), 64, 64);
    table.set_control(ENABLE).unwrap();
    unmask(&mut table, 7, 0x61);
    // The device raises the vector before the batch, and user space does not handle it.
    device.raise(7);
    table.commit().unwrap();
    assert_eq!(table.waiting(), 0);
    assert!(machine.wait(0x61));
    device.raise(7);
    assert!(machine.wait(0x61), "without user space");
    assert_eq!(table.handle_events().unwrap(), 0);
}

fn a_mask_keeps_what_is_pending() {
    for direct in [false, true] {
        let machine = Machine::new();
        let (device, mut table) = table(machine.vm.clone(), 64, 64);
        table.set_control(ENABLE).unwrap();
        unmask(&mut table, 9, 0x71);
        if direct {
            table.commit().unwrap();
        }
        for _ in 0..3 {
            set_mask(&mut table, 9, true);
            assert!(!is_pending(&mut table, 9));
            device.raise(9);
            device.raise(9);
            assert!(
                is_pending(&mut table, 9) && is_pending(&mut table, 9),
                "reading changes nothing"
            );
            assert_eq!(table.handle_events().unwrap(), 0);
            assert!(!machine.take(0x71));
            set_mask(&mut table, 9, false);
            assert!(!is_pending(&mut table, 9));
            assert_eq!(table.handle_events().unwrap(), usize::from(!direct));
            assert!(machine.wait(0x71), "direct {direct}: delivered when it is unmasked");
            table.handle_events().unwrap();
            assert!(!machine.take(0x71), "direct {direct}: once");
        }
        device.raise(9);
        table.handle_events().unwrap();
        assert!(machine.wait(0x71));
    }
}

fn the_function_mask_holds_all() {
    let machine = Machine::new();
    let (device, mut table) = table(machine.vm.clone(), 64, 64);
    table.set_control(ENABLE | FUNCTION_MASK).unwrap();
    unmask(&mut table, 1, 0x81);
    unmask(&mut table, 2, 0x82);
    assert!(table.vectors().enabled().is_empty(), "nothing is attached behind the function mask");
    table.set_control(ENABLE).unwrap();
    table.commit().unwrap();
    table.set_control(ENABLE | FUNCTION_MASK).unwrap();
    device.raise(2);
    assert!(is_pending(&mut table, 2) && !is_pending(&mut table, 1));
    table.set_control(ENABLE).unwrap();
    assert!(machine.wait(0x82));
    assert!(!machine.take(0x81));
    table.set_control(0).unwrap();
    assert_eq!(device.leaks(), None);
    table.set_control(ENABLE).unwrap();
    table.commit().unwrap();
    device.raise(1);
    assert!(machine.wait(0x81), "what the guest wrote is still there");
}

fn a_new_message_takes_effect() {
    let machine = Machine::new();
    let (device, mut table) = table(machine.vm.clone(), 64, 64);
    table.set_control(ENABLE).unwrap();
    unmask(&mut table, 3, 0x91);
    table.commit().unwrap();
    // Linux moves an interrupt by mask, write and unmask. An interrupt arrives in between.
    set_mask(&mut table, 3, true);
    table.write(3 * 16 + 8, &0x92_u32.to_le_bytes()).unwrap();
    device.raise(3);
    set_mask(&mut table, 3, false);
    table.handle_events().unwrap();
    assert!(machine.wait(0x92));
    assert!(!machine.take(0x91));
    device.raise(3);
    table.handle_events().unwrap();
    assert!(machine.wait(0x92), "signalled from user space");
    table.commit().unwrap();
    device.raise(3);
    assert!(machine.wait(0x92), "with its new route");
    // A guest that writes the message without a mask.
    table.write(3 * 16 + 8, &0x93_u32.to_le_bytes()).unwrap();
    device.raise(3);
    table.handle_events().unwrap();
    assert!(machine.wait(0x93));
    assert!(!machine.take(0x91) && !machine.take(0x92));
}

fn all_arrive() {
    let machine = Machine::new();
    let (device, mut table) = table(machine.vm.clone(), 2048, 2048);
    table.set_control(ENABLE).unwrap();
    let interrupt = |number: u32| 0x20 + u8::try_from(number % 200).unwrap();
    for number in 0..2048 {
        unmask(&mut table, number, interrupt(number));
        device.raise(number);
        table.handle_events().unwrap();
        assert!(machine.wait(interrupt(number)), "vector {number}");
    }
    table.commit().unwrap();
    assert_eq!(table.waiting(), 0);
    for number in 0..2048 {
        device.raise(number);
        assert!(machine.wait(interrupt(number)), "vector {number}");
    }
}

/// A guest with more than 255 processors and no interrupt remapping writes bits 8 to 14 of the APIC
/// ID to bits 5 to 11 of the address.
fn above_255() {
    let vm = Arc::new(Kvm::new().unwrap().create_vm().unwrap());
    let args = [u64::from(KVM_X2APIC_API_USE_32BIT_IDS), 0, 0, 0];
    vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_X2APIC_API, args, ..Default::default() }).unwrap();
    vm.create_irq_chip().unwrap();
    let [low, high] = [44, 300].map(|id| Machine::with_processor(&vm, id).in_x2apic_mode());
    let address = 0xfee0_0000 | (300 & 0xff) << 12 | (300 >> 8) << 5;
    let (device, mut table) = table(vm.clone(), 4, 4);
    table.set_control(ENABLE).unwrap();
    table.write(0, &u64::to_le_bytes(address)).unwrap();
    table.write(8, &0x66_u64.to_le_bytes()).unwrap();
    device.raise(0);
    assert_eq!(table.handle_events().unwrap(), 1);
    assert!(high.wait(0x66) && !low.take(0x66), "from user space");
    table.commit().unwrap();
    device.raise(0);
    assert!(high.wait(0x66) && !low.take(0x66), "through its route");
    let mut read = [0; 8];
    table.read(0, &mut read);
    assert_eq!(u64::from_le_bytes(read), address, "the guest reads what it wrote");
}
