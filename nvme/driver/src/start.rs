//! Brings an unknown device to an enabled controller.

use super::admin::{self, Admin};
use super::buffer::Buffer;
use super::function::AnyFunction;
use super::interrupts::Interrupts;
use super::pair::Pair;
use super::registers::Registers;
use super::ring::Ring;
use super::space::Space;
use super::{Error, Info, Options, Shared};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use vfio_irq::Trigger;

/// Mass storage, non-volatile memory, NVMe.
const CLASS: u32 = 0x01_08_02;

/// Entries of the admin queue.
const ENTRIES: u16 = 32;

/// Resets the controller, enables it with its admin queue, and identifies it.
pub(crate) fn start(function: AnyFunction, options: &Options) -> Result<Shared, Error> {
    // The class is checked before anything is written to the device.
    let class = function.class().map_err(Error::access("reading its class"))?;
    if class != CLASS {
        return Err(Error::Unfit(format!(
            "it is no NVMe controller: its class is {class:#08x}, and {CLASS:#08x} would be"
        )));
    }
    let registers = Registers::open(Arc::clone(&function))?;
    registers.disable()?;
    let page = registers.limits.page;
    let space = Space::new(Arc::clone(&function), page);
    let (interrupts, vectors) = Interrupts::open(&function, options.method)?;
    let bells = registers.limits.bells(0);
    let ring = Ring::new(Arc::clone(&function), &space, page, (0, ENTRIES), bells)?;
    let trigger = Trigger::new()?;
    let vector = interrupts.attach(0, &trigger)?;
    let mut admin = Admin {
        pair: Pair::new(ring, trigger, vector),
        timeout: options.timeout,
        queues: BTreeMap::new(),
        lost: Vec::new(),
        closed: false,
    };
    // The admin queue uses vector 0.
    let vectors = u16::try_from(vectors.saturating_sub(1)).unwrap_or(u16::MAX);
    let there = vectors.min(registers.limits.queues);
    let enabled = if there == 0 {
        Err(Error::Unfit("it has one vector, and a queue needs a second".into()))
    } else {
        enable(&registers, &function, &space, &mut admin, options.queues.clamp(1, there))
    };
    // On failure the controller stops before its memory is freed.
    let info = enabled.inspect_err(|_| stop(&registers, &function))?;
    Ok(Shared {
        registers,
        interrupts,
        space,
        function,
        info,
        timeout: options.timeout,
        admin: Mutex::new(admin),
        closed: AtomicBool::new(false),
    })
}

fn enable(
    registers: &Registers,
    function: &AnyFunction,
    space: &Arc<Space>,
    admin: &mut Admin,
    wanted: u16,
) -> Result<Info, Error> {
    function.set_bus_master(true).map_err(Error::access("turning bus mastering on"))?;
    registers.enable(admin.pair.ring.addresses(), ENTRIES)?;
    let page = registers.limits.page;
    // A list of pages is one page of addresses.
    let most = page * page / 8;
    let buffer = Buffer::many(space, page, 1, admin::PAGE)?;
    let buffer = buffer.first().ok_or(Error::Closed)?;
    let mut info = admin.info(registers, buffer, most)?;
    info.queues = admin.set_queues(registers, wanted)?.min(wanted);
    Ok(info)
}

fn stop(registers: &Registers, function: &AnyFunction) {
    if let Err(error) = registers.disable() {
        tracing::warn!(%error, "an NVMe controller that did not start does not stop");
    }
    if let Err(error) = function.set_bus_master(false) {
        tracing::warn!(%error, "an NVMe controller may still reach for memory");
    }
}
