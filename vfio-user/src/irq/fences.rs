//! An asymmetric fence: cheap for the frequent side, expensive for the rare side.
//!
//! The frequent side is a raise. It uses a compiler fence only. The rare side is a request that
//! changes a cell. It calls `membarrier(2)`, by which the kernel fences every running thread of the
//! process. A thread that is not running passed a fence when the scheduler stopped it.
//!
//! If the kernel refuses `membarrier(2)`, both sides use a full fence.

use rustix::thread::{MembarrierCommand, membarrier};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};
use std::time::Duration;

/// Both sides use a full fence.
const OURS: u8 = 0;
/// The kernel fences the frequent side (`membarrier(2)`).
const KERNEL: u8 = 1;
/// The kernel has just refused `membarrier(2)`. The frequent side starts to use full fences, but a
/// raise in progress may have read `KERNEL`.
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

    /// Fences the rare side. `barrier` calls `membarrier(2)` and returns true if the kernel obeyed.
    fn heavy(&self, barrier: impl Fn() -> bool) {
        match self.0.load(Ordering::SeqCst) {
            OURS => {}
            KERNEL if barrier() => {}
            _ => self.leave(),
        }
        fence(Ordering::SeqCst);
    }

    /// Switches to full fences, because a seccomp filter that was installed later forbids
    /// `membarrier(2)`. A raise that read `KERNEL` may still be in progress without a fence. After
    /// 20 ms its stores are visible: no processor keeps a store in its buffer for that long. A
    /// thread that was preempted has passed a fence. Callers that arrive in the meantime wait as
    /// well.
    #[cold]
    fn leave(&self) {
        self.0.store(LEAVING, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.0.store(OURS, Ordering::SeqCst);
    }
}

/// Registers the process for `membarrier(2)`. Call this before the first raise.
pub(crate) fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
            FENCES.0.store(KERNEL, Ordering::SeqCst);
        }
    });
}

/// Fences the frequent side: between the store of the hazard pointer and the load of the cell.
#[inline]
pub(crate) fn light() {
    FENCES.light();
}

/// Fences the rare side: between the store to the cell and the load of the hazard pointers.
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
