//! Data goes to the disk and comes back.

use crate::machine::{BASE, Cmd, DATA, Guest, LISTS};
use vfio_irq_nvme_device::Disk;

const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;
const ZEROES: u8 = 8;
const DATASET: u8 = 9;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 3 + i / 512) as u8 ^ seed).collect()
}

fn ready() -> Guest {
    let mut guest = Guest::ready(4);
    guest.create(1, 64);
    guest
}

#[test]
fn data_of_any_shape_comes_back() {
    let mut guest = ready();
    // Offset in the first page, bytes: within a page, over two, and with lists of pages.
    for (offset, blocks) in [(0, 1), (512, 8), (0, 16), (4, 16), (2048, 9), (0, 17), (12, 256)] {
        let len = blocks as usize * 512;
        let data = pattern(len, blocks as u8);
        // Pages in reverse order, so that none follow one another.
        let pages: Vec<u64> = (0..300).rev().map(|i| DATA + i * 0x1000).collect();
        let mut left = data.as_slice();
        for (nth, page) in pages.iter().enumerate() {
            let start = if nth == 0 { offset } else { 0 };
            let (now, later) = left.split_at(left.len().min(4096 - start as usize));
            guest.write(page + start, now);
            left = later;
        }
        let rest = len.saturating_sub(4096 - offset as usize);
        let list: Vec<u8> = pages.iter().skip(1).flat_map(|page| page.to_le_bytes()).collect();
        guest.write(LISTS, &list);
        let second = if rest > 4096 { LISTS } else { pages[1] };
        let write = Cmd::new(WRITE).prp(pages[0] + offset, second).blocks(40, blocks);
        assert_eq!(guest.run(1, write).status, 0, "{offset} {blocks}");
        let read = Cmd::new(READ).prp(DATA, LISTS).blocks(40, blocks);
        let into: Vec<u64> = (1..300).map(|i| DATA + i * 0x1000).collect();
        let list: Vec<u8> = into.iter().flat_map(|page| page.to_le_bytes()).collect();
        guest.write(LISTS, &list);
        let second = if len > 8192 { LISTS } else { DATA + 0x1000 };
        let read = if len > 8192 { read } else { read.prp(DATA, second) };
        assert_eq!(guest.run(1, read).status, 0);
        assert!(guest.read(DATA, len) == data, "{offset} {blocks}");
    }
}

#[test]
fn a_list_goes_on_on_another_page() {
    let mut guest = ready();
    let data = pattern(40 * 512, 7);
    guest.write(DATA, &data);
    // Three entries of a page fit: two of data, and where the list goes on.
    let head = LISTS + 4096 - 24;
    let entries = |pages: &[u64]| pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    let first: Vec<u8> = entries(&[DATA + 0x1000, DATA + 0x2000, LISTS + 0x2000]);
    let second: Vec<u8> = entries(&[DATA + 0x3000, DATA + 0x4000]);
    guest.write(head, &first);
    guest.write(LISTS + 0x2000, &second);
    assert_eq!(guest.run(1, Cmd::new(WRITE).prp(DATA, head).blocks(0, 40)).status, 0);
    guest.write(DATA, &vec![0; data.len()]);
    assert_eq!(guest.run(1, Cmd::new(READ).prp(DATA, head).blocks(0, 40)).status, 0);
    assert!(guest.read(DATA, data.len()) == data);
}

#[test]
fn zeroes_and_deallocated_blocks_read_as_zeroes() {
    let mut guest = ready();
    let ones = vec![0xff; 4096];
    for seed in 0..3_u32 {
        guest.write(DATA, &ones);
        assert_eq!(guest.run(1, Cmd::new(WRITE).prp(DATA, 0).blocks(0, 8)).status, 0);
        let cmd = match seed {
            2 => {
                // Two lba_locks: blocks 1 and 2, and 5.
                let mut lba_locks = vec![0; 32];
                lba_locks[4] = 2;
                lba_locks[8] = 1;
                lba_locks[20] = 1;
                lba_locks[24] = 5;
                guest.write(LISTS, &lba_locks);
                Cmd::new(DATASET).word(10, 1).word(11, 4).prp(LISTS, 0)
            }
            deallocate => {
                let cmd = Cmd::new(ZEROES).blocks(1, 2);
                cmd.word(12, 1 | deallocate << 25)
            }
        };
        assert_eq!(guest.run(1, cmd).status, 0);
        assert_eq!(guest.run(1, Cmd::new(READ).prp(DATA, 0).blocks(0, 8)).status, 0);
        let data = guest.read(DATA, 4096);
        assert_eq!((data[511], data[512], data[1535], data[1536]), (0xff, 0, 0, 0xff));
        assert_eq!(data[5 * 512], if seed == 2 { 0 } else { 0xff });
    }
}

#[test]
fn a_file_keeps_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let data = pattern(4096, 3);
    {
        let mut guest = Guest::with(2, Disk::open(&path).unwrap(), true);
        assert!(matches!(Disk::open(&path), Err(vfio_irq_nvme_device::DiskError::InUse(_))));
        guest.enable();
        guest.create(2, 8);
        guest.write(DATA, &data);
        assert_eq!(guest.run(2, Cmd::new(WRITE).prp(DATA, 0).blocks(16, 8)).status, 0);
        assert_eq!(guest.run(2, Cmd::new(FLUSH).word(1, u32::MAX)).status, 0);
        let totals = guest.counts.totals();
        assert_eq!((totals.writes, totals.written_blocks, totals.flushes), (1, 8, 1));
    }
    assert_eq!(std::fs::read(&path).unwrap()[8192..12288], data);
    let mut guest = Guest::with(2, Disk::open(&path).unwrap(), true);
    guest.enable();
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(READ).prp(DATA, 0).blocks(16, 8)).status, 0);
    assert_eq!(guest.read(DATA, 4096), data);
}

