//! `CONTRACT.md` over the wire: the project's own cases, as far as the protocol can carry them.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::Setup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_conformance::cases::{self, Outcome};
use vfio_irq_conformance::target::{Core, Counted, Target};
use vfio_irq_conformance::vfio::Facts;
use vfio_irq_conformance::{Answer, Error, Index};
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Client, ClientError, Errno, VectorCounts, abi};

/// What a request is that no message can carry.
const UNSAYABLE: &str = "vfio-user has no way to say this";

fn unsayable() -> Error {
    Error::Table(UNSAYABLE.into())
}

/// Expects EINVAL of a request with a closed descriptor, where the stand-in gets EINVAL for itself.
/// `tests/interrupts.rs` has the rule.
const AMBIGUOUS: &str = "v02_one_at_a_time";

/// A board behind a socket.
struct Wire {
    setup: Setup,
    client: Option<Client>,
    files: BTreeMap<i32, OwnedFd>,
    /// Indexes that can be disabled.
    active: BTreeSet<u32>,
    /// What was counted before the device was opened: a device counts for as long as it is served.
    counts: BTreeMap<u32, VectorCounts>,
}

impl Wire {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("the device is open")
    }

    fn call(
        &self,
        command: Command,
        payload: &[u8],
        fds: &[i32],
    ) -> Result<(Answer, Vec<u8>), Error> {
        let input = std::io::stdin();
        let known: Option<Vec<_>> = fds
            .iter()
            .map(|fd| match fd {
                0 => Some(input.as_fd()),
                _ => self.files.get(fd).map(AsFd::as_fd),
            })
            .collect();
        let Some(known) = known else {
            return Ok((self.call_closed(command, payload, fds.len())?, Vec::new()));
        };
        match self.client().call(command, payload, &known) {
            Ok((payload, _)) => Ok((Answer::OK, payload)),
            Err(ClientError::Refused { errno, .. }) => Ok((Answer(-errno.raw()), Vec::new())),
            Err(error) => Err(Error::Table(error.to_string())),
        }
    }

    /// A descriptor that is not open cannot be sent. A file of no use is, in its place: whatever the
    /// server says before it looks at descriptors it says then, too.
    fn call_closed(&self, command: Command, payload: &[u8], fds: usize) -> Result<Answer, Error> {
        let file = common::memfd(8);
        match self.client().call(command, payload, &vec![file.as_fd(); fds]) {
            Err(ClientError::Refused { errno: Errno::EINVAL, .. }) => Ok(Answer::EBADF),
            Err(ClientError::Refused { errno, .. }) => Ok(Answer(-errno.raw())),
            Ok(_) => Ok(Answer::OK),
            Err(error) => Err(Error::Table(error.to_string())),
        }
    }

    fn file(&self, fd: i32) -> &OwnedFd {
        self.files.get(&fd).expect("a file of ours")
    }

    /// Notes what a request has made of its index. The rules have EINVAL for disabling what is idle, and
    /// this server does not mind (`tests/liberal.rs`): that answer is the rules'.
    fn by_the_rules(&mut self, head: &[u8], attaches: bool, answer: Answer) -> Answer {
        let (flags, index, count) = (word(head, 4), word(head, 8), word(head, 16));
        if answer != Answer::OK || flags & abi::flags::ACTION_TRIGGER == 0 {
            return answer;
        }
        if flags & abi::flags::DATA_EVENTFD != 0 {
            // INTx, MSI and MSI-X are active with nothing attached, ERR and REQ are not.
            if attaches || index < 3 {
                self.active.insert(index);
            } else {
                self.active.remove(&index);
            }
        } else if flags & abi::flags::DATA_NONE != 0 && count == 0 && !self.active.remove(&index) {
            return Answer::EINVAL;
        }
        answer
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..][..4].try_into().unwrap())
}

fn readable(fd: &OwnedFd, time: Duration) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

impl Target for Wire {
    fn core(&self) -> Core {
        Core::Rust
    }

    fn facts(&self) -> Facts {
        Facts { pin: true, msi: 8, msi_mask_bits: true, msix: common::VECTORS }
    }

    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error> {
        if bytes.len() != 16 {
            return Err(unsayable());
        }
        let (answer, payload) = self.call(Command::DeviceGetIrqInfo, bytes, &[])?;
        if answer == Answer::OK {
            // The reply's argsz is how much it takes; the ioctl leaves the caller's alone.
            bytes[4..].copy_from_slice(&payload[4..]);
        }
        Ok(answer)
    }

    fn get_irq_info_unwritable(&mut self, _: &[u8]) -> Result<Option<Answer>, Error> {
        Ok(None)
    }

    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error> {
        let (head, data) = bytes.split_at_checked(20).ok_or_else(unsayable)?;
        let (argsz, flags, count) = (word(head, 0), word(head, 4), word(head, 16));
        if flags & abi::flags::DATA_EVENTFD == 0 {
            let bools = flags & abi::flags::DATA_BOOL != 0;
            if data.len() != if bools { count as usize } else { 0 } {
                return Err(unsayable());
            }
            let answer = self.call(Command::DeviceSetIrqs, bytes, &[])?.0;
            return Ok(self.by_the_rules(head, false, answer));
        }
        let whole = count as usize * 4;
        if data.len() != whole || (argsz >= 20 && argsz as usize != 20 + whole) {
            return Err(unsayable());
        }
        let fds: Vec<i32> = data.chunks_exact(4).map(|fd| word(fd, 0).cast_signed()).collect();
        let none = fds.iter().all(|fd| *fd == -1);
        if !none && fds.iter().any(|fd| *fd < 0) {
            return Err(unsayable());
        }
        let answer = self.call(Command::DeviceSetIrqs, head, if none { &[] } else { &fds })?.0;
        Ok(self.by_the_rules(head, !none, answer))
    }

