//! rust-vmm's client, `vfio_user` 0.1.7, against this server.

mod common;

use common::{Setup, event, memfd, signals};
use std::os::fd::AsRawFd;
use vfio_irq_user::Raised;
use vfio_irq_user::abi::{Index, flags};
use vfio_user::Client;

#[test]
fn rust_vmm_client_finds_the_device() {
    let setup = Setup::new();
    let mut client = Client::new(&setup.path).unwrap();
    assert_eq!(client.region(0).unwrap().size, 0x4000);
    assert_eq!(client.region(7).unwrap().size, 4096);
    let shared = client.region(2).unwrap();
    assert!(shared.file_offset.is_some());
    let areas: Vec<_> = shared.sparse_areas.iter().map(|area| (area.offset, area.size)).collect();
    assert_eq!(areas, [(0x1000, 0x1000), (0x3000, 0x1000)]);
    let info = client.get_irq_info(Index::Msix.raw()).unwrap();
    assert_eq!((info.count, info.flags), (64, flags::INFO_EVENTFD | flags::INFO_MASKABLE));
    let mut id = [0; 4];
    client.region_read(7, 0, &mut id).unwrap();
    assert_eq!(id, [0x34, 0x12, 0x78, 0x56]);
    client.shutdown().unwrap();
}

#[test]
fn rust_vmm_client_uses_the_device() {
    let setup = Setup::new();
    let mut client = Client::new(&setup.path).unwrap();
    client.region_write(0, 8, &[1, 2, 3]).unwrap();
    let mut data = [0; 3];
    client.region_read(0, 8, &mut data).unwrap();
    assert_eq!(data, [1, 2, 3]);

    let fds = [event(), event(), event()];
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let attach = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
    client.set_irqs(2, attach, 4, 3, &raw).unwrap();
    assert_eq!(setup.bus().interrupts.raise(5), Raised::Signalled);
    client.set_irqs(2, flags::DATA_NONE | flags::ACTION_MASK, 5, 1, &[]).unwrap();
    assert_eq!(setup.bus().interrupts.raise(5), Raised::Pending);
    client.set_irqs(2, flags::DATA_NONE | flags::ACTION_UNMASK, 5, 1, &[]).unwrap();
    assert_eq!(signals(&fds[1]), 2);
    client.set_irqs(2, attach, 5, 1, &[]).unwrap();
    assert_eq!(setup.bus().interrupts.raise(5), Raised::Dropped);

    let file = memfd(0x2000);
    client.dma_map(0x1000, 0x8000, 0x1000, file.as_raw_fd()).unwrap();
    setup.bus().memory.write(0x8000, b"dma").unwrap();
    let mut data = [0; 3];
    rustix::io::pread(&file, &mut data, 0x1000).unwrap();
    assert_eq!(&data, b"dma");
    client.dma_unmap(0x8000, 0x1000).unwrap();
    assert!(!setup.bus().memory.covers(0x8000, 1));
    client.reset().unwrap();
    assert_eq!(setup.diary.lock().unwrap().resets, 1);
}
