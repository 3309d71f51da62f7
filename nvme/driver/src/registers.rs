//! The registers of the controller: its capabilities, enable and shutdown.

use super::Error;
use super::function::AnyFunction;
use std::time::{Duration, Instant};
use vfio_irq_nvme_spec::register::{
    ACQ, AQA, ASQ, CAP, CC, CSTS, DOORBELLS, FATAL, READY, SHUTDOWN_DONE, SHUTDOWN_STATE,
};

const ENABLE: u32 = 1;
/// Entries of 64 and of 16 bytes, as powers of two.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
const SHUTDOWN: u32 = 1 << 14;

/// Pages of the controller that this driver can live with, as powers of two.
const PAGES: std::ops::RangeInclusive<u32> = 12..=16;

/// The limits in CAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Bytes of a page.
    pub(crate) page: u64,
    /// Entries of an I/O queue at most.
    pub(crate) entries: u16,
    /// I/O queues whose doorbells are inside of the BAR.
    pub(crate) queues: u16,
    /// Bytes from one doorbell to the next.
    stride: u64,
    /// The time limit of CSTS.RDY changes.
    patience: Duration,
}

impl Limits {
    fn new(cap: u64, bar: u64) -> Result<Self, Error> {
        let field =
            |at: u32, bits: u32| u32::try_from(cap >> at & ((1 << bits) - 1)).unwrap_or(u32::MAX);
        let unfit = |why: String| Err(Error::Unfit(why));
        let (least, most) = (12 + field(48, 4), 12 + field(52, 4));
        if least > most || !PAGES.contains(&least) {
            return unfit(format!(
                "its pages are of 2^{least} to 2^{most} bytes, and 4 to 64 KiB would be needed"
            ));
        }
        if field(37, 1) == 0 {
            return unfit("it does not say that it has the NVM command set".into());
        }
        let entries = u16::try_from(field(0, 16).saturating_add(1)).unwrap_or(u16::MAX);
        if entries < 2 {
            return unfit("its queues have one entry, and two are the least (CAP.MQES)".into());
        }
        let stride = 4_u64 << field(32, 4);
        // Two doorbells for each queue, the first two for the admin queue.
        let pairs = bar.saturating_sub(DOORBELLS) / stride / 2;
        let queues = u16::try_from(pairs.saturating_sub(1)).unwrap_or(u16::MAX);
        if queues == 0 {
            return unfit(format!(
                "with doorbells {stride} bytes apart, those of an I/O queue are beyond its BAR of {bar} bytes"
            ));
        }
        // In units of 500 ms; some controllers say 0.
        let patience = Duration::from_millis(500) * field(24, 8).max(1);
        Ok(Self { page: 1 << least, entries, queues, stride, patience })
    }

    /// Returns the offsets of the two doorbells of a queue.
    pub(crate) fn bells(&self, queue: u16) -> (u64, u64) {
        let tail = DOORBELLS + 2 * u64::from(queue) * self.stride;
        (tail, tail + self.stride)
    }
}

pub(crate) struct Registers {
    function: AnyFunction,
    pub(crate) limits: Limits,
}

impl Registers {
    /// Reads the capabilities.
    pub(crate) fn open(function: AnyFunction) -> Result<Self, Error> {
        let bar = function.size();
        if bar < DOORBELLS + 8 {
            return Err(Error::Unfit(format!("its BAR 0 of {bar} bytes has no doorbells")));
        }
        let cap = function.read64(CAP).map_err(Error::access("reading CAP"))?;
        if cap == u64::MAX {
            return Err(Error::Gone);
        }
        let limits = Limits::new(cap, bar)?;
        Ok(Self { function, limits })
    }

    fn status(&self) -> Result<u32, Error> {
        match self.function.read32(CSTS).map_err(Error::access("reading CSTS"))? {
            u32::MAX => Err(Error::Gone),
            status => Ok(status),
        }
    }

    fn configure(&self, value: u32) -> Result<(), Error> {
        self.function.write32(CC, value).map_err(Error::access("writing CC"))
    }

    /// Returns an error if the controller is gone or has failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.status()? & FATAL != 0 { Err(Error::Fatal) } else { Ok(()) }
    }

    fn wait(
        &self,
        wanted: &'static str,
        patience: Duration,
        holds: impl Fn(u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let since = Instant::now();
        while !holds(self.status()?)? {
            if since.elapsed() > patience {
                return Err(Error::NotReady { wanted, waited: patience });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Resets the controller, which deletes all queues.
    pub(crate) fn disable(&self) -> Result<(), Error> {
        self.configure(0)?;
        // A controller that failed stops, too: its fatal bit goes with the ready bit.
        self.wait("disabled", self.limits.patience, |status| Ok(status & READY == 0))
    }

    /// Enables the controller with its admin queue.
    pub(crate) fn enable(&self, queue: (u64, u64), entries: u16) -> Result<(), Error> {
        let failed = Error::access("writing where the admin queue is");
        let last = u32::from(entries.saturating_sub(1));
        self.function.write32(AQA, last << 16 | last).map_err(&failed)?;
        self.function.write64(ASQ, queue.0).map_err(&failed)?;
        self.function.write64(ACQ, queue.1).map_err(&failed)?;
        let page = self.limits.page.trailing_zeros().saturating_sub(12);
        self.configure(ENABLE | ENTRY_SIZES | page << 7)?;
        self.wait("ready", self.limits.patience, |status| match status {
            status if status & FATAL != 0 => Err(Error::Fatal),
            status => Ok(status & READY != 0),
        })
    }

    /// Shuts the controller down, which makes all writes durable.
    pub(crate) fn shut_down(&self, patience: Duration) -> Result<(), Error> {
        let page = self.limits.page.trailing_zeros().saturating_sub(12);
        let done = self.check().and_then(|()| {
            self.configure(ENABLE | ENTRY_SIZES | page << 7 | SHUTDOWN)?;
            self.wait("shut down", patience.max(self.limits.patience), |status| {
                Ok(status & SHUTDOWN_STATE == SHUTDOWN_DONE)
            })
        });
        let stopped = self.disable();
        done.and(stopped)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Duration, Limits};

    /// As the emulated controller's.
    const USUAL: u64 = 1023 | 1 << 16 | 20 << 24 | 1 << 37 | 4 << 52;

    #[test]
    fn what_a_usual_controller_says() {
        let limits = Limits::new(USUAL, 0x1_0000).unwrap();
        assert_eq!((limits.page, limits.entries, limits.stride), (4096, 1024, 4));
        assert_eq!(limits.patience, Duration::from_secs(10));
        assert_eq!(limits.bells(1), (0x1008, 0x100c));
        assert_eq!(limits.queues, u16::try_from((0x1_0000 - 0x1000) / 8 - 1).unwrap());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            (USUAL | 5 << 48, "pages"),
            (USUAL | 15 << 48 | 15 << 52, "pages"),
            (USUAL & !(1 << 37), "NVM command set"),
            (USUAL & !0xffff, "MQES"),
            (USUAL | 15 << 32, "beyond its BAR"),
        ];
        for (cap, named) in cases {
            let error = Limits::new(cap, 0x1_0000).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn every_entry_of_the_longest_queue_has_a_number() {
        assert_eq!(Limits::new(USUAL | 0xffff, 0x1_0000).unwrap().entries, u16::MAX);
    }
}