    fn eventfd(&mut self) -> Result<i32, Error> {
        let fd = common::event();
        let number = fd.as_raw_fd();
        self.files.insert(number, fd);
        Ok(number)
    }

    fn other_file(&mut self) -> Result<i32, Error> {
        let fd = common::memfd(8);
        let number = fd.as_raw_fd();
        self.files.insert(number, fd);
        Ok(number)
    }

    fn signals(&mut self, fd: i32) -> Result<u64, Error> {
        Ok(common::signals(self.file(fd)))
    }

    fn wait(&mut self, fd: i32) -> Result<bool, Error> {
        Ok(readable(self.file(fd), Duration::from_millis(900)))
    }

    fn signal(&mut self, fd: i32) -> Result<(), Error> {
        rustix::io::write(self.file(fd), &1_u64.to_ne_bytes()).unwrap();
        // If it is armed, the server takes the signal; otherwise it stays.
        let deadline = Instant::now() + Duration::from_millis(100);
        while readable(self.file(fd), Duration::ZERO) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
        // What is armed has acted before the next message is answered.
        self.client().device_info().map(drop).map_err(|error| Error::Table(error.to_string()))
    }

    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx => 1,
            Index::Msi => 8,
            Index::Msix => common::VECTORS,
            Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, _: Index, _: u32) -> Result<(), Error> {
        Ok(())
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        match index {
            Index::Intx => self.setup.bus().interrupts.set_intx(true),
            _ => drop(self.setup.bus().interrupts.raise(vector)),
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<bool, Error> {
        self.setup.bus().interrupts.set_intx(false);
        Ok(true)
    }

    fn allocated(&self) -> Option<usize> {
        None
    }

    fn counted(&self, vector: u32) -> Option<Counted> {
        let now = self.setup.bus().interrupts.counts(vector);
        let before = self.counts.get(&vector).copied().unwrap_or_default();
        Some(Counted {
            signals: Some(now.signals - before.signals),
            masks: now.masks - before.masks,
            unmasks: now.unmasks - before.unmasks,
            retargets: now.retargets - before.retargets,
            loopbacks: now.loopbacks - before.loopbacks,
            failures: now.failures - before.failures,
        })
    }

    fn known(&self) -> Option<Vec<u32>> {
        None
    }

    fn handlers(&self) -> Option<Vec<String>> {
        None
    }

    fn reset(&mut self) -> Result<bool, Error> {
        self.client().reset().map(|()| true).map_err(|error| Error::Table(error.to_string()))
    }

    fn close(&mut self) -> Result<(), Error> {
        let before = self.setup.diary.lock().unwrap().clients;
        if self.client.take().is_some() {
            common::eventually("the end of a client", || {
                self.setup.diary.lock().unwrap().gone == before
            });
        }
        self.files.clear();
        self.active.clear();
        Ok(())
    }

    fn leaks(&self) -> Option<String> {
        let interrupts = self.setup.bus().interrupts;
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let left: Vec<_> =
                (0..common::VECTORS).filter(|vector| interrupts.is_attached(*vector)).collect();
            if left.is_empty() || self.client.is_some() {
                return None;
            }
            if Instant::now() > deadline {
                return Some(format!("vectors {left:?} are attached"));
            }
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        self.close()?;
        self.setup.bus().interrupts.set_intx(false);
        let interrupts = self.setup.bus().interrupts;
        self.counts =
            (0..common::VECTORS).map(|vector| (vector, interrupts.counts(vector))).collect();
        self.client = Some(self.setup.client());
        self.client().reset().map_err(|error| Error::Table(error.to_string()))
    }
}

#[test]
fn the_cases_of_the_contract_hold() {
    let (setup, active) = (Setup::new(), BTreeSet::new());
    let (files, counts) = (BTreeMap::new(), BTreeMap::new());
    let mut wire = Wire { setup, client: None, files, active, counts };
    let (mut held, mut unsayable, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    let mut broken = Vec::new();
    for case in cases::all() {
        match case.try_on(&mut wire) {
            Outcome::Held => held.push(case.name),
            Outcome::Broken(why) if why.contains(UNSAYABLE) => unsayable.push(case.name),
            Outcome::Broken(_) if case.name == AMBIGUOUS => unsayable.push(case.name),
            Outcome::Broken(why) => broken.push(format!("{}: {why}", case.name)),
            Outcome::NotApplicable(why) => elsewhere.push(format!("{}: {why}", case.name)),
        }
    }
    println!("held: {held:#?}\nunsayable: {unsayable:#?}\nnothing to try on: {elsewhere:#?}");
    println!("{} held, {} unsayable, {} n/a", held.len(), unsayable.len(), elsewhere.len());
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(held.len() > 70, "{} cases were played", held.len());
}
