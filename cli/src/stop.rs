//! Ends the program in order when a signal asks for it.

use crate::error::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The signals that end this program: the user's, the system's, and a hangup of the terminal.
const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

/// The state of a requested end.
pub struct Stop {
    /// The signal; 0 for none.
    signal: Arc<AtomicUsize>,
    /// Readable after a signal has arrived.
    asked: OwnedFd,
}

impl Stop {
    /// Records the first SIGINT, SIGTERM or SIGHUP from now on, so that sockets and directories are
    /// removed. The second signal ends the program at once.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn prepare() -> Result<Self, Error> {
        let failed = |error| Error::plain(format!("signals cannot be caught: {error}"));
        Self::catch().map_err(failed)
    }

    fn catch() -> io::Result<Self> {
        let asked = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (signal, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let caught = SIGNALS.map(|(number, _)| number).into_iter();
        let caught = caught.filter(|number| *number != SIGHUP || !is_ignored(SIGHUP));
        let caught: Vec<i32> = caught.collect();
        for number in caught.iter().copied() {
            flag::register_conditional_default(number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            flag::register_usize(number, Arc::clone(&signal), value)?;
        }
        let signals = signal_hook::iterator::Signals::new(caught)?;
        let its = asked.try_clone()?;
        let thread = std::thread::Builder::new().name("signals".into());
        // The thread ends with the process.
        drop(thread.spawn(move || wake_at(signals, &its))?);
        Ok(Self { signal, asked })
    }

    /// Returns true if a signal has arrived.
    pub fn is_asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Returns the name of the signal.
    pub fn name(&self) -> &'static str {
        let signal = self.signal.load(Ordering::Relaxed);
        let is_it = |(number, _): &&(i32, &str)| usize::try_from(*number) == Ok(signal);
        SIGNALS.iter().find(is_it).map_or("none", |(_, name)| *name)
    }

    /// Waits for a signal, at most for `time` or forever. Returns true if a signal has arrived.
    pub fn wait(&self, time: Option<std::time::Duration>) -> bool {
        // A time that poll cannot express counts as no limit.
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        while !self.is_asked() {
            match poll(&mut [PollFd::new(&self.asked, PollFlags::IN)], time.as_ref()) {
                Ok(0) => return false,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Without poll, waiting is impossible.
                Err(_) => return true,
            }
        }
        true
    }

    /// Ends the program as the signal would have, if a signal has arrived.
    pub fn obey(&self) {
        if let Ok(signal @ 1..) = i32::try_from(self.signal.load(Ordering::Relaxed)) {
            // If the signal cannot end this process, the process ends by itself.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }
}

/// Returns true if this process was started with a signal ignored, as nohup does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 != 0
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}

fn wake_at(mut signals: signal_hook::iterator::Signals, asked: &OwnedFd) {
    for _ in signals.forever() {
        // A full eventfd is readable already.
        let _ = rustix::io::write(asked, &1_u64.to_ne_bytes());
    }
}
