//! Clients that break the protocol: the server refuses or disconnects them, and serves others.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::{Setup, borrowed, event, longs, map, memfd, signals, words};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::pci::region::CONFIG;
use vfio_irq_user::wire::{Command, Header};
use vfio_irq_user::{Client, ClientOptions, Errno, Raised, errno};

const EVENTFD: u32 = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
const BOOL: u32 = flags::DATA_BOOL | flags::ACTION_TRIGGER;
const NONE: u32 = flags::DATA_NONE | flags::ACTION_TRIGGER;
const TOGETHER: u32 = flags::DATA_NONE | flags::DATA_BOOL | flags::ACTION_TRIGGER;

fn set_irqs(header: [u32; 5]) -> (Command, Vec<u8>) {
    (Command::DeviceSetIrqs, words(&header))
}

fn access(
    command: Command,
    offset: u64,
    region: u32,
    count: u32,
    data: &[u8],
) -> (Command, Vec<u8>) {
    let mut payload = longs(&[offset]);
    payload.extend(words(&[region, count]));
    payload.extend(data);
    (command, payload)
}

fn dma(command: Command, head: [u32; 2], rest: &[u64]) -> (Command, Vec<u8>) {
    let mut payload = words(&head);
    payload.extend(longs(rest));
    (command, payload)
}

