//! The guest's table on the simulated VM, which counts requests and refuses on demand.

use crate::machine::{ENABLE, FUNCTION_MASK, opened, set_mask, unmask};
use vfio_irq::Error;
use vfio_irq::sim::Errno;

pub const CASES: [(&str, fn()); 10] = [
    ("vectors_one_by_one_cost_linear", one_by_one_is_linear),
    ("only_vectors_in_use_cost_anything", only_what_is_used),
    ("enable_reaches_the_device_though_all_is_masked", enabled_and_masked),
    ("masks_cost_no_route", masking_costs_no_route),
    ("without_a_gsi_a_vector_is_signalled_from_user_space", no_gsi_left),
    ("a_refused_batch_leaves_everything_working", refused_batch),
    ("a_message_that_leads_nowhere_is_dropped", message_to_nowhere),
    ("a_host_without_vectors_is_told_and_tried_again", no_vector_left),
    ("the_guest_reads_what_it_wrote", reads_what_it_wrote),
    ("accesses_that_pci_does_not_allow_are_refused", bad_accesses),
];

fn one_by_one_is_linear() {
    for vectors in [64, 512, 2048] {
        let (vm, _, mut table) = opened(vectors, vectors);
        (0..vectors).for_each(|number| unmask(&mut table, number, 0x40));
        table.commit().unwrap();
        assert_eq!((vm.irqfds(), vm.routes().len()), (vectors as usize, vectors as usize));
        // The first batch has 16 routes. Each other batch doubles the routes.
        assert_eq!(vm.commits(), u64::from((vectors / 16).ilog2()) + 1, "{vectors} vectors");
        drop(table);
        assert_eq!(vm.irqfds(), 0);
    }
}

fn only_what_is_used() {
    let (vm, device, mut table) = opened(2048, 2048);
    unmask(&mut table, 0, 0x40);
    unmask(&mut table, 1999, 0x41);
    table.commit().unwrap();
    assert_eq!(device.allocated(), 2);
    assert_eq!((vm.commits(), vm.routes().len(), vm.irqfds()), (1, 2, 2));
    set_mask(&mut table, 5, true);
    assert_eq!(device.allocated(), 2, "a mask enables nothing");
}

/// The writes of a Linux guest: Enable with the function masked, a read of message control, the
/// entries, and the end of the function mask.
fn enabled_and_masked() {
    let (_, device, mut table) = opened(65, 65);
    table.set_control(0).unwrap();
    assert_eq!((table.control(), device.allocated()), (64, 0));
    table.set_control(ENABLE | FUNCTION_MASK).unwrap();
    assert_eq!(table.control(), ENABLE | FUNCTION_MASK | 64);
    assert!(table.vectors().is_active(), "Enable is set in the device");
    assert_eq!((table.vectors().enabled(), device.allocated()), (vec![], 1));
    unmask(&mut table, 2, 0x40);
    assert!(table.vectors().enabled().is_empty(), "the function is masked");
    table.set_control(ENABLE).unwrap();
    assert_eq!(table.vectors().enabled(), [2]);
    table.set_control(0).unwrap();
    assert!(!table.vectors().is_active());

    device.set_interrupts(0);
    table.set_control(ENABLE | FUNCTION_MASK).unwrap_err();
    device.set_interrupts(64);
    table.retry().unwrap();
    assert!(table.vectors().is_active());
}

fn masking_costs_no_route() {
    let (vm, device, mut table) = opened(64, 64);
    unmask(&mut table, 4, 0x40);
    table.commit().unwrap();
    let before = vm.commits();
    for _ in 0..1000 {
        set_mask(&mut table, 4, true);
        set_mask(&mut table, 4, false);
    }
    table.commit().unwrap();
    assert_eq!((vm.commits(), vm.irqfds()), (before, 1));
    // Nor while the vector waits for its route.
    unmask(&mut table, 5, 0x41);
    for _ in 0..1000 {
        set_mask(&mut table, 5, true);
        set_mask(&mut table, 5, false);
    }
    assert_eq!(table.waiting(), 1);
    device.raise(5);
    assert_eq!(table.handle_events().unwrap(), 1);
}

