//! With the feature `log`, a VMM that uses the crate `log` receives the events of this crate.

use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Mutex;
use vfio_irq::sim::Simulated;
use vfio_irq::{Index, Info, SetIrqs, Transport, Trigger, Vectors};

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Refuses to disable.
struct Stubborn(Simulated);

impl Transport for Stubborn {
    fn irq_info(&self, index: Index) -> std::io::Result<Info> {
        self.0.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> std::io::Result<u32> {
        if request.count() == 0 {
            return Err(std::io::Error::from_raw_os_error(5));
        }
        self.0.set_irqs(request)
    }
}

#[test]
fn events_are_records_of_log() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let vectors = Vectors::open(Stubborn(Simulated::new()), Index::Msix).unwrap();
    vectors.enable(0, Trigger::new().unwrap()).unwrap().keep();
    drop(vectors);
    let lines = LINES.0.lock().unwrap();
    let expected = "WARN vfio_irq::vectors vectors stay enabled error=cannot disable MSI-X: ";
    assert!(lines.len() == 1 && lines[0].starts_with(expected), "{lines:?}");
}