/// What is wrong with a message, the message, and the answer.
type Refused = (&'static str, (Command, Vec<u8>), Errno);

/// Messages that are refused, and the connection goes on.
fn refused() -> Vec<Refused> {
    use Command::{
        DeviceFeature, DeviceGetInfo, DeviceGetIrqInfo, DeviceGetRegionInfo, DeviceGetRegionIoFds,
        DmaMap, DmaRead, DmaUnmap, DmaWrite, MigDataRead, RegionRead, RegionWrite,
        RegionWriteMulti, Version,
    };
    let einval = Errno::EINVAL;
    let multi = |count: u64, rest: &[u8]| {
        let mut payload = longs(&[count]);
        payload.extend(rest);
        (RegionWriteMulti, payload)
    };
    vec![
        ("a second VERSION", (Version, vec![0, 0, 1, 0]), einval),
        ("GET_INFO that is empty", (DeviceGetInfo, vec![]), einval),
        ("GET_INFO that is short", (DeviceGetInfo, words(&[16, 0, 0])), einval),
        ("GET_INFO without room", (DeviceGetInfo, words(&[15, 0, 0, 0])), einval),
        ("REGION_INFO that is short", (DeviceGetRegionInfo, words(&[32, 0, 0])), einval),
        (
            "REGION_INFO without room",
            (DeviceGetRegionInfo, words(&[31, 0, 0, 0, 0, 0, 0, 0])),
            einval,
        ),
        ("REGION_INFO of none", (DeviceGetRegionInfo, words(&[32, 0, 9, 0, 0, 0, 0, 0])), einval),
        ("REGION_IO_FDS of none", (DeviceGetRegionIoFds, words(&[64, 0, 9, 0])), einval),
        ("REGION_IO_FDS of nothing", (DeviceGetRegionIoFds, words(&[64, 0, 1, 0])), einval),
        ("REGION_IO_FDS with flags", (DeviceGetRegionIoFds, words(&[64, 1, 0, 0])), einval),
        ("REGION_IO_FDS without room", (DeviceGetRegionIoFds, words(&[15, 0, 0, 0])), einval),
        ("IRQ_INFO without room (I-02)", (DeviceGetIrqInfo, words(&[15, 0, 0, 0])), einval),
        ("IRQ_INFO of none (I-02)", (DeviceGetIrqInfo, words(&[16, 0, 5, 0])), einval),
        ("IRQ_INFO that is short", (DeviceGetIrqInfo, words(&[16, 0, 0])), einval),
        ("SET_IRQS that is short", (Command::DeviceSetIrqs, words(&[20, NONE, 2, 0])), einval),
        ("SET_IRQS, C-01", set_irqs([19, EVENTFD, 2, 0, 1]), einval),
        ("SET_IRQS, C-02", set_irqs([20, NONE, 5, 0, 1]), einval),
        ("SET_IRQS, C-03", set_irqs([20, EVENTFD, 2, 2, u32::MAX]), einval),
        ("SET_IRQS, C-04", set_irqs([20, EVENTFD | 64, 2, 0, 1]), einval),
        ("SET_IRQS, C-05", set_irqs([20, EVENTFD, 2, 64, 0]), einval),
        ("SET_IRQS, C-06", set_irqs([20, EVENTFD, 2, 60, 5]), einval),
        ("SET_IRQS, C-07: no data", set_irqs([20, flags::ACTION_TRIGGER, 2, 0, 1]), einval),
        ("SET_IRQS, C-07: two", set_irqs([20, TOGETHER, 2, 0, 0]), einval),
        (
            "SET_IRQS, C-08",
            (Command::DeviceSetIrqs, [words(&[20, BOOL, 2, 0, 1]), vec![1]].concat()),
            einval,
        ),
        ("SET_IRQS, C-10: no action", set_irqs([20, flags::DATA_NONE, 2, 0, 1]), Errno::ENOTTY),
        ("SET_IRQS, C-10: two", set_irqs([20, NONE | flags::ACTION_MASK, 2, 0, 1]), Errno::ENOTTY),
        ("SET_IRQS without its bytes", set_irqs([22, BOOL, 2, 0, 2]), einval),
        ("SET_IRQS of bytes without end", set_irqs([u32::MAX, BOOL, 2, 0, u32::MAX]), einval),
        (
            "SET_IRQS, data beyond count",
            (Command::DeviceSetIrqs, words(&[24, EVENTFD, 2, 0, 1, 7])),
            einval,
        ),
        ("SET_IRQS, loopback when idle (V-04)", set_irqs([20, NONE, 2, 0, 1]), einval),
        ("SET_IRQS, disable beyond the last (C-05)", set_irqs([20, NONE, 2, 64, 0]), einval),
        ("SET_IRQS of no vectors (V-05)", set_irqs([20, EVENTFD, 2, 0, 0]), Errno::ERANGE),
        ("a read that is short", (RegionRead, longs(&[0])), einval),
        ("a read of no region", access(RegionRead, 0, 9, 4, &[]), einval),
        ("a read of no region at all", access(RegionRead, 0, u32::MAX, 4, &[]), einval),
        ("a read of an empty region", access(RegionRead, 0, 1, 1, &[]), einval),
        ("a read beyond the end", access(RegionRead, 0x3ffd, 0, 4, &[]), einval),
        ("a read beyond 64 bits", access(RegionRead, u64::MAX, 0, 2, &[]), einval),
        ("a read of too much", access(RegionRead, 0, 0, (1 << 20) + 1, &[]), einval),
        ("a write of less than it says", access(RegionWrite, 0, 0, 4, &[0; 3]), einval),
        ("a write of more than it says", access(RegionWrite, 0, 0, 4, &[0; 5]), einval),
        ("a write beyond the end", access(RegionWrite, 0x4000, 0, 1, &[0]), einval),
        (
            "a write beyond configuration space",
            access(RegionWrite, 4095, CONFIG, 2, &[0; 2]),
            einval,
        ),
        ("a write to the ROM", access(RegionWrite, 0, 6, 1, &[0]), einval),
        ("writes that are not there", multi(1, &[]), einval),
        ("writes without number", multi(u64::MAX, &[0; 24]), einval),
        ("writes whose number overflows", multi(u64::MAX / 24 + 2, &[0; 24]), einval),
        (
            "a write of nine bytes among many",
            multi(1, &[&longs(&[0])[..], &words(&[0, 9, 0, 0])].concat()),
            einval,
        ),
        ("writes and half a write", multi(1, &[0; 36]), einval),
        ("a mapping of nothing", dma(DmaMap, [32, 3], &[0, 0, 0]), einval),
        ("a mapping beyond 64 bits", dma(DmaMap, [32, 3], &[0, u64::MAX, 2]), einval),
        ("a mapping from the last byte on", dma(DmaMap, [32, 3], &[0, u64::MAX, 0x1000]), einval),
        ("unmapping beyond 64 bits", dma(DmaUnmap, [24, 0], &[u64::MAX, 2]), einval),
        ("a mapping with flags", dma(DmaMap, [32, 7], &[0, 0, 4096]), einval),
        ("a mapping with a small argsz", dma(DmaMap, [31, 3], &[0, 0, 4096]), einval),
        ("a mapping that is short", dma(DmaMap, [32, 3], &[0, 0]), einval),
        ("unmapping nothing", dma(DmaUnmap, [24, 0], &[0, 4096]), errno::ENOENT),
        ("unmapping with flags", dma(DmaUnmap, [24, 1], &[0, 4096]), einval),
        ("unmapping all of something", dma(DmaUnmap, [24, 2], &[0, 4096]), einval),
        ("unmapping that is short", dma(DmaUnmap, [24, 0], &[0]), einval),
        ("DMA_READ, which is the server's", (DmaRead, longs(&[0, 0])), errno::EOPNOTSUPP),
        ("DMA_WRITE, which is the server's", (DmaWrite, longs(&[0, 0])), errno::EOPNOTSUPP),
        ("a feature", (DeviceFeature, words(&[8, 1])), errno::EOPNOTSUPP),
        ("migration", (MigDataRead, words(&[8, 1])), errno::EOPNOTSUPP),
    ]
}

#[test]
fn bad_messages_are_refused_and_the_connection_goes_on() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    for (what, (command, payload), expected) in refused() {
        assert_eq!(raw.ask(command, &payload, &[]), Some(expected), "{what}");
    }
    assert_eq!(raw.ask(Command::DeviceGetInfo, &common::info(), &[]), None);
}

