//! Guests that break the rules: each command has its answer, and whatever else they do is their own
//! loss. After each, the controller serves as before.

use crate::machine::{BASE, CC, CSTS, Cmd, DATA, Guest, LISTS, MEMORY, NOWHERE, file_disk};
use vfio_irq_nvme_device::Disk;

const FIELD: u16 = 0x02;
const TRANSFER: u16 = 0x04;
const NAMESPACE: u16 = 0x0b;
const PRP: u16 = 0x13;
const RANGE: u16 = 0x80;

#[test]
fn admin_commands_that_make_no_sense() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    let place = BASE + 0x30_0000;
    let cq = |word10, word11| Cmd::new(5).prp(place, 0).word(10, word10).word(11, word11);
    let sq = |word10, word11| Cmd::new(1).prp(place, 0).word(10, word10).word(11, word11);
    let table = [
        ("an unknown opcode", Cmd::new(0xff), 0x01),
        ("a fused command", Cmd::new(6).word(0, 0x0106), FIELD),
        ("scatter gather lists", Cmd::new(6).word(0, 0x4006), FIELD),
        ("identify what is not", Cmd::new(6).word(10, 0xee).prp(DATA, 0), FIELD),
        ("identify no namespace", Cmd::new(6).word(1, 2).prp(DATA, 0), NAMESPACE),
        ("a list after all", Cmd::new(6).word(1, u32::MAX).word(10, 2).prp(DATA, 0), NAMESPACE),
        ("identify to nowhere", Cmd::new(6).word(10, 1).prp(NOWHERE, 0), TRANSFER),
        ("identify to an odd place", Cmd::new(6).word(10, 1).prp(DATA + 2, 0), PRP),
        ("identify over two pages", Cmd::new(6).word(10, 1).prp(DATA + 4, DATA + 8), PRP),
        ("completion queue 0", cq(15 << 16, 3), 0x101),
        ("a queue that is there", cq(1 | 15 << 16, 3), 0x101),
        ("a queue too many", cq(5 | 15 << 16, 3), 0x101),
        ("queue 65535", cq(u32::MAX, u32::MAX), 0x101),
        ("a queue of one entry", cq(2, 3), 0x102),
        ("a queue that is too long", cq(2 | 1024 << 16, 3), 0x102),
        ("a queue in pieces", cq(2 | 15 << 16, 2), FIELD),
        ("a queue in the middle of a page", cq(2 | 15 << 16, 3).prp(place + 64, 0), PRP),
        ("a vector too many", cq(2 | 15 << 16, 3 | 5 << 16), 0x108),
        ("vector 65535", cq(2 | 15 << 16, 3 | 0xffff << 16), 0x108),
        ("submission queue 0", sq(15 << 16, 1 | 1 << 16), 0x101),
        ("completions to queue 0", sq(2 | 15 << 16, 1), 0x100),
        ("completions to nowhere", sq(2 | 15 << 16, 1 | 3 << 16), 0x100),
        ("completions to 65535", sq(2 | 15 << 16, 1 | 0xffff << 16), 0x100),
        ("a completion queue in use", Cmd::new(4).word(10, 1), 0x10c),
        ("deletion of the admin queue", Cmd::new(0), 0x101),
        ("deletion of its completions", Cmd::new(4), 0x101),
        ("deletion of nothing", Cmd::new(0).word(10, 3), 0x101),
        ("deletion of 65535", Cmd::new(4).word(10, 0xffff), 0x101),
        ("an unknown feature", Cmd::new(10).word(10, 0x7f), FIELD),
        ("an unknown feature to set", Cmd::new(9).word(10, 0x7f), FIELD),
        ("a feature to save", Cmd::new(9).word(10, 1 | 1 << 31), 0x10d),
        ("65536 queues", Cmd::new(9).word(10, 7).word(11, u32::MAX), FIELD),
        ("a vector that is not", Cmd::new(10).word(10, 9).word(11, 9), FIELD),
        ("a state of power that is not", Cmd::new(9).word(10, 2).word(11, 1), FIELD),
        ("a log without end", Cmd::new(2).word(10, 0xffff_0002).word(11, 0xffff), FIELD),
        ("a log from far away", Cmd::new(2).word(10, 2).word(13, u32::MAX), FIELD),
        ("a log from an odd place", Cmd::new(2).word(10, 2).word(12, 2), FIELD),
        ("a feature with data", Cmd::new(9).word(10, 3).prp(DATA, 0), FIELD),
        ("the guest's memory as a feature", Cmd::new(9).word(10, 0x0d).word(11, 1), FIELD),
        ("the time", Cmd::new(9).word(10, 0x0e).prp(DATA, 0), FIELD),
        ("a feature of a kind that is not", Cmd::new(10).word(10, 1 | 7 << 8), FIELD),
        ("a threshold of a sensor that is not", Cmd::new(9).word(10, 4).word(11, 5 << 16), FIELD),
        ("doorbells nowhere", Cmd::new(0x7c).prp(NOWHERE, NOWHERE + 0x1000), FIELD),
        ("an unknown log", Cmd::new(2).word(10, 0xc0), 0x109),
    ];
    for (what, cmd, status) in table {
        assert_eq!(guest.admin(cmd).status, status, "{what}");
        assert_eq!(guest.run(1, Cmd::new(0)).status, 0, "after {what}");
    }
    assert_eq!(guest.counts.totals().failures, 44);
}

