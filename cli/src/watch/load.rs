//! `sim`: a device that this process emulates, with its user and a load.

use crate::counts::Counts;
use crate::error::Error;
use crate::serve;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vfio_irq::{Index, Trigger, Vector, Vectors};
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Client, ClientOptions, Device, Errno, Interrupts, Options, Server};

const VECTORS: u32 = 16;
/// The number of vectors that the load uses.
const USED: u32 = 8;
/// The interval in which the load checks what is due.
const TURN: Duration = Duration::from_millis(5);

/// A device that only raises interrupts.
struct Mute;

impl Device for Mute {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(0);
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// The working device, until this value is dropped.
pub struct Load {
    interrupts: Interrupts,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _server: Server,
}

impl Load {
    /// Starts the device.
    ///
    /// # Errors
    ///
    /// If the system has no socket or thread for it.
    pub fn start() -> Result<Self, Error> {
        let said =
            |error: std::io::Error| Error::plain(format!("a device cannot be made up: {error}"));
        let folder = tempfile::tempdir().map_err(said)?;
        let path = folder.path().join("sim");
        let server = Server::start(Options::default())?;
        let function = Function::builder(0x1234, 0x0001).bar(0, Bar::memory32(0x2000));
        let function = function.msix(VECTORS, 0, 0, 0x1000).build()?;
        let mut interrupts = None;
        server.add(&path, function, |bus: Bus| {
            interrupts = Some(bus.interrupts);
            Mute
        })?;
        let interrupts = interrupts.ok_or_else(|| Error::plain("the device was not made"))?;
        let client = Client::connect(&path, ClientOptions::default())?;
        // No other client is to connect, and the end of this program must leave no file.
        folder.close().map_err(said)?;
        let vectors = Vectors::open(client, Index::Msix)?;
        let triggers: Result<Vec<Trigger>, _> = (0..USED).map(|_| Trigger::new()).collect();
        let triggers = triggers?;
        let held = vectors.enable_many((0..USED).zip(&triggers))?;
        let over = Arc::new(AtomicBool::new(false));
        let (its, its_over) = (interrupts.clone(), Arc::clone(&over));
        let thread = std::thread::Builder::new().name("load".into());
        let work = move || {
            // The vectors are disabled when this value is dropped.
            let _vectors = vectors;
            if let Err(error) = work(&its, &triggers, &held, &its_over) {
                tracing::warn!(%error, "the load has ended");
            }
        };
        let thread = Some(thread.spawn(work).map_err(said)?);
        Ok(Self { interrupts, over, thread, _server: server })
    }

    /// Returns the counts of the device.
    pub fn counts(&self) -> Counts {
        Counts {
            device: "sim".to_owned(),
            driver: "vfio-irq watch".to_owned(),
            ..serve::counts::of(&self.interrupts, VECTORS)
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Raises vector n every n + 1 turns, masks a vector for a while, and re-targets a vector now and
/// then.
fn work(
    interrupts: &Interrupts,
    triggers: &[Trigger],
    held: &[Vector<Client>],
    over: &AtomicBool,
) -> Result<(), vfio_irq::Error> {
    for turn in 0_u32.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        for number in (0..USED).filter(|number| turn % (number + 1) == 0) {
            interrupts.raise(number);
        }
        triggers.iter().for_each(|trigger| _ = trigger.take());
        match (turn % 400, held.get(3), held.get(5)) {
            (100, Some(masked), _) => masked.mask()?,
            (200, Some(masked), _) => masked.unmask()?,
            (50 | 150 | 250 | 350, _, Some(moved)) => moved.retarget(Trigger::new()?)?,
            _ => {}
        }
        std::thread::sleep(TURN);
    }
    Ok(())
}
