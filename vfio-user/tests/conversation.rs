//! Every message between a client and a server that keep to the protocol.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::{PENDING, RAISE, REFUSES, Registers, Setup, TABLE, VECTORS};
use common::{borrowed, event, memfd, serve, signals};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::pci::region::CONFIG;
use vfio_irq_user::pci::{Bar, Function, IoEventfd};
use vfio_irq_user::wire::{Area, Command, RegionInfo};
use vfio_irq_user::{
    Client, ClientOptions, DmaHandler, Errno, IoFd, IrqData, Options, Raised, errno,
};

fn config16(client: &Client, at: u64) -> u16 {
    let mut data = [0; 2];
    client.region_read(CONFIG, at, &mut data).unwrap();
    u16::from_le_bytes(data)
}

/// Where a capability is.
fn capability(client: &Client, id: u8) -> u64 {
    let mut at = u64::from(config16(client, 0x34) & 0xff);
    while at != 0 {
        let [this, next] = config16(client, at).to_le_bytes();
        if this == id {
            return at;
        }
        at = next.into();
    }
    panic!("no capability {id:#x}");
}

#[test]
fn device_is_described() {
    let setup = Setup::new();
    let client = setup.client();
    assert_eq!(client.device_info().unwrap(), (3, 9, 5));
    let sizes: Vec<_> = (0..9).map(|i| client.region(i).unwrap().size).collect();
    assert_eq!(sizes, [0x4000, 0, 0x4000, 0, 64, 0, 0, 4096, 0]);
    assert_eq!(client.region(9).unwrap_err().errno(), Some(Errno::EINVAL));
}

#[test]
fn shared_region_comes_with_its_file_and_its_areas() {
    let setup = Setup::new();
    let region = setup.client().region(2).unwrap();
    let all = RegionInfo::READ | RegionInfo::WRITE | RegionInfo::MMAP | RegionInfo::CAPS;
    assert_eq!(region.flags, all);
    let shared = region.shared.unwrap();
    assert_eq!(shared.offset, 0x1000);
    let area = |offset| Area { offset, size: 0x1000 };
    assert_eq!(shared.areas, [area(0x1000), area(0x3000)]);
    rustix::io::pwrite(&*setup.shared, b"here", 0x2000).unwrap();
    let mut data = [0; 4];
    rustix::io::pread(&shared.fd, &mut data, 0x2000).unwrap();
    assert_eq!(&data, b"here");
}

#[test]
fn eventfds_stand_for_writes() {
    let setup = Setup::new();
    let spans = setup.client().region_io_fds(0).unwrap();
    assert_eq!(spans.len(), 4);
    for (i, span) in spans.iter().enumerate() {
        assert_eq!((span.offset, span.size), (0x800 + 4 * i as u64, 4));
        let IoFd::Ioeventfd { fd, datamatch: None, pio: false } = &span.fd else {
            panic!("{span:?}")
        };
        rustix::io::write(fd, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!(signals(&setup.doorbells[i]), 1);
    }
    assert!(setup.client().region_io_fds(2).unwrap().is_empty());
}

#[test]
fn eventfds_of_ports_are_said_to_be_of_ports() {
    let bell = IoEventfd { offset: 2, size: 1, datamatch: Some(3), fd: Arc::new(event()) };
    let function = Function::builder(1, 2).bar(0, Bar::io(16).io_eventfd(bell));
    let served = serve(Options::default(), function, |_| Registers(vec![0; 16]));
    let client = Client::connect(&served.path, ClientOptions::default()).unwrap();
    let found = client.region_io_fds(0).unwrap().pop().unwrap();
    assert_eq!((found.offset, found.size), (2, 1));
    assert!(matches!(found.fd, IoFd::Ioeventfd { datamatch: Some(3), pio: true, .. }));
}

#[test]
fn registers_are_read_and_written() {
    let setup = Setup::new();
    let client = setup.client();
    client.region_write(0, 0x10, b"registers").unwrap();
    let mut data = [0; 9];
    client.region_read(0, 0x10, &mut data).unwrap();
    assert_eq!(&data, b"registers");
    assert_eq!(client.region_write(0, REFUSES, &[0]).unwrap_err().errno(), Some(Errno::ENXIO));
    client.region_read(0, 0x4000, &mut []).unwrap();
    for (region, offset) in [(0, 0x4000), (0, u64::MAX), (1, 0), (9, 0), (CONFIG, 4096)] {
        let refused = client.region_read(region, offset, &mut [0]).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EINVAL), "region {region} at {offset:#x}");
    }
}

