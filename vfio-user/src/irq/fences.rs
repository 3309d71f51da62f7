//! A fence of two sides of which one is frequent and the other rare.
//!
//! The frequent side, a raise, only keeps the compiler from reordering; the rare one has the kernel
//! fence for every thread of the process that is running (`membarrier(2)`; whoever is not running passed
//! a fence when it stopped). Where the kernel does not, both sides fence for themselves.

use rustix::thread::{MembarrierCommand, membarrier};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};
use std::time::Duration;

/// Both sides fence.
const OURS: u8 = 0;
/// The kernel does it for the frequent side.
const KERNEL: u8 = 1;
/// The kernel did until just now: the frequent side has begun to fence, but may not have everywhere.
const LEAVING: u8 = 2;

struct Fences(AtomicU8);

static FENCES: Fences = Fences(AtomicU8::new(OURS));

impl Fences {
    #[inline]
    fn light(&self) {
        if self.0.load(Ordering::Relaxed) == KERNEL {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// `barrier` asks the kernel, and says whether it did it.
    fn heavy(&self, barrier: impl Fn() -> bool) {
        match self.0.load(Ordering::SeqCst) {
            OURS => {}
            KERNEL if barrier() => {}
            _ => self.leave(),
        }
        fence(Ordering::SeqCst);
    }

    /// A filter of system calls that came later forbids the barrier. From now on the frequent side
    /// fences for itself; what it began without is over, or at least visible, after a while: no store
    /// stays in a processor's buffer for so long, and a thread that is stopped has passed a fence.
    /// Everybody who comes meanwhile waits for that as well.
    #[cold]
    fn leave(&self) {
        self.0.store(LEAVING, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.0.store(OURS, Ordering::SeqCst);
    }
}

/// To be called before there is anything to raise.
pub(crate) fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
            FENCES.0.store(KERNEL, Ordering::SeqCst);
        }
    });
}

/// The frequent side.
#[inline]
pub(crate) fn light() {
    FENCES.light();
}

/// The rare side.
pub(crate) fn heavy() {
    FENCES.heavy(|| membarrier(MembarrierCommand::PrivateExpedited).is_ok());
}

#[cfg(test)]
mod tests {
    use super::{Fences, KERNEL, LEAVING, OURS};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    #[test]
    fn the_kernel_is_asked_until_it_refuses() {
        let fences = Fences(AtomicU8::new(KERNEL));
        let asked = Cell::new(0);
        let ask = |answer| {
            asked.set(asked.get() + 1);
            answer
        };
        fences.heavy(|| ask(true));
        assert_eq!((asked.get(), fences.0.load(Ordering::Relaxed)), (1, KERNEL));
        fences.heavy(|| ask(false));
        assert_eq!((asked.get(), fences.0.load(Ordering::Relaxed)), (2, OURS));
        fences.heavy(|| ask(true));
        assert_eq!(asked.get(), 2, "it refused, and is not asked again");
    }

    #[test]
    fn who_comes_while_others_leave_waits_as_well() {
        let fences = Fences(AtomicU8::new(LEAVING));
        fences.heavy(|| unreachable!("the kernel refused already"));
        assert_eq!(fences.0.load(Ordering::Relaxed), OURS);
    }
}
