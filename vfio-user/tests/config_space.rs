//! The configuration space of a built function, and the device's view of its client.

mod common;

use common::{Bench, event, memfd};
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use vfio_irq_user::pci::{Bar, Builder, Function, region};
use vfio_irq_user::wire::{Command, Header, Packet, Reply};
use vfio_irq_user::{Bus, Client, ClientOptions, Device, Endpoint, Errno, Options, Server};
use vfio_irq_user::{Grants, IrqData, Session, abi::Index, abi::flags, errno};

/// A device that reports whether the client's memory is mapped when the client disconnects.
struct Probe(Sender<bool>, Bus);

impl Device for Probe {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&mut self) {}

    fn disconnected(&mut self) {
        let _ = self.0.send(self.1.memory.covers(0, 0x1000));
    }
}

/// The first 256 bytes of configuration space, as a client reads them.
fn config(builder: Builder) -> [u8; 256] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.sock");
    let server = Server::start(Options::default()).unwrap();
    server.add(&path, builder.build().unwrap(), |bus| Probe(channel().0, bus)).unwrap();
    let client = Client::connect(&path, ClientOptions::default()).unwrap();
    let mut config = [0; 256];
    client.region_read(region::CONFIG, 0, &mut config).unwrap();
    config
}

#[test]
fn a_builder_fills_configuration_space() {
    let function = Function::builder(0x1234, 1)
        .revision(2)
        .power_management()
        .bar(0, Bar::memory64(16 << 20).prefetchable());
    let config = config(function);
    assert_eq!(config[8], 2);
    assert_eq!(config[0x10] & 0xf, 0b1100, "64 bits, prefetchable");
    assert_eq!(config[usize::from(config[0x34])], 1, "power management");
}

#[test]
fn regions_have_sizes_and_the_status_register_shows_intx() {
    let bench = Bench::new();
    let (client, bus) = (bench.client(), bench.bus());
    assert_ne!(client.region(0).unwrap().size, 0);
    assert_eq!(client.region(region::ROM).unwrap().size, 0);
    assert_eq!(client.region(region::CONFIG).unwrap().size, 4096);
    assert!(client.region(region::COUNT).is_err());
    bus.interrupts.set_line(true);
    assert!(bus.interrupts.line_is_asserted());
    let mut status = [0; 2];
    client.region_read(region::CONFIG, 6, &mut status).unwrap();
    assert_ne!(status[0] & 1 << 3, 0);
}

/// If the device still asserts INTx when the resample eventfd is signalled, INTx signals again.
#[test]
fn a_resample_eventfd_unmasks_intx() {
    let bench = Bench::new();
    let (client, bus) = (bench.client(), bench.bus());
    let (line, unmask) = (event(), event());
    client.attach(Index::Intx, 0, &[line.as_fd()]).unwrap();
    let resample = [unmask.as_fd()];
    client.set_irqs(Index::Intx, flags::ACTION_UNMASK, 0, IrqData::Eventfds(&resample)).unwrap();
    bus.interrupts.set_line(true);
    common::eventually("the first signal", || common::signals(&line) == 1);
    rustix::io::write(&unmask, &1_u64.to_ne_bytes()).unwrap();
    common::eventually("the signal after the resample", || common::signals(&line) == 1);
}

#[test]
fn the_memory_outlives_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.sock");
    let server = Server::start(Options::default()).unwrap();
    let (sender, mapped) = channel();
    let function = Function::builder(0x1234, 1).build().unwrap();
    server.add(&path, function, |bus| Probe(sender, bus)).unwrap();
    let client = Client::connect(&path, ClientOptions::default()).unwrap();
    client.dma_map(0, 0x1000, None).unwrap();
    drop(client);
    assert!(mapped.recv().unwrap());
}

#[test]
fn memory_is_written_to_a_file() {
    let bench = Bench::new();
    let (client, memory) = (bench.client(), bench.bus().memory);
    let (ram, disk) = (memfd(0x1000), memfd(0));
    client.dma_map(0, 0x1000, Some((ram.as_fd(), 0))).unwrap();
    assert_eq!(memory.write(0x100, b"new"), Ok(()));
    assert_eq!(memory.drain_to(0x100, 3, disk.as_fd(), 1024), Ok(()));
    assert_eq!(rustix::fs::fstat(&disk).unwrap().st_size, 1027);
}

#[test]
fn a_quiesced_access_fails_with_ecanceled() {
    let bench = Bench::new();
    let (client, memory) = (bench.client(), bench.bus().memory);
    // This client serves no DMA_READ.
    client.dma_map(0x1000, 0x1000, None).unwrap();
    let quiesced = memory.quiesce();
    let its = memory.clone();
    let worker = std::thread::spawn(move || its.load(0x1000));
    assert_eq!(worker.join().unwrap(), Err(errno::ECANCELED));
    drop(quiesced);
}

/// The session cannot know which descriptor is missing, so it refuses the message.
#[test]
fn a_message_whose_descriptors_were_truncated_is_refused() {
    let function = Function::builder(0x1234, 1).build().unwrap();
    let mut endpoint = Endpoint::new(function, |bus| Probe(channel().0, bus));
    let mut session = Session::new(&mut endpoint, Grants { transfer: 4096, dma_maps: 16 });
    let mut reply = Reply::default();
    let mut version = Header::command(1, Command::Version, 4).to_bytes().to_vec();
    version.extend([0, 0, 1, 0]);
    let packet = Packet::split(&version).unwrap().unwrap();
    session.handle(packet, &mut Vec::new(), false, &mut reply);
    let bytes = Header::command(2, Command::DeviceReset, 0).to_bytes();
    let packet = Packet::split(&bytes).unwrap().unwrap();
    session.handle(packet, &mut Vec::new(), true, &mut reply);
    let answer = Header::from_bytes(reply.bytes().first_chunk().unwrap());
    assert_eq!(answer.errno(), Some(errno::EMFILE));
}
