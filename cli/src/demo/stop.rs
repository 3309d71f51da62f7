//! Ending early, in good order.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether somebody wants the program to end.
pub struct Stop {
    /// The signal; 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// From now on SIGINT and SIGTERM are noted first, so that sockets and folders are not left behind
    /// and a controller is shut down. The second one ends the program at once.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn prepare() -> io::Result<Self> {
        let (signal, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for number in [SIGINT, SIGTERM] {
            flag::register_conditional_default(number, Arc::clone(&asked))?;
            flag::register(number, Arc::clone(&asked))?;
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            flag::register_usize(number, Arc::clone(&signal), value)?;
        }
        Ok(Self { signal })
    }

    /// Whether a signal came.
    pub fn is_asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Ends the program as the signal would have, if one came.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn obey(&self) -> io::Result<()> {
        match i32::try_from(self.signal.load(Ordering::Relaxed)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(signal) => signal_hook::low_level::emulate_default_handler(signal),
        }
    }
}
