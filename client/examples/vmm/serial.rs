//! The serial port: standard input and output of the VMM.

use crate::{Error, lock};
use kvm_ioctls::VmFd;
use std::io::{self, Read};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const GSI: u32 = 4;

/// The irqfd of the port.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A 16550 at 0x3f8.
pub struct Port(Serial<Interrupt, NoEvents, io::Stdout>);

impl Port {
    pub fn new(vm: &VmFd) -> Result<Self, Error> {
        let interrupt = EventFd::new(EFD_NONBLOCK)?;
        vm.register_irqfd(&interrupt, GSI)?;
        Ok(Self(Serial::new(Interrupt(interrupt), io::stdout())))
    }

    pub fn write(&mut self, register: u16, bytes: &[u8]) {
        if let (Ok(register), [byte]) = (u8::try_from(register), bytes) {
            // A closed standard output is no reason to stop the guest.
            let _ = self.0.write(register, *byte);
        }
    }

    pub fn read(&mut self, register: u16, bytes: &mut [u8]) {
        if let (Ok(register), [byte]) = (u8::try_from(register), bytes) {
            *byte = self.0.read(register);
        }
    }
}

/// Passes standard input on to the guest until it ends.
pub fn read_input(port: &Mutex<Port>) {
    let mut buffer = [0; 16];
    while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            // The FIFO may be full until the guest reads it.
            match lock(port).0.enqueue_raw_bytes(rest) {
                Ok(taken @ 1..) => rest = &rest[taken..],
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}
