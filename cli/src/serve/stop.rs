//! Ending in good order.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The signals that end this program, from now on waited for.
pub struct Stop(Signals);

impl Stop {
    /// Keeps SIGINT and SIGTERM from ending this process at once. The second one does, in case the
    /// end takes too long.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn prepare() -> std::io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked))?;
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Signals::new([SIGINT, SIGTERM]).map(Self)
    }

    /// Waits for one; its name.
    pub fn wait(&mut self) -> &'static str {
        match self.0.forever().next() {
            Some(SIGINT) => "SIGINT",
            _ => "SIGTERM",
        }
    }
}