#[test]
fn unknown_commands_are_refused() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    for command in [0, 14, 19, 255, u16::MAX] {
        raw.send(3, command, 0, &[1, 2, 3], &[]);
        let (header, payload) = raw.reply().unwrap();
        assert_eq!((header.errno(), payload.len()), (Some(errno::EOPNOTSUPP), 0), "{command}");
    }
}

#[test]
fn errors_are_not_told_who_wants_no_reply() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    for (_, (command, payload), _) in refused() {
        raw.send(3, command.raw(), 0x10, &payload, &[]);
    }
    assert_eq!(raw.ask(Command::DeviceGetInfo, &common::info(), &[]), None);
}

#[test]
fn descriptors_where_none_belong_are_refused() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    let fds: Vec<_> = (0..3).map(|_| event()).collect();
    let fds = borrowed(&fds);
    let einval = Some(Errno::EINVAL);
    assert_eq!(raw.ask(Command::DeviceGetInfo, &common::info(), &fds[..1]), einval);
    assert_eq!(raw.ask(Command::DeviceReset, &[], &fds), einval);
    let (command, payload) = access(Command::RegionWrite, 0, 0, 4, &[0; 4]);
    assert_eq!(raw.ask(command, &payload, &fds), einval);
    assert_eq!(
        raw.ask(Command::DmaMap, &map(0, 4096), &fds[..2]),
        einval,
        "two descriptors for one mapping"
    );
    // Only DATA_EVENTFD has any, and as many as vectors.
    for (header, fds) in [
        ([20, NONE, 2, 0, 1], &fds[..1]),
        ([20, EVENTFD, 2, 0, 2], &fds[..1]),
        ([20, EVENTFD, 2, 0, 2], &fds[..3]),
        ([20, EVENTFD, 2, 5, 0], &fds[..1]),
    ] {
        assert_eq!(raw.ask(Command::DeviceSetIrqs, &words(&header), fds), einval, "{header:?}");
    }
    let bools = [words(&[21, BOOL, 2, 0, 1]), vec![1]].concat();
    assert_eq!(raw.ask(Command::DeviceSetIrqs, &bools, &fds[..1]), einval);
    assert_eq!(setup.diary.lock().unwrap().resets, 0);
}

#[test]
fn files_that_are_too_short_or_no_files_are_not_mapped() {
    let setup = Setup::new();
    let client = setup.client();
    let (file, no_file) = (memfd(0x2000), event());
    for (fd, offset, size) in [
        (&file, 0x2000, 0x1000),
        (&file, 0x1000, 0x2000),
        (&file, u64::MAX - 0xfff, 0x1000),
        (&file, 0, 1 << 62),
        (&no_file, 0, 0x1000),
    ] {
        let refused = client.dma_map(0x1000, size, Some((fd.as_fd(), offset))).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EINVAL), "{size:#x} at {offset:#x}");
    }
    assert!(setup.diary.lock().unwrap().mapped.is_empty());
    client.dma_map(0x1000, 0x1000, Some((file.as_fd(), 0x1000))).unwrap();
}