#[test]
fn io_commands_that_make_no_sense() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    let end = 8192;
    let read = |start: u64, count| Cmd::new(2).prp(DATA, LISTS).blocks(start, count);
    // Pages that are not aligned, and a list that leads to itself.
    guest.write(LISTS, &(DATA + 8).to_le_bytes());
    guest.write(LISTS + 0x1ff8, &(LISTS + 0x1ff8).to_le_bytes());
    guest.write(LISTS + 0x3000, &[NOWHERE.to_le_bytes(); 512].concat());
    let far = [[0_u8; 4], [9, 0, 0, 0], [0xff; 4], [0xff; 4]].concat();
    guest.write(LISTS + 0x4000, &far);
    let dataset = |list| Cmd::new(9).word(11, 4).prp(list, 0);
    let table = [
        ("an unknown opcode", Cmd::new(0x7f), 0x01),
        ("compare, which is not offered", Cmd::new(5), 0x01),
        ("no namespace", read(0, 1).word(1, 0), NAMESPACE),
        ("namespace 2", read(0, 1).word(1, 2), NAMESPACE),
        ("all namespaces", read(0, 1).word(1, u32::MAX), NAMESPACE),
        ("flush of namespace 3", Cmd::new(0).word(1, 3), NAMESPACE),
        ("scatter gather lists", read(0, 1).word(0, 0x8002), FIELD),
        ("the block after the last", read(end, 1), RANGE),
        ("beyond the last block", read(end - 1, 2), RANGE),
        ("the last number", read(u64::MAX, 1), RANGE),
        ("an overflow", read(u64::MAX - 3, 8), RANGE),
        ("zeroes beyond the end", Cmd::new(8).blocks(end - 1, 2), RANGE),
        ("more than one command may carry", read(0, 2049), FIELD),
        ("an odd address", read(0, 1).prp(DATA + 1, 0), PRP),
        ("an odd second page", read(0, 16).prp(DATA, DATA + 0x1004), PRP),
        ("an odd list", read(0, 32).prp(DATA, LISTS + 4), PRP),
        ("an odd page in a list", read(0, 32), PRP),
        ("a list that leads to itself", read(0, 2048).prp(DATA, LISTS + 0x1ff8), PRP),
        ("nowhere", read(0, 1).prp(NOWHERE, 0), TRANSFER),
        ("nowhere at the end of everything", read(0, 1).prp(u64::MAX - 3, 0), TRANSFER),
        ("pages that are nowhere", read(0, 32).prp(DATA, LISTS + 0x3000), TRANSFER),
        ("a list that is nowhere", read(0, 32).prp(DATA, NOWHERE), TRANSFER),
        ("a list at the end of everything", read(0, 32).prp(DATA, u64::MAX - 7), TRANSFER),
        ("across the end of memory", read(0, 8).prp(BASE + MEMORY - 512, NOWHERE), TRANSFER),
        ("lba_locks beyond the end", dataset(LISTS + 0x4000), RANGE),
        ("lba_locks that are nowhere", dataset(NOWHERE), TRANSFER),
    ];
    for (what, cmd, status) in table {
        assert_eq!(guest.run(1, cmd).status, status, "{what}");
        assert_eq!(guest.run(1, read(0, 1)).status, 0, "after {what}");
    }
}

#[test]
fn doorbells_that_make_no_sense_ring_nothing() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    for number in (0..16).chain([100, 1000, 0x1000]) {
        for value in [32, 64, 0xffff, 0x1_0000, u32::MAX] {
            guest.doorbell(number, value);
        }
    }
    for (offset, len) in [(0x1000, 1), (0x1002, 4), (0x1004, 8), (0x1008, 2), (0x7ffc, 4)] {
        guest.client.region_write(0, offset, &vec![0xff; len]).unwrap();
    }
    assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
    assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0);
    assert_eq!(guest.get(CSTS), 1);
}

#[test]
fn registers_that_make_no_sense_leave_the_controller_off_until_they_do() {
    let mut guest = Guest::new(4);
    for (sizes, base, configuration) in [
        (0, BASE, 0x0046_0001),
        (31 | 31 << 16, BASE, 0x0046_0781),
        (31 | 31 << 16, BASE, 0x0046_0011),
        (31 | 31 << 16, BASE, 0x0046_0801),
        (31 | 31 << 16, BASE, 0x00ff_0001),
        (31 | 31 << 16, BASE + 0x1000, 0x0046_0081),
    ] {
        guest.set(0x24, sizes);
        guest.client.region_write(0, 0x28, &base.to_le_bytes()).unwrap();
        guest.set(CC, configuration);
        assert_eq!(guest.get(CSTS), 2, "{sizes:#x} {base:#x} {configuration:#x}");
        guest.set(CC, 0);
        assert_eq!(guest.get(CSTS), 0);
    }
    guest.enable();
    assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0);
}