#[test]
fn posted_writes_are_in_order_and_without_reply() {
    let setup = Setup::new();
    let client = setup.client();
    for value in 0..200_u8 {
        client.region_post(0, 0x20, &[value]).unwrap();
    }
    client.region_post(0, REFUSES, &[0]).unwrap();
    let mut data = [0];
    client.region_read(0, 0x20, &mut data).unwrap();
    assert_eq!(data, [199]);
}

#[test]
fn many_writes_in_one_message() {
    let setup = Setup::new();
    let client = setup.client();
    let writes: [(u32, u64, &[u8]); 3] = [(0, 0, &[1]), (0, 8, &[2, 3]), (0, 16, &[9; 8])];
    assert_eq!(client.region_write_multi(&writes).unwrap(), 3);
    let mut data = [0; 24];
    client.region_read(0, 0, &mut data).unwrap();
    assert_eq!((data[0], data[8], data[9], data[23]), (1, 2, 3, 9));

    // One outside of the region: none is done. One that the device refuses: those before are.
    let outside: [(u32, u64, &[u8]); 2] = [(0, 0, &[7]), (0, 0x4000, &[7])];
    let refused = client.region_write_multi(&outside).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EINVAL));
    let second: [(u32, u64, &[u8]); 3] = [(0, 0, &[8]), (0, REFUSES, &[0]), (0, 1, &[8])];
    assert_eq!(client.region_write_multi(&second).unwrap(), 1);
    let refused = client.region_write_multi(&second[1..]).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::ENXIO));
    let long: [(u32, u64, &[u8]); 1] = [(0, 0, &[0; 9])];
    assert_eq!(client.region_write_multi(&long).unwrap_err().errno(), Some(Errno::EINVAL));
    client.region_read(0, 0, &mut data[..2]).unwrap();
    assert_eq!(data[..2], [8, 0]);
    assert_eq!(client.region_write_multi(&[]).unwrap(), 0);
}