/// What ends a connection, as bytes after the version was agreed on.
fn fatal() -> Vec<(&'static str, Vec<u8>)> {
    let header = |size: u32, flags: u32| {
        Header { id: 1, command: 4, size, flags, error: 0 }.to_bytes().to_vec()
    };
    vec![
        ("a size below a header", header(15, 0)),
        ("no size", header(0, 0)),
        ("a size beyond all limits", header(u32::MAX, 0)),
        ("a size beyond our limit", header((1 << 20) + 33, 0)),
        ("a reply to nothing", header(16, 1)),
        ("an error reply to nothing", header(16, 0x21)),
        ("neither command nor reply", header(16, 2)),
        ("text", b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n".to_vec()),
        ("ones", vec![0xff; 1000]),
    ]
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let setup = Setup::new();
    for (what, bytes) in fatal() {
        let mut raw = setup.agreed();
        raw.send_bytes(&bytes, &[]);
        assert!(raw.is_closed(), "{what}");
    }
    setup.client().device_info().unwrap();
}

#[test]
fn descriptors_belong_to_the_message_that_they_came_with() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    let fd = event();
    let message = |id: u16, command: Command, payload: &[u8]| {
        let size = (payload.len() + 16) as u32;
        let header = Header { id, command: command.raw(), size, flags: 0, error: 0 };
        [&header.to_bytes()[..], payload].concat()
    };
    let info = message(1, Command::DeviceGetInfo, &common::info());
    let attach = message(2, Command::DeviceSetIrqs, &words(&[20, EVENTFD, 2, 7, 1]));
    // Messages before it and after it, the one itself in two pieces.
    raw.send_bytes(&info.repeat(3), &[]);
    raw.send_bytes(&attach[..20], &[fd.as_fd()]);
    raw.send_bytes(&attach[20..], &[]);
    raw.send_bytes(&info.repeat(3), &[]);
    let replies: Vec<_> = (0..7).map(|_| raw.reply().unwrap().0).collect();
    assert!(replies.iter().all(|header| header.errno().is_none()), "{replies:?}");
    assert!(setup.bus().interrupts.is_attached(7));
}

#[test]
fn more_descriptors_than_any_message_has_end_the_connection() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    let fds: Vec<_> = (0..200).map(|_| event()).collect();
    raw.send_bytes(
        &Header { id: 1, command: 10, size: 4096, flags: 0, error: 0 }.to_bytes(),
        &borrowed(&fds),
    );
    raw.send_bytes(&[0], &borrowed(&fds));
    assert!(raw.is_closed());
    setup.client().device_info().unwrap();
}

#[test]
fn a_client_that_does_not_read_is_sent_away_and_others_do_not_notice() {
    let setup = Setup::new();
    let other = setup.add("other.sock");
    let other = Client::connect(&other, ClientOptions::default()).unwrap();
    let mut raw = setup.agreed();
    raw.0.set_nonblocking(true).unwrap();
    // The client reads no reply, so the send buffer of the server fills.
    let (command, payload) = access(Command::RegionRead, 0, 0, 0x4000, &[]);
    let mut bytes = Header::command(1, command, payload.len()).to_bytes().to_vec();
    bytes.extend(&payload);
    let since = Instant::now();
    while raw.0.write(&bytes).is_ok() || since.elapsed() < Duration::from_millis(300) {
        let asked = Instant::now();
        other.device_info().unwrap();
        assert!(asked.elapsed() < Duration::from_millis(300));
    }
    common::eventually("the end", || setup.diary.lock().unwrap().gone == 1);
    assert!(since.elapsed() < Duration::from_secs(4));
    setup.client().device_info().unwrap();
}

#[test]
fn a_client_that_does_not_answer_for_its_memory_is_sent_away() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    assert_eq!(raw.ask(Command::DmaMap, &map(0, 4096), &[]), None);
    let memory = setup.bus().memory;
    let device = std::thread::spawn(move || memory.read(0, &mut [0; 8]));
    let (header, payload) = raw.reply().unwrap();
    assert_eq!((header.command, payload), (Command::DmaRead.raw(), longs(&[0, 8])));
    assert_eq!(device.join().unwrap(), Err(errno::ETIMEDOUT));
    assert!(raw.is_closed());
    setup.client().device_info().unwrap();
}

/// What comes while the device waits for an answer is kept for later, but not without end.
#[test]
fn a_client_that_floods_instead_of_answering_is_sent_away() {
    let long = access(Command::RegionWrite, 0, 0, 1 << 20, &vec![0; 1 << 20]);
    let short = (Command::DeviceGetInfo, common::info());
    let fds: Vec<_> = (0..250).map(|_| event()).collect();
    for (times, (command, payload), fds) in
        [(20, long, vec![]), (20, short.clone(), borrowed(&fds)), (1000, short, vec![])]
    {
        let setup = Setup::with(vfio_irq_user::Options {
            stall: Duration::from_secs(60),
            ..common::options()
        });
        let mut raw = setup.agreed();
        assert_eq!(raw.ask(Command::DmaMap, &map(0, 4096), &[]), None);
        // The thread that serves the client is busy, so a thread of the device's reads what comes.
        let (release, hold) = std::sync::mpsc::channel();
        setup.diary.lock().unwrap().hold = Some(hold);
        let (write, payload_of) = access(Command::RegionWrite, common::HOLD, 0, 4, &[0; 4]);
        raw.send(7, write.raw(), 0x10, &payload_of, &[]);
        let memory = setup.bus().memory;
        let device = std::thread::spawn(move || memory.read(0, &mut [0; 8]));
        assert_eq!(raw.reply().unwrap().0.command, Command::DmaRead.raw());
        for _ in 0..times {
            raw.send(8, command.raw(), 0x10, &payload, &fds);
        }
        assert!(raw.is_closed());
        assert_eq!(device.join().unwrap(), Err(errno::ENOTCONN));
        drop(release);
    }
}

