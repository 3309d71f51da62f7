//! The admin queue: Identify, features, and queue management.

use super::buffer::Buffer;
use super::pair::Pair;
use super::registers::Registers;
use super::ring::{Ring, Words};
use super::space::Dma;
use super::{Error, Info, halves};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vfio_irq::Trigger;
use vfio_irq_nvme_spec::opcode::admin as opcode;

/// The structures of Identify (CNS).
const NAMESPACE: u32 = 0;
const CONTROLLER: u32 = 1;
/// The feature with the number of queues.
const QUEUES: u32 = 7;
/// A queue in one piece; one that interrupts.
const CONTIGUOUS: u32 = 1;
const INTERRUPTS: u32 = 2;

/// Bytes of an answer to Identify.
pub(crate) const PAGE: usize = 4096;

/// Write Zeroes is among the optional commands.
const HAS_ZEROES: u16 = 1 << 3;

pub(crate) struct Admin {
    pub(crate) pair: Pair,
    pub(crate) timeout: Duration,
    /// The queue IDs in use, with the eventfds of their users.
    pub(crate) queues: BTreeMap<u16, Option<Trigger>>,
    /// Memory that the controller may still access, because it did not delete a queue.
    pub(crate) lost: Vec<Arc<Dma>>,
    pub(crate) closed: bool,
}

/// The reason why a queue was not created.
pub(crate) struct NotCreated {
    pub(crate) error: Error,
    /// The controller may still have one of the two queues.
    pub(crate) remains: bool,
}

impl NotCreated {
    fn new(error: Error) -> Self {
        let remains = !matches!(error, Error::Status { .. });
        Self { error, remains }
    }
}

impl Admin {
    fn run(
        &mut self,
        registers: &Registers,
        command: &'static str,
        words: Words,
        data: Option<&Buffer>,
    ) -> Result<u32, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        let work = (words, data.map(Buffer::memory));
        let done = self.pair.run(command, work, self.timeout, || registers.check());
        if self.pair.ring.open() > 0 {
            // The command may complete at any time, and would be taken for the next one.
            self.pair.ring.kill();
        }
        done
    }

    fn identify(
        &mut self,
        registers: &Registers,
        what: u32,
        namespace: u32,
        page: &Buffer,
    ) -> Result<[u8; PAGE], Error> {
        let (first, second) = page.pointers(PAGE);
        let mut words = with_pointers(opcode::IDENTIFY, namespace, first, second);
        words[10] = what;
        self.run(registers, "Identify", words, Some(page))?;
        let mut answer = [0; PAGE];
        page.read(0, &mut answer)?;
        Ok(answer)
    }

    /// Identifies the controller and its first namespace. `most` is the limit of a PRP list.
    pub(crate) fn info(
        &mut self,
        registers: &Registers,
        page: &Buffer,
        most: u64,
    ) -> Result<Info, Error> {
        let controller = self.identify(registers, CONTROLLER, 0, page)?;
        let namespaces = u32::from_le_bytes(bytes(&controller, 516));
        if namespaces == 0 {
            return Err(Error::Unfit("it has no namespace".into()));
        }
        // Stale bytes of the page must not be taken for an answer.
        page.write(0, &[0; PAGE])?;
        let namespace = self.identify(registers, NAMESPACE, 1, page)?;
        let (blocks, block) = geometry(&namespace)?;
        let [exponent] = bytes(&controller, 77);
        let transfer = match u32::from(exponent) {
            0 => most,
            // A number that large is no limit.
            exponent => registers.limits.page.checked_shl(exponent).unwrap_or(most).min(most),
        };
        // A shift by less than 64 may have pushed every bit out.
        let transfer = if transfer == 0 { most } else { transfer };
        if block > transfer {
            return Err(Error::Unfit(format!(
                "its blocks are of {block} bytes, and a command moves {transfer} at most"
            )));
        }
        Ok(Info {
            serial: text(&bytes::<20>(&controller, 4)),
            model: text(&bytes::<40>(&controller, 24)),
            firmware: text(&bytes::<8>(&controller, 64)),
            blocks,
            block,
            transfer,
            write_zeroes: u16::from_le_bytes(bytes(&controller, 520)) & HAS_ZEROES != 0,
            queues: 0,
            entries: registers.limits.entries,
        })
    }

    /// Requests I/O queues. Returns how many the controller granted, which may be more or fewer.
    pub(crate) fn set_queues(&mut self, registers: &Registers, wanted: u16) -> Result<u16, Error> {
        let most = u32::from(wanted.clamp(1, u16::MAX) - 1).min(0xfffe);
        let mut words = Words::default();
        words[0] = opcode::SET_FEATURES.into();
        words[10] = QUEUES;
        words[11] = most << 16 | most;
        let granted = self.run(registers, "Set Features (Number of Queues)", words, None)?;
        let fewer = (granted & 0xffff).min(granted >> 16);
        Ok(u16::try_from(fewer).unwrap_or(u16::MAX).saturating_add(1))
    }

    /// Creates both queues of a ring. They use the vector with the same number.
    pub(crate) fn create(&mut self, registers: &Registers, ring: &Ring) -> Result<(), NotCreated> {
        let (commands, completions) = ring.addresses();
        let id = u32::from(ring.id());
        let size = u32::from(ring.entries().saturating_sub(1)) << 16 | id;
        let mut words = with_pointers(opcode::CREATE_COMPLETION, 0, completions, 0);
        (words[10], words[11]) = (size, id << 16 | INTERRUPTS | CONTIGUOUS);
        let created = self.run(registers, "Create I/O Completion Queue", words, None);
        created.map_err(NotCreated::new)?;
        let mut words = with_pointers(opcode::CREATE_SUBMISSION, 0, commands, 0);
        (words[10], words[11]) = (size, id << 16 | CONTIGUOUS);
        let created = self.run(registers, "Create I/O Submission Queue", words, None);
        created.map(drop).map_err(|error| {
            let mut why = NotCreated::new(error);
            if !why.remains {
                let gone = self.delete_one(registers, opcode::DELETE_COMPLETION, ring.id());
                why.remains = gone.is_err();
            }
            why
        })
    }

    /// Deletes both queues with this ID. The controller completes outstanding commands first.
    pub(crate) fn delete(&mut self, registers: &Registers, id: u16) -> Result<(), Error> {
        self.delete_one(registers, opcode::DELETE_SUBMISSION, id)?;
        self.delete_one(registers, opcode::DELETE_COMPLETION, id)
    }

    fn delete_one(&mut self, registers: &Registers, opcode: u8, id: u16) -> Result<(), Error> {
        let name = match opcode {
            opcode::DELETE_SUBMISSION => "Delete I/O Submission Queue",
            _ => "Delete I/O Completion Queue",
        };
        let mut words = Words::default();
        (words[0], words[10]) = (opcode.into(), id.into());
        self.run(registers, name, words, None).map(drop)
    }
}

