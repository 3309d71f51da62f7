//! The simulated VM answers each request as KVM does.

use crate::machine::Machine;
use std::io;
use vfio_irq::Trigger;
use vfio_irq::kvm::{RoutingEntry, Vm};
use vfio_irq::msix::Message;
use vfio_irq::sim::SimulatedVm;

pub const CASES: [(&str, fn()); 1] =
    [("a_signal_goes_where_its_route_led_at_that_time", as_it_was_routed)];
pub const REAL: [(&str, fn()); 1] = [("kvm_the_simulated_vm_answers_as_kvm_does", as_kvm)];

fn message(data: u32) -> Message {
    Message { address: 0xfee0_0000, data, device: None }
}

fn route(gsi: u32, data: u32) -> RoutingEntry {
    RoutingEntry::Message { gsi, message: message(data) }
}

/// Returns the error of each request of a sequence, some of which KVM refuses.
fn answers(vm: &impl Vm) -> Vec<(&'static str, Option<i32>)> {
    let (one, other) = (Trigger::new().unwrap(), Trigger::new().unwrap());
    let file = std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let file = Trigger::from(file);
    let pin = |gsi| RoutingEntry::Pin { gsi, chip: kvm_bindings::KVM_IRQCHIP_IOAPIC, pin: 4 };
    let many: Vec<RoutingEntry> = (0..4096).map(|gsi| route(gsi, 0x41)).collect();
    let answers: Vec<(&str, io::Result<()>)> = vec![
        ("routes", vm.set_routes(&[pin(4), route(24, 0x41)])),
        ("as many as there can be", vm.set_routes(&many)),
        ("the last GSI and one more", vm.set_routes(&[route(4095, 0x41), route(4096, 0x41)])),
        ("two messages on a GSI", vm.set_routes(&[route(24, 0x41), route(24, 0x42)])),
        ("a message on a pin's GSI", vm.set_routes(&[pin(24), route(24, 0x42)])),
        ("a pin on a message's GSI", vm.set_routes(&[route(24, 0x42), pin(24)])),
        ("none", vm.set_routes(&[])),
        ("an eventfd", vm.assign(one.eventfd(), 24)),
        ("the same again", vm.assign(one.eventfd(), 24)),
        ("the same elsewhere", vm.assign(one.eventfd(), 25)),
        ("another for the same GSI", vm.assign(other.eventfd(), 24)),
        ("no eventfd", vm.assign(file.eventfd(), 26)),
        ("from where it is not", vm.deassign(one.eventfd(), 25)),
        ("from where it is", vm.deassign(one.eventfd(), 24)),
        ("once more", vm.deassign(one.eventfd(), 24)),
        ("and again", vm.assign(one.eventfd(), 25)),
        ("a message", vm.signal(message(0x41))),
    ];
    let errno = |answer: io::Result<()>| answer.err().map(|error| error.raw_os_error().unwrap());
    answers.into_iter().map(|(what, answer)| (what, errno(answer))).collect()
}

fn as_kvm() {
    let simulated = answers(&SimulatedVm::new());
    assert_eq!(simulated, answers(&Machine::new().vm));
    assert!(simulated.iter().filter(|(_, errno)| errno.is_some()).count() >= 6);
}

fn as_it_was_routed() {
    let (vm, trigger) = (SimulatedVm::new(), Trigger::new().unwrap());
    vm.set_routes(&[route(24, 0x41)]).unwrap();
    vm.assign(trigger.eventfd(), 24).unwrap();
    trigger.signal().unwrap();
    vm.set_routes(&[route(24, 0x42)]).unwrap();
    trigger.signal().unwrap();
    vm.deassign(trigger.eventfd(), 24).unwrap();
    trigger.signal().unwrap();
    assert_eq!(vm.received(), [message(0x41), message(0x42)]);
    assert_eq!(trigger.take(), 1, "KVM no longer reads the eventfd");
}