#[test]
fn answers_for_memory_that_make_no_sense_are_errors_of_the_device() {
    let setup = Setup::new();
    let mut raw = setup.agreed();
    assert_eq!(raw.ask(Command::DmaMap, &map(0, 4096), &[]), None);
    for (answer, expected) in [
        (vec![], errno::EIO),
        (longs(&[0, 8]), errno::EIO),
        (longs(&[0, 8, 1, 2]), errno::EIO),
        (longs(&[0, 8, 1]), Errno::EBUSY),
    ] {
        let memory = setup.bus().memory;
        let device =
            std::thread::spawn(move || memory.read(0, &mut [0; 8]).err().unwrap_or(Errno::EBUSY));
        let (header, _) = raw.reply().unwrap();
        raw.send(header.id, header.command, 1, &answer, &[]);
        assert_eq!(device.join().unwrap(), expected);
    }
}

/// The client makes its eventfd block before it attaches the eventfd, or afterwards.
#[test]
fn an_eventfd_that_blocks_holds_its_vector_up_until_it_is_replaced() {
    let block = |fd: &OwnedFd| {
        rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::empty()).unwrap();
        rustix::io::write(fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    };
    for early in [true, false] {
        let setup = Setup::new();
        let (client, full, next) = (setup.client(), event(), event());
        if early {
            block(&full);
        }
        client.attach(Index::Msix, 0, &[full.as_fd()]).unwrap();
        if !early {
            block(&full);
        }
        let interrupts = setup.bus().interrupts;
        let raising = std::thread::spawn(move || interrupts.raise(0));
        std::thread::sleep(Duration::from_millis(10));
        client.attach(Index::Msix, 0, &[next.as_fd()]).unwrap();
        assert_eq!(raising.join().unwrap(), Raised::Signalled);
        assert_eq!(setup.bus().interrupts.raise(0), Raised::Signalled);
        assert!((1..=2).contains(&signals(&next)));
    }
}

#[test]
fn a_file_that_is_cut_short_fails_accesses_and_nothing_else() {
    let setup = Setup::new();
    let (client, memory) = (setup.client(), setup.bus().memory);
    let (cut, whole) = (memfd(0x8000), memfd(0x1000));
    client.dma_map(0, 0x8000, Some((cut.as_fd(), 0))).unwrap();
    client.dma_map(0x8000, 0x1000, Some((whole.as_fd(), 0))).unwrap();
    memory.write(0x1ffc, &[1; 8]).unwrap();
    rustix::fs::ftruncate(&cut, 0x2000).unwrap();
    let mut data = [9; 8];
    assert_eq!(memory.read(0x1ffc, &mut data), Err(Errno::EFAULT));
    assert_eq!(memory.write(0x5000, &[1]), Err(Errno::EFAULT));
    assert_eq!(memory.load(0x3000), Err(Errno::EFAULT));
    memory.write(0x8000, &[3; 8]).unwrap();
    memory.read(0x8000, &mut data).unwrap();
    assert_eq!(data, [3; 8]);
    // A file that grows again is mapped anew.
    client.dma_unmap(0, 0x8000).unwrap();
    rustix::fs::ftruncate(&cut, 0x8000).unwrap();
    client.dma_map(0, 0x8000, Some((cut.as_fd(), 0))).unwrap();
    for at in [0x2000, 0x3000, 0x7ffc] {
        memory.store(at, 5).unwrap();
        rustix::fs::ftruncate(&cut, 0).unwrap();
        assert_eq!(memory.store(at, 6), Err(Errno::EFAULT));
        client.dma_unmap(0, 0x8000).unwrap();
        rustix::fs::ftruncate(&cut, 0x8000).unwrap();
        client.dma_map(0, 0x8000, Some((cut.as_fd(), 0))).unwrap();
    }
}