#[test]
fn a_guest_without_shared_memory_is_served_by_messages() {
    let mut guest = Guest::with(2, Disk::memory(1 << 20).unwrap(), false);
    guest.enable();
    guest.create(1, 8);
    let data = pattern(8192, 9);
    guest.write(DATA, &data);
    assert_eq!(guest.run(1, Cmd::new(WRITE).prp(DATA, DATA + 4096).blocks(0, 16)).status, 0);
    guest.write(DATA, &vec![0; 8192]);
    assert_eq!(guest.run(1, Cmd::new(READ).prp(DATA, DATA + 4096).blocks(0, 16)).status, 0);
    assert!(guest.read(DATA, 8192) == data);
}

#[test]
fn a_full_completion_queue_holds_commands_and_loses_none() {
    let mut guest = ready();
    guest.create(2, 4);
    let mut done = Vec::new();
    let mut ids = Vec::new();
    for round in 0..40 {
        ids.extend((0..3).map(|_| guest.put(2, Cmd::new(FLUSH))));
        guest.ring(2);
        // Taken and acknowledged late, in different portions.
        let portion = round % 3 + 1;
        while done.len() + portion <= ids.len() {
            for _ in 0..portion {
                let mut end = None;
                guest.wait("completion", |guest| {
                    end = guest.look(2);
                    end.is_some()
                });
                done.push(end.unwrap().id);
            }
            guest.acknowledge(2);
            if ids.len() - done.len() < 3 {
                break;
            }
        }
        while done.len() < ids.len() {
            done.push(guest.next(2).id);
        }
    }
    assert_eq!(ids, done);
    guest.wait("interrupt", |guest| guest.signals(2) >= 1);
}

#[test]
fn every_queue_raises_its_own_vector_once_for_each_command() {
    let mut guest = Guest::ready(16);
    (1..=16).for_each(|id| guest.create(id, 16));
    for round in 1..=5 {
        for id in 1..=16 {
            assert_eq!(guest.run(id, Cmd::new(READ).prp(DATA, 0).blocks(round, 1)).status, 0);
            guest.interrupted(id);
        }
    }
    guest.wait("count of interrupts", |guest| guest.counts.totals().vectors[1..] == [5; 16]);
}

#[test]
fn memory_that_begins_anywhere_in_a_page_is_reached() {
    let mut guest = ready();
    guest.write(BASE + 0x30_0004, &[1; 512]);
    assert_eq!(guest.run(1, Cmd::new(WRITE).prp(BASE + 0x30_0004, 0).blocks(3, 1)).status, 0);
    assert_eq!(guest.run(1, Cmd::new(READ).prp(DATA, 0).blocks(3, 1)).status, 0);
    assert_eq!(guest.read(DATA, 512), [1; 512]);
}

#[test]
fn what_must_survive_is_on_the_medium_before_its_command_ends() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let mut guest = Guest::with(2, Disk::open(file.path()).unwrap(), true);
    guest.enable();
    guest.create(1, 8);
    let force = |cmd: Cmd, blocks: u32| cmd.word(12, (blocks - 1) | 1 << 30);
    let write = Cmd::new(WRITE).prp(DATA, 0).blocks(0, 8);
    let zeroes = Cmd::new(ZEROES).blocks(0, 8);
    let cache = |on| Cmd::new(9).word(10, 6).word(11, on);
    // What is done, on the admin queue or the other, and how often the medium is synchronized for it.
    let table = [
        ("a write", 1, write, 0),
        ("a write by force", 1, force(write, 8), 1),
        ("zeroes", 1, zeroes, 0),
        ("zeroes by force", 1, force(zeroes, 8), 1),
        ("a read", 1, Cmd::new(READ).prp(DATA, 0).blocks(0, 8), 0),
        ("a read by force", 1, force(Cmd::new(READ).prp(DATA, 0).blocks(0, 8), 8), 1),
        ("a flush", 1, Cmd::new(FLUSH), 1),
        ("a flush of all namespaces", 1, Cmd::new(FLUSH).word(1, u32::MAX), 1),
        ("turning the cache off", 0, cache(0), 1),
        ("a write without the cache", 1, write, 1),
        ("zeroes without the cache", 1, zeroes, 1),
        ("a write by force without it", 1, force(write, 8), 1),
        ("turning the cache on", 0, cache(1), 0),
        ("a write with the cache again", 1, write, 0),
    ];
    for (what, queue, cmd, times) in table {
        let before = guest.counts.totals().syncs;
        assert_eq!(guest.run(queue, cmd).status, 0, "{what}");
        assert_eq!(guest.counts.totals().syncs - before, times, "{what}");
    }
    let before = guest.counts.totals().syncs;
    guest.set(crate::machine::CC, 0x0046_4001);
    guest.wait("shutdown", |guest| guest.get(crate::machine::CSTS) & 0xc == 8);
    assert_eq!(guest.counts.totals().syncs - before, 1);
}