/// A command with where its data is.
pub(crate) fn with_pointers(opcode: u8, namespace: u32, first: u64, second: u64) -> Words {
    let ((a, b), (c, d)) = (halves(first), halves(second));
    [opcode.into(), namespace, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0]
}

/// Number of blocks, and bytes of each.
fn geometry(namespace: &[u8; PAGE]) -> Result<(u64, u64), Error> {
    let unfit = |why: String| Err(Error::Unfit(why));
    let blocks = u64::from_le_bytes(bytes(namespace, 0));
    if blocks == 0 {
        return unfit("its first namespace has no blocks".into());
    }
    let [formatted] = bytes(namespace, 26);
    let format: [u8; 4] = bytes(namespace, 128 + 4 * usize::from(formatted & 0xf));
    let [metadata_low, metadata_high, exponent, _] = format;
    if metadata_low != 0 || metadata_high != 0 {
        return unfit("its first namespace is formatted with metadata".into());
    }
    if !(9..=16).contains(&exponent) {
        return unfit(format!(
            "its blocks are of 2^{exponent} bytes, and 2^9 to 2^16 would be right"
        ));
    }
    let block = 1 << exponent;
    if blocks.checked_mul(block).is_none() {
        return unfit(format!("its first namespace of {blocks} blocks is larger than can be"));
    }
    Ok((blocks, block))
}

/// Bytes of an answer; zeroes beyond its end.
fn bytes<const N: usize>(page: &[u8; PAGE], at: usize) -> [u8; N] {
    page.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// Text that may hold anything: what is not printable is left out.
fn text(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().map(|b| char::from(*b)).filter(|c| (' '..='~').contains(c)).collect();
    text.trim().to_owned()
}
