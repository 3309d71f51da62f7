//! Counts the kernel functions that a request calls, with the kernel's own tracing.

use crate::Error;
use fs_err as fs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The counted functions, each with its number of calls.
pub type Calls = BTreeMap<&'static str, usize>;

const TRACING: &str = "/sys/kernel/tracing";

/// The exported functions that a driver calls to have interrupts.
const COUNTED: [&str; 12] = [
    "request_threaded_irq",
    "free_irq",
    "enable_irq",
    "disable_irq",
    "synchronize_irq",
    "pci_alloc_irq_vectors",
    "pci_free_irq_vectors",
    "pci_msix_alloc_irq_at",
    "pci_msix_free_irq",
    "pci_write_msi_msg",
    "eventfd_ctx_fdget",
    "eventfd_signal_mask",
];

/// A trace instance that counts the calls of this thread, and is removed when dropped.
#[derive(Debug)]
pub(super) struct Trace(PathBuf);

impl Trace {
    /// Creates an instance. Returns `None` if the kernel has no function tracing or tracefs is not
    /// mounted.
    pub(super) fn new() -> Result<Option<Self>, Error> {
        let there = fs::read_to_string(Path::new(TRACING).join("available_tracers"));
        if !there.is_ok_and(|tracers| tracers.split_whitespace().any(|one| one == "function")) {
            return Ok(None);
        }
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let dir = Path::new(TRACING).join("instances").join(format!("vfio-irq-{thread}"));
        fs::create_dir(&dir)?;
        let trace = Self(dir);
        trace.write("tracing_on", "0")?;
        trace.write("set_ftrace_pid", &thread)?;
        trace.write("set_ftrace_filter", &COUNTED.join(" "))?;
        trace.write("current_tracer", "function")?;
        Ok(Some(trace))
    }

    /// Counts the calls while `run` runs. Returns its value and the counts.
    pub(super) fn count<T>(&self, run: impl FnOnce() -> T) -> Result<(T, Calls), Error> {
        self.write("trace", "")?;
        self.write("tracing_on", "1")?;
        let ran = run();
        self.write("tracing_on", "0")?;
        Ok((ran, calls(&fs::read_to_string(self.0.join("trace"))?)))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        Ok(fs::write(self.0.join(file), text)?)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // An instance that is left behind costs only a directory name.
        let _ = self.write("current_tracer", "nop");
        let _ = fs::remove_dir(&self.0);
    }
}

/// Parses the lines `task-12 [000] ..... 1.234567: function <-caller`. Returns the counts.
fn calls(trace: &str) -> Calls {
    let mut calls = Calls::new();
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        let called = line.split_once(" <-").and_then(|(before, _)| before.rsplit(' ').next());
        if let Some(name) = COUNTED.iter().find(|name| called == Some(**name)) {
            *calls.entry(name).or_default() += 1;
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn calls_are_counted_by_name() {
        let trace = "\
# tracer: function
    vfio-irq-conf-61      [000] .....    12.345678: eventfd_ctx_fdget <-set_irqs
    vfio-irq-conf-61      [000] .....    12.345679: free_irq <-vfio_msi_set_vector_signal
    vfio-irq-conf-61      [000] .....    12.345680: free_irq <-vfio_msi_set_vector_signal
    vfio-irq-conf-61      [000] .....    12.345681: something_else <-free_irq
";
        let counted: Vec<_> = calls(trace).into_iter().collect();
        assert_eq!(counted, [("eventfd_ctx_fdget", 1), ("free_irq", 2)]);
    }
}
