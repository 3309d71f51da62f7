//! What the driver refuses, and what the controller does.

use crate::emulated::Emulated;
use vfio_irq_nvme_driver::{Driver, Error, Function, Method, Queue, Request};

fn with(act: impl FnOnce(&Driver, &mut Queue)) {
    let emulated = Emulated::new(2);
    let driver = emulated.driver(Method::default());
    let mut queue = driver.create_queue(4).unwrap();
    act(&driver, &mut queue);
    // Whatever it was, the queue goes on.
    queue.read(0, &driver.buffer(512).unwrap()).unwrap();
}

#[test]
fn the_controller_says_what_it_is() {
    with(|driver, _| {
        let info = driver.info();
        assert_eq!((info.serial.as_str(), info.blocks, info.block), ("driver", 65536, 512));
        assert_eq!((info.queues, info.entries, info.write_zeroes), (2, 1024, true));
    });
}

#[test]
fn creating_a_queue_takes_two_admin_commands() {
    with(|driver, _| {
        let before = driver.admin_stats().completions;
        let _queue = driver.create_queue(1).unwrap();
        assert_eq!(driver.admin_stats().completions - before, 2);
    });
}

/// CAP and ASQ, by 64-bit accesses and by their halves.
#[test]
fn registers_have_two_halves() {
    let emulated = Emulated::new(2);
    let socket = emulated.socket();
    let capabilities = socket.read64(0).unwrap();
    assert_ne!(capabilities >> 37 & 1, 0, "the NVM command set");
    socket.write64(0x28, 0x12_3456_7000).unwrap();
    let halves = (socket.read32(0x28).unwrap(), socket.read32(0x2c).unwrap());
    assert_eq!(halves, (0x3456_7000, 0x12));
}

#[test]
fn a_disk_has_a_block_at_least() {
    assert!(vfio_irq_nvme_device::Disk::memory(0).is_err());
}

#[test]
fn a_block_that_does_not_exist_is_named_by_the_controller() {
    with(|driver, queue| {
        let buffer = driver.buffer(1024).unwrap();
        for start in [65535, 65536, u64::MAX] {
            let error = queue.read(start, &buffer).unwrap_err();
            assert!(matches!(error, Error::Status { command: "Read", .. }), "{error}");
            assert!(error.to_string().contains("LBA out of range"), "{error}");
        }
    });
}

#[test]
fn requests_that_make_no_sense_say_what_would() {
    with(|driver, queue| {
        let (buffer, odd) = (driver.buffer(4096).unwrap(), driver.buffer(1000).unwrap());
        let other = Emulated::new(1);
        let other = other.driver(Method::default());
        let foreign = other.buffer(512).unwrap();
        let cases: [(Request<'_>, &str); 5] = [
            (Request::Read { start: 0, blocks: 9, into: &buffer }, "do not fit"),
            (Request::Write { start: 0, blocks: 0, from: &buffer }, "1 to 65536 blocks"),
            (Request::Write { start: 0, blocks: 2049, from: &buffer }, "2048 blocks at most"),
            (Request::WriteZeroes { start: 0, blocks: 65537 }, "1 to 65536 blocks"),
            (Request::Read { start: 0, blocks: 1, into: &foreign }, "another controller's"),
        ];
        for (request, why) in cases {
            let error = queue.submit(request, 0).unwrap_err();
            assert!(matches!(error, Error::Request(_)), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(queue.read(0, &odd).unwrap_err().to_string().contains("no number of blocks"));
        assert!(driver.buffer(0).unwrap_err().to_string().contains("no use"));
        assert!(driver.buffer((1 << 20) + 1).unwrap_err().to_string().contains("no use"));
        assert!(driver.buffers(usize::MAX, 4096).unwrap_err().to_string().contains("too many"));
        assert!(buffer.write(4000, &[0; 97]).unwrap_err().to_string().contains("beyond"));
        assert!(buffer.read(usize::MAX, &mut [0; 2]).is_err());
    });
}

#[test]
fn a_call_that_waits_does_not_mix_with_others() {
    with(|driver, queue| {
        let buffer = driver.buffer(512).unwrap();
        queue.submit(Request::Flush, 7).unwrap();
        let error = queue.read(0, &buffer).unwrap_err();
        assert!(matches!(error, Error::Busy { queue: 1, open: 1 }), "{error}");
        crate::emulated::finish(queue, |done| assert_eq!(done.token, 7));
    });
}

#[test]
fn a_queue_is_as_deep_as_the_controller_can() {
    with(|driver, _| {
        assert_eq!(driver.create_queue(u16::MAX).unwrap().depth(), 1023);
        assert_eq!(driver.create_queue(0).unwrap().depth(), 1);
    });
}