#[test]
fn table_and_pending_bits_are_emulated() {
    let setup = Setup::new();
    let client = setup.client();
    let mut entry = [0xff; 16];
    client.region_read(0, TABLE.into(), &mut entry).unwrap();
    assert_eq!(entry, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    client.region_write(0, u64::from(TABLE) + 16, &[0xff; 16]).unwrap();
    // Over the end of the first entry and far into the second.
    client.region_read(0, u64::from(TABLE) + 8, &mut entry).unwrap();
    assert_eq!(entry, [0, 0, 0, 0, 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);

    // From the device's own bytes into the table.
    let mut over = [0; 8];
    client.region_read(0, u64::from(TABLE) - 4, &mut over).unwrap();
    assert_eq!(over, [0xee, 0xee, 0xee, 0xee, 0, 0, 0, 0]);

    let fd = event();
    client.attach(Index::Msix, 9, &[fd.as_fd()]).unwrap();
    client.set_irqs(Index::Msix, flags::ACTION_MASK, 9, IrqData::None(1)).unwrap();
    client.region_write(0, RAISE, &9_u32.to_le_bytes()).unwrap();
    let mut pending = [0; 8];
    client.region_read(0, PENDING.into(), &mut pending).unwrap();
    assert_eq!(pending, [0, 2, 0, 0, 0, 0, 0, 0]);
    client.region_write(0, PENDING.into(), &[0xff; 8]).unwrap();
    client.set_irqs(Index::Msix, flags::ACTION_UNMASK, 9, IrqData::None(1)).unwrap();
    client.region_read(0, PENDING.into(), &mut pending).unwrap();
    assert_eq!((pending, signals(&fd)), ([0; 8], 1));
}

#[test]
fn configuration_space_keeps_what_it_may() {
    let setup = Setup::new();
    let client = setup.client();
    client.region_write(CONFIG, 0, &[0xff; 64]).unwrap();
    assert_eq!((config16(&client, 0), config16(&client, 2)), (0x1234, 0x5678));
    assert_eq!(config16(&client, 8), 3, "revision and interface");
    assert_eq!(config16(&client, 4), 0x0547);
    assert_eq!(config16(&client, 6), 0x0010);
    let mut bars = [0; 24];
    client.region_read(CONFIG, 0x10, &mut bars).unwrap();
    let bar = |i: usize| u32::from_le_bytes(bars[4 * i..][..4].try_into().unwrap());
    assert_eq!([bar(0), bar(1)], [0xffff_c004, 0xffff_ffff]);
    assert_eq!([bar(2), bar(3), bar(4), bar(5)], [0xffff_c008, 0, 0xffff_ffc1, 0]);
    assert_eq!(setup.diary.lock().unwrap().bus_master, Some(true));

    let (pm, msi) = (capability(&client, 1), capability(&client, 5));
    let (msix, express) = (capability(&client, 0x11), capability(&client, 0x10));
    assert_eq!((pm % 4, msi % 4, msix % 4, express % 4), (0, 0, 0, 0));
    assert_eq!(config16(&client, msi + 2), 3 << 1 | 1 << 7 | 1 << 8);
    assert_eq!(u32::from(config16(&client, msix + 2)), VECTORS - 1);
    client.region_write(CONFIG, pm, &[0xff; 8]).unwrap();
    assert_eq!((config16(&client, pm + 2), config16(&client, pm + 4)), (3, 8 | 3));

    // Everything is as before after a reset through the express capability.
    client.region_write(CONFIG, express + 8, &[0xff, 0xff]).unwrap();
    assert_eq!(setup.diary.lock().unwrap().resets, 1);
    assert_eq!((config16(&client, 4), config16(&client, pm + 4)), (0, 8));
    let mut beyond = [1; 8];
    client.region_read(CONFIG, 252, &mut beyond).unwrap();
    assert_eq!(beyond, [0; 8]);
}

#[test]
fn registers_of_configuration_space_mask_vectors() {
    let setup = Setup::new();
    let client = setup.client();
    let fd = event();
    let raise = |vector: u32| setup.bus().interrupts.raise(vector);
    client.attach(Index::Msi, 0, &[event().as_fd(), fd.as_fd()]).unwrap();
    let mask = capability(&client, 5) + 16;
    client.region_write(CONFIG, mask, &[2]).unwrap();
    assert_eq!((raise(1), raise(1), signals(&fd)), (Raised::Pending, Raised::Pending, 0));
    let mut pending = [0; 4];
    client.region_read(CONFIG, mask + 4, &mut pending).unwrap();
    assert_eq!(pending, [2, 0, 0, 0]);
    client.region_write(CONFIG, mask, &[0]).unwrap();
    assert_eq!((signals(&fd), raise(1), signals(&fd)), (1, Raised::Signalled, 1));
    client.set_irqs(Index::Msi, flags::ACTION_TRIGGER, 0, IrqData::None(0)).unwrap();

    let control = capability(&client, 0x11) + 3;
    client.attach(Index::Msix, 5, &[fd.as_fd()]).unwrap();
    client.region_write(CONFIG, control, &[0xc0]).unwrap();
    assert_eq!((raise(5), signals(&fd)), (Raised::Pending, 0));
    // A vector that is attached meanwhile is masked, too.
    let late = event();
    client.attach(Index::Msix, 6, &[late.as_fd()]).unwrap();
    assert_eq!((raise(6), signals(&late)), (Raised::Pending, 0));
    client.region_write(CONFIG, control, &[0x80]).unwrap();
    assert_eq!((signals(&fd), signals(&late)), (1, 1));
}

/// MSI's mask register and the function mask of MSI-X are written one by one.
#[test]
fn a_mask_is_cleared_by_its_own_register() {
    let setup = Setup::new();
    let client = setup.client();
    let (fd, interrupts) = (event(), setup.bus().interrupts);
    client.attach(Index::Msix, 0, &[fd.as_fd()]).unwrap();
    let (mask, control) = (capability(&client, 5) + 16, capability(&client, 0x11) + 3);
    client.region_write(CONFIG, control, &[0xc0]).unwrap();
    client.region_write(CONFIG, mask, &[1]).unwrap();
    client.region_write(CONFIG, mask, &[0]).unwrap();
    assert_eq!((interrupts.raise(0), signals(&fd)), (Raised::Pending, 0));
    client.region_write(CONFIG, mask, &[1]).unwrap();
    client.region_write(CONFIG, control, &[0x80]).unwrap();
    assert_eq!((interrupts.raise(0), signals(&fd)), (Raised::Pending, 0));
    client.region_write(CONFIG, mask, &[0]).unwrap();
    assert_eq!((interrupts.is_masked(0), signals(&fd)), (false, 1));
}

#[test]
fn reset_leaves_interrupts_attached() {
    let setup = Setup::new();
    let client = setup.client();
    let fd = event();
    client.attach(Index::Msix, 3, &[fd.as_fd()]).unwrap();
    client.region_write(0, 0, &[5]).unwrap();
    client.reset().unwrap();
    let mut data = [9];
    client.region_read(0, 0, &mut data).unwrap();
    assert_eq!((data, setup.diary.lock().unwrap().resets), ([0], 1));
    client.region_write(0, RAISE, &3_u32.to_le_bytes()).unwrap();
    assert_eq!(signals(&fd), 1);
}

#[test]
fn memory_is_reached_through_descriptors() {
    let setup = Setup::new();
    let (client, memory) = (setup.client(), setup.bus().memory);
    let file = memfd(0x3000);
    client.dma_map(0x10_0000, 0x1000, Some((file.as_fd(), 0x1000))).unwrap();
    client.dma_map(0x10_1000, 0x1000, Some((file.as_fd(), 0))).unwrap();
    memory.write(0x10_0ffe, b"spans").unwrap();
    let mut data = [0; 3];
    rustix::io::pread(&file, &mut data, 0).unwrap();
    assert_eq!(&data, b"ans");
    let mut data = [0; 5];
    memory.read(0x10_0ffe, &mut data).unwrap();
    assert_eq!(&data, b"spans");
    memory.store(0x10_0010, 77).unwrap();
    assert_eq!(memory.load(0x10_0010).unwrap(), 77);
    assert_eq!(memory.load(0x10_0011), Err(Errno::EINVAL));
    assert_eq!(memory.read(0x10_1fff, &mut data), Err(Errno::EFAULT));
    assert!(memory.covers(0x10_0000, 0x2000) && !memory.covers(0xf_ffff, 2));

    let disk = memfd(0x1000);
    rustix::io::pwrite(&disk, b"from the disk", 100).unwrap();
    memory.fill_from(0x10_0ffa, 13, disk.as_fd(), 100).unwrap();
    memory.drain_to(0x10_0ffa, 13, disk.as_fd(), 200).unwrap();
    let mut data = [0; 13];
    rustix::io::pread(&disk, &mut data, 200).unwrap();
    assert_eq!(&data, b"from the disk");
    assert_eq!(memory.fill_from(0x10_0000, 8, disk.as_fd(), 0x1000), Err(errno::EIO));

    let part = [common::words(&[32, 3]), common::longs(&[0, 0x10_0800, 0x10])].concat();
    let overlap = client.call(Command::DmaMap, &part, &[]).unwrap_err();
    assert_eq!(overlap.errno(), Some(errno::EEXIST));
    let partly = client.dma_unmap(0x10_0000, 0x2000).unwrap_err();
    assert_eq!(partly.errno(), Some(errno::ENOENT));
    client.dma_unmap(0x10_0000, 0x1000).unwrap();
    assert_eq!(memory.read(0x10_0000, &mut data), Err(Errno::EFAULT));
    let diary = setup.diary.lock().unwrap();
    assert_eq!(diary.mapped, [(0x10_0000, 0x1000), (0x10_1000, 0x1000)]);
    assert_eq!(diary.unmapped, [(0x10_0000, 0x1000)]);
}

#[test]
fn all_memory_is_unmapped_at_once() {
    let setup = Setup::new();
    let client = setup.client();
    client.dma_map(0x1000, 0x1000, None).unwrap();
    client.dma_map(0x9000, 0x1000, None).unwrap();
    let mut payload = common::words(&[24, 2]);
    payload.extend(common::longs(&[0, 0]));
    let (reply, _) = client.call(Command::DmaUnmap, &payload, &[]).unwrap();
    assert_eq!(reply, payload);
    client.dma_map(0, 0x10_0000, None).unwrap();
}

#[test]
fn what_may_not_be_written_is_not() {
    let setup = Setup::new();
    let (client, memory) = (setup.client(), setup.bus().memory);
    let file = memfd(0x1000);
    for (at, access) in [(0x1000, 1), (0x2000, 2)] {
        let mut payload = common::words(&[32, access]);
        payload.extend(common::longs(&[0, at, 0x1000]));
        client.call(Command::DmaMap, &payload, &[file.as_fd()]).unwrap();
    }
    assert_eq!(memory.write(0x1000, &[1]), Err(errno::EACCES));
    assert_eq!(memory.read(0x2000, &mut [1]), Err(errno::EACCES));
    memory.write(0x2000, &[5]).unwrap();
    let mut data = [0];
    memory.read(0x1000, &mut data).unwrap();
    assert_eq!(data, [5]);
}

/// Memory that the client has to be asked for.
struct Held(Arc<Mutex<Vec<u8>>>);

impl DmaHandler for Held {
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let memory = self.0.lock().unwrap();
        let from = memory.get(address as usize..).ok_or(Errno::EFAULT)?;
        data.copy_from_slice(from.get(..data.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let mut memory = self.0.lock().unwrap();
        let into = memory.get_mut(address as usize..).ok_or(Errno::EFAULT)?;
        into.get_mut(..data.len()).ok_or(Errno::EFAULT)?.copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn memory_is_reached_through_messages() {
    let setup = Setup::new();
    let (client, memory) = (setup.client(), setup.bus().memory);
    let held = Arc::new(Mutex::new(vec![0; 3 << 20]));
    client.set_dma_handler(Held(Arc::clone(&held)));
    client.dma_map(0, 1 << 30, None).unwrap();
    let device = std::thread::spawn(move || {
        let long: Vec<u8> = (0..(2 << 20) + 5).map(|i| (i % 251) as u8).collect();
        memory.write(3, &long).unwrap();
        let mut back = vec![0; long.len()];
        memory.read(3, &mut back).unwrap();
        assert!(back == long);
        assert_eq!(memory.read(1 << 29, &mut [0]), Err(Errno::EFAULT));
        memory.store(0x20_0008, 6).unwrap();
        memory.load(0x20_0008).unwrap()
    });
    // The client is served both while it waits for replies and while it does nothing else.
    let mut data = [0; 4];
    while !device.is_finished() {
        client.region_write(0, 0, &[1, 2, 3, 4]).unwrap();
        client.region_read(0, 0, &mut data).unwrap();
        assert_eq!(data, [1, 2, 3, 4]);
        client.serve(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(device.join().unwrap(), 6);
    assert_eq!(held.lock().unwrap()[3..8], [0, 1, 2, 3, 4]);
}

#[test]
fn a_client_takes_everything_along_but_the_counts() {
    let setup = Setup::new();
    let (client, bus) = (setup.client(), setup.bus());
    let fd = event();
    client.attach(Index::Msix, 1, &[fd.as_fd()]).unwrap();
    client.dma_map(0, 0x1000, Some((memfd(0x1000).as_fd(), 0))).unwrap();
    client.region_write(0, 4, &[42]).unwrap();
    assert_eq!(bus.interrupts.raise(1), Raised::Signalled);
    drop(client);
    common::eventually("the end", || setup.diary.lock().unwrap().gone == 1);
    common::eventually("a vector without a client", || !bus.interrupts.is_attached(1));
    assert_eq!(bus.interrupts.raise(1), Raised::Dropped);
    common::eventually("memory without a client", || !bus.memory.covers(0, 1));
    let client = setup.client();
    let mut data = [0];
    client.region_read(0, 4, &mut data).unwrap();
    assert_eq!((data, signals(&fd), bus.interrupts.counts(1).signals), ([0], 1, 1));
    assert_eq!(client.irq_info(Index::Msix).unwrap().count, VECTORS);
}

#[test]
fn more_descriptors_than_a_message_takes() {
    let setup = Setup::new();
    let client = setup.client();
    let fds: Vec<_> = (0..254).map(|_| event()).collect();
    let refused = client.attach(Index::Msix, 0, &borrowed(&fds)).unwrap_err();
    assert!(matches!(refused, vfio_irq_user::ClientError::TooManyFds { most: 253, wanted: 254 }));
}

#[test]
fn accesses_of_any_length_are_divided_by_what_both_sides_take() {
    // The client takes 1 MiB.
    for transfer in [4 << 20, 1000] {
        let options = Options { transfer, ..Options::default() };
        let function = Function::builder(1, 2).bar(0, Bar::memory32(4 << 20));
        let served = serve(options, function, |_| Registers(vec![0; 4 << 20]));
        let client = Client::connect(&served.path, ClientOptions::default()).unwrap();
        let long: Vec<u8> = (0..(2 << 20) + 7).map(|i| (i % 249) as u8).collect();
        client.region_write(0, 5, &long).unwrap();
        let mut back = vec![0; long.len()];
        client.region_read(0, 5, &mut back).unwrap();
        assert!(back == long);
        client.region_post(0, 1 << 20, &long).unwrap();
        client.region_read(0, 1 << 20, &mut back).unwrap();
        assert!(back == long);
        let writes: Vec<(u32, u64, &[u8])> = (0..1000).map(|i| (0, 3 * i, &b"abc"[..])).collect();
        assert_eq!(client.region_write_multi(&writes).unwrap(), 1000);
        client.region_read(0, 0, &mut back[..3000]).unwrap();
        assert!(back[..3000] == b"abc".repeat(1000));
    }
}

#[test]
fn a_quiesced_access_fails_with_ecanceled() {
    let setup = Setup::new();
    let (client, memory) = (setup.client(), setup.bus().memory);
    // This client serves no DMA_READ.
    client.dma_map(0x1000, 0x1000, None).unwrap();
    let _quiesced = memory.quiesce();
    let its = memory.clone();
    let device = std::thread::spawn(move || its.load(0x1000));
    assert_eq!(device.join().unwrap(), Err(errno::ECANCELED));
}