#[test]
fn queues_that_are_nowhere_stop_the_controller_until_it_is_enabled_again() {
    let mut guest = Guest::ready(4);
    let cq = Cmd::new(5).prp(NOWHERE, 0).word(10, 1 | 15 << 16).word(11, 3 | 1 << 16);
    assert_eq!(guest.admin(cq).status, 0);
    let sq = Cmd::new(1).prp(NOWHERE, 0).word(10, 1 | 15 << 16).word(11, 1 | 1 << 16);
    assert_eq!(guest.admin(sq).status, 0);
    guest.doorbell(2, 1);
    guest.wait("fatal status", |guest| guest.get(CSTS) & 2 != 0);
    guest.disable();
    guest.enable();
    guest.create(1, 16);
    assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
}

#[test]
fn memory_taken_away_under_commands_harms_only_them() {
    for disk in [Disk::memory(4 << 20).unwrap(), file_disk()] {
        let mut guest = Guest::with(4, disk, true);
        guest.enable();
        guest.create(1, 64);
        for _ in 0..20 {
            for _ in 0..30 {
                guest.put(1, Cmd::new(2).prp(DATA, DATA + 0x1000).blocks(0, 16));
            }
            guest.ring(1);
            guest.client.dma_unmap(BASE, MEMORY).unwrap();
            guest.remap();
            guest.disable();
            guest.enable();
            guest.create(1, 64);
            assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
        }
    }
}

#[test]
fn enabling_and_disabling_at_any_time_ends_well() {
    let mut guest = Guest::ready(4);
    guest.create(1, 64);
    for round in 0..50_u32 {
        guest.put(1, Cmd::new(2).prp(DATA, 0).blocks(0, 8));
        guest.ring(1);
        // Without waiting for anything.
        guest.set(CC, 0x0046_0000);
        guest.set(CC, if round % 2 == 0 { 0x0046_0001 } else { 0 });
        guest.set(CC, 0x0046_4000);
        guest.disable();
        guest.enable();
        guest.create(1, 64);
        assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
    }
}

#[test]
fn a_device_that_may_not_reach_for_memory_waits() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    guest.client.region_write(7, 4, &2_u16.to_le_bytes()).unwrap();
    // What is at hand ends; then nothing moves.
    std::thread::sleep(std::time::Duration::from_millis(5));
    guest.put(1, Cmd::new(0));
    guest.ring(1);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.look(1), None);
    guest.client.region_write(7, 4, &6_u16.to_le_bytes()).unwrap();
    assert_eq!(guest.next(1).status, 0);
}

#[test]
fn all_ranges_are_checked_before_any_is_given_back() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    guest.write(DATA, &[7; 4096]);
    assert_eq!(guest.run(1, Cmd::new(1).prp(DATA, 0).blocks(0, 8)).status, 0);
    // As many as there can be, over two pages of memory; the last one is beyond the end.
    let list = LISTS + 0x800;
    let range =
        |count: u32, start: u64| [&[0; 4][..], &count.to_le_bytes(), &start.to_le_bytes()].concat();
    let lba_locks: Vec<u8> = (0..255).flat_map(|_| range(8, 0)).chain(range(1, 8192)).collect();
    guest.write(list, &lba_locks);
    let dataset = Cmd::new(9).word(10, 255).word(11, 4).prp(list, LISTS + 0x1000);
    assert_eq!(guest.run(1, dataset).status, RANGE);
    assert_eq!(guest.run(1, Cmd::new(2).prp(DATA, 0).blocks(0, 8)).status, 0);
    assert_eq!(guest.read(DATA, 4096), [7; 4096]);
    // LbaLocks of nothing and of more than there can be.
    for (count, start, status) in [(0, 0, 0), (0, 8192, 0), (0, 8193, RANGE), (u32::MAX, 1, RANGE)]
    {
        guest.write(list, &range(count, start));
        assert_eq!(guest.run(1, dataset.word(10, 0)).status, status, "{count} {start}");
    }
}

#[test]
fn requests_and_aborts_without_end_are_answered() {
    let mut guest = Guest::ready(4);
    let mut open = std::collections::BTreeSet::new();
    for round in 0..10 {
        // More requests for events than there may be, and an abort of each, known or not.
        let mut ids: Vec<u16> = (0..6).map(|_| guest.put(0, Cmd::new(0x0c))).collect();
        for id in ids.clone() {
            ids.push(guest.put(0, Cmd::new(8).word(10, u32::from(id) << 16)));
        }
        open.extend(ids);
        guest.ring(0);
        while !open.is_empty() {
            let end = guest.next(0);
            assert!(open.remove(&end.id), "command {} in round {round}", end.id);
            assert!(matches!(end.status, 0 | 7 | 0x105), "{end:?}");
        }
    }
}