fn no_gsi_left() {
    let (vm, device, mut table) = opened(64, 3);
    (0..5).for_each(|number| unmask(&mut table, number, 0x40));
    table.commit().unwrap();
    assert_eq!(vm.irqfds(), 3);
    assert_eq!(table.waiting(), 2);
    (0..5).for_each(|number| device.raise(number));
    assert_eq!(table.handle_events().unwrap(), 2);
    assert_eq!(vm.received().len(), 5);
}

fn refused_batch() {
    let (vm, device, mut table) = opened(64, 64);
    unmask(&mut table, 0, 0x40);
    vm.fail_next(Errno::EINVAL);
    let error = table.commit().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL.raw()));
    assert!(
        error.to_string().starts_with("the hypervisor refused new interrupt routes: "),
        "{error}"
    );
    device.raise(0);
    assert_eq!(table.handle_events().unwrap(), 1);
    table.commit().unwrap();
    assert_eq!((table.waiting(), vm.irqfds()), (0, 1));
}

fn message_to_nowhere() {
    let (vm, device, mut table) = opened(64, 64);
    unmask(&mut table, 0, 0x40);
    unmask(&mut table, 1, 0x40);
    device.raise(0);
    device.raise(1);
    vm.fail_next(Errno::EINVAL);
    assert_eq!(table.handle_events().unwrap_err().errno(), Some(Errno::EINVAL.raw()));
    assert_eq!(vm.received().len(), 1, "the others are signalled");
    assert_eq!(table.handle_events().unwrap(), 0, "and it does not come again");
}

fn no_vector_left() {
    let (_, device, mut table) = opened(64, 64);
    unmask(&mut table, 0, 0x40);
    device.set_interrupts(1);
    let error = table.write(16 + 12, &0_u32.to_le_bytes()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC.raw()));
    device.set_interrupts(64);
    table.retry().unwrap();
    device.raise(1);
    assert_eq!(table.handle_events().unwrap(), 1);
    // Five vectors at once on a host with three interrupts: three are enabled.
    let (_, device, mut table) = opened(64, 64);
    table.set_control(0).unwrap();
    device.set_interrupts(3);
    (0..5).for_each(|number| unmask(&mut table, number, 0x40));
    table.set_control(ENABLE).unwrap_err();
    assert_eq!(table.vectors().enabled(), [0, 1, 2]);
}

fn reads_what_it_wrote() {
    let (_, _, mut table) = opened(4, 4);
    let mut entry = [0; 16];
    table.read(16, &mut entry);
    assert_eq!(entry[12], 1, "masked from the beginning");
    table.write(16, &0x1_fee0_1000_u64.to_le_bytes()).unwrap();
    table.write(24, &0xffff_ffff_0000_4041_u64.to_le_bytes()).unwrap();
    table.read(16, &mut entry);
    assert_eq!(entry[..8], 0x1_fee0_1000_u64.to_le_bytes());
    assert_eq!(entry[8..], 0x0000_0001_0000_4041_u64.to_le_bytes());
    table.set_control(ENABLE | FUNCTION_MASK).unwrap();
    assert_eq!(table.size(), 64);
}

fn bad_accesses() {
    let (vm, device, mut table) = opened(4, 4);
    let (requests, bytes) = (device.requests(), [0; 32]);
    for (offset, len) in
        [(0, 1), (2, 4), (4, 8), (0, 16), (0, 0), (64, 4), (u64::MAX - 3, 4), (0, 5)]
    {
        let error = table.write(offset, &bytes[..len]).unwrap_err();
        assert!(matches!(error, Error::Access { .. }), "{offset} {len}");
        let mut read = vec![0xff; len];
        table.read(offset, &mut read);
        table.read_pending(offset, &mut read);
    }
    let mut beyond = [0xff; 8];
    table.read(64, &mut beyond);
    assert_eq!(beyond, [0; 8]);
    table.read_pending(u64::MAX - 2, &mut beyond);
    assert_eq!((device.requests(), vm.commits()), (requests, 0));
}
