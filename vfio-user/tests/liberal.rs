//! What this server takes although it could refuse it, as libvfio-user does: the front page of the
//! documentation has the list.

mod common;

use common::{Setup, event, longs, map, memfd, unmap, words};
use std::os::fd::AsFd;
use vfio_irq_user::abi::flags;
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Errno, errno};

const NONE: u32 = flags::DATA_NONE | flags::ACTION_TRIGGER;
const EVENTFD: u32 = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;

/// A request of a later version: more than this server knows of.
#[test]
fn requests_may_be_longer_than_this_server_knows_them() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    let mut answer = |command: Command, known: &[u8], more: usize| {
        raw.send(5, command.raw(), 0, &[known, &vec![0xee; more]].concat(), &[]);
        let (header, payload) = raw.reply().unwrap();
        assert_eq!(header.errno(), None, "{command:?}, {more} bytes more");
        payload
    };
    let (map, unmap) = (map(0x1000, 0x1000), unmap(0x1000, 0x1000));
    for more in [1, 4, 100] {
        for (command, known) in [
            (Command::DeviceGetInfo, common::info()),
            (Command::DeviceGetRegionInfo, words(&[32, 0, 0, 0, 0, 0, 0, 0])),
            (Command::DeviceGetRegionIoFds, words(&[1024, 0, 0, 0])),
            (Command::DeviceGetIrqInfo, words(&[16, 0, 2, 0])),
            (Command::RegionRead, [longs(&[0]), words(&[0, 4])].concat()),
            (Command::DeviceReset, Vec::new()),
        ] {
            assert_eq!(answer(command, &known, more), answer(command, &known, 0), "{command:?}");
        }
        assert!(answer(Command::DmaMap, &map, more).is_empty());
        assert_eq!(answer(Command::DmaUnmap, &unmap, more), unmap);
    }
}

#[test]
fn what_is_idle_may_be_disabled() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    let fd = event();
    for index in 0..5 {
        let disable = words(&[20, NONE, index, 0, 0]);
        assert_eq!(raw.ask(Command::DeviceSetIrqs, &disable, &[]), None, "idle {index}");
        let attach = words(&[20, EVENTFD, index, 0, 1]);
        assert_eq!(raw.ask(Command::DeviceSetIrqs, &attach, &[fd.as_fd()]), None);
        if index < 3 {
            // While one of the three is active, the others stay out of reach (V-02).
            let other = words(&[20, NONE, (index + 1) % 3, 0, 0]);
            assert_eq!(raw.ask(Command::DeviceSetIrqs, &other, &[]), Some(Errno::EINVAL));
        }
        for time in ["once", "twice"] {
            assert_eq!(raw.ask(Command::DeviceSetIrqs, &disable, &[]), None, "{index}, {time}");
        }
        let trigger = words(&[20, NONE, index, 0, 1]);
        let refused = raw.ask(Command::DeviceSetIrqs, &trigger, &[]);
        assert_eq!(refused, Some(Errno::EINVAL), "{index} is idle");
    }
}

#[test]
fn a_part_of_a_file_may_begin_anywhere() {
    let setup = Setup::new();
    let (client, memory, file) = (setup.client(), setup.bus().memory, memfd(0x5000));
    for (at, offset) in [(0x1_0000, 0x10), (0x2_0000, 0xfff), (0x3_0000, 0x2004)] {
        client.dma_map(at, 0x2000, Some((file.as_fd(), offset))).unwrap();
        for place in [0, 0xff0, 0x1ffe] {
            memory.write(at + place, b"xy").unwrap();
            let mut there = [0; 2];
            rustix::io::pread(&file, &mut there, offset + place).unwrap();
            assert_eq!(&there, b"xy", "{offset:#x}");
            let mut back = [0; 2];
            memory.read(at + place, &mut back).unwrap();
            assert_eq!(&back, b"xy");
        }
        assert_eq!(memory.read(at + 0x1fff, &mut [0; 2]), Err(Errno::EFAULT));
        rustix::io::pwrite(&file, &[0; 0x5000], 0).unwrap();
    }
    memory.store(0x1_0004, 77).unwrap();
    assert_eq!(memory.load(0x3_0000), Ok(0));
    assert_eq!(memory.load(0x2_0004), Err(Errno::EINVAL), "no word of the file is there");
    // The file ends before the mapping would.
    let short = client.dma_map(0x4_0000, 0x1000, Some((file.as_fd(), 0x4001))).unwrap_err();
    assert_eq!(short.errno(), Some(Errno::EINVAL));
}

#[test]
fn a_mapping_may_end_with_the_last_byte_of_all() {
    let setup = Setup::new();
    let (client, memory, file) = (setup.client(), setup.bus().memory, memfd(0x1000));
    let at = u64::MAX - 0xfff;
    client.dma_map(at, 0x1000, Some((file.as_fd(), 0))).unwrap();
    memory.write(u64::MAX - 1, b"ab").unwrap();
    let mut there = [0; 2];
    rustix::io::pread(&file, &mut there, 0xffe).unwrap();
    assert_eq!(&there, b"ab");
    assert!(memory.covers(at, 0x1000));
    // Nothing is behind it, and it does not go round.
    client.dma_map(0, 0x1000, Some((file.as_fd(), 0))).unwrap();
    assert!(!memory.covers(at, 0x1001));
    assert_eq!(memory.write(u64::MAX, b"ab"), Err(Errno::EFAULT));
    let raw_map = |address: u64, size: u64| {
        client
            .call(Command::DmaMap, &map(address, size), &[])
            .map(drop)
            .map_err(|error| error.errno())
    };
    assert_eq!(raw_map(u64::MAX, 1), Err(Some(errno::EEXIST)));
    assert_eq!(raw_map(at - 0x1000, 0x1001), Err(Some(errno::EEXIST)));
    assert_eq!(raw_map(at - 0x1000, 0x1000), Ok(()));
    client.dma_unmap(at, 0x1000).unwrap();
    assert!(!memory.covers(u64::MAX, 1));
}
