//! Judges a run of the demo.

use std::collections::BTreeSet;

use crate::lab::guest::{Core, DRIVER, Outcome};
use crate::log;

/// A section of the demo: the observation, and its verdict.
pub struct Section {
    /// The subject.
    pub title: &'static str,
    /// The observation.
    pub shown: String,
    /// Why it is right, or the failure.
    pub verdict: Result<String, String>,
}

/// Judges a run. Returns its sections in reading order.
pub fn sections(outcome: &Outcome, core: Core) -> Vec<Section> {
    let part = |name: &str| part(&outcome.output, name);
    let (trace, interrupts, counters) = (part("trace"), part("interrupts"), part("counters"));
    let used = vectors_used(&trace);
    let (suspicious, expected) = log::judge(&outcome.log);
    let log_shown = if suspicious.is_empty() { expected.join("\n") } else { suspicious.join("\n") };
    vec![
        Section { title: "the host", verdict: host(&part("host"), core), shown: part("host") },
        disk(&part),
        Section { title: "QEMU's trace of MSI-X", verdict: qemu(&trace, &used), shown: trace },
        Section {
            title: "the host's /proc/interrupts while the guest ran",
            verdict: host_interrupts(&interrupts, &used),
            shown: interrupts,
        },
        Section {
            title: "the core's counters (debugfs)",
            verdict: counted(&counters, core),
            shown: counters,
        },
        Section {
            title: "six working vectors, and a request for all of them whose fifth descriptor is bad",
            verdict: refused(&part("refused"), core),
            shown: part("refused"),
        },
        Section {
            title: "the host's kernel log",
            verdict: if suspicious.is_empty() {
                Ok("no warning, no bug, no oops; what is above is expected of a module from outside the kernel's tree".to_owned())
            } else {
                Err(format!("{} lines that must not be there", suspicious.len()))
            },
            shown: log_shown,
        },
    ]
}

/// Returns the guest's report, with its console if it failed.
fn disk(part: &dyn Fn(&str) -> String) -> Section {
    let verdict = guest(&part("second"), &part("second report"));
    let mut shown = part("second");
    if verdict.is_err() {
        shown.push_str(&part("second console"));
    }
    Section { title: "the guest's disk (written, caches dropped, read back)", shown, verdict }
}

/// Returns the text between `@@ name` and the next such line.
fn part(output: &str, name: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in output.lines() {
        match line.strip_prefix("@@ ") {
            Some(title) => inside = title == name,
            None if inside => {
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    text
}

fn host(text: &str, core: Core) -> Result<String, String> {
    if !text.contains(&format!("is bound to {DRIVER}\n")) {
        return Err(format!("the NVMe controller is not bound to {DRIVER}"));
    }
    let is_rust = text.contains("vfio-pci-core: vfio-irq");
    if is_rust != (core == Core::Rust) {
        return Err(format!("the vfio-pci-core that is loaded is not the one in {core}"));
    }
    Ok(format!("the NVMe controller belongs to {DRIVER}, on the core in {core}"))
}

fn guest(text: &str, report: &str) -> Result<String, String> {
    let sums = |word: &str| {
        text.lines().filter_map(|l| l.strip_prefix(word)).map(str::trim).collect::<Vec<_>>()
    };
    let (written, read) = (sums("wrote "), sums("read "));
    if written.is_empty() || written != read || !text.lines().any(|line| line == "ready") {
        return Err("the guest did not read back what it wrote".to_owned());
    }
    if !report.trim_end().ends_with("exit 0") {
        return Err(format!("the guest did not end as it should: {}", report.trim()));
    }
    Ok("what the guest read is what it wrote, on both of its queues".to_owned())
}

/// Returns the vectors in the order in which the guest began to use them.
fn vectors_used(trace: &str) -> Vec<u32> {
    let mut used = Vec::new();
    for line in trace.lines().filter(|line| line.contains("vfio_msix_vector_do_use")) {
        let number = line
            .rsplit("vector ")
            .next()
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        used.extend(number.filter(|number| !used.contains(number)));
    }
    used
}

fn qemu(trace: &str, used: &[u32]) -> Result<String, String> {
    if !trace.contains("noresize 0") {
        return Err(
            "QEMU was told that the number of vectors cannot change (no \"noresize 0\")".to_owned()
        );
    }
    if used.len() < 2 {
        return Err(format!(
            "the guest used {} vectors, and its driver needs two at least",
            used.len()
        ));
    }
    Ok(format!(
        "QEMU knows that vectors can be added at any time; the guest began to use {used:?}, one by one"
    ))
}

fn host_interrupts(text: &str, used: &[u32]) -> Result<String, String> {
    let number = |line: &str| -> Option<u32> {
        line.split_once("vfio-msix[")?.1.split_once(']')?.0.parse().ok()
    };
    let there: BTreeSet<u32> = text.lines().filter_map(number).collect();
    let fired = text.lines().filter(|line| number(line).is_some()).all(|line| {
        let mut counts = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
        counts.any(|count| count > 0)
    });
    let wanted: BTreeSet<u32> = used.iter().copied().collect();
    if there != wanted {
        return Err(format!(
            "the host has interrupts for vectors {there:?}, and the guest uses {wanted:?}"
        ));
    }
    if there.is_empty() || !fired {
        return Err("a vector in use never fired".to_owned());
    }
    Ok(format!(
        "{} interrupts allocated, exactly the vectors in use of the device's 65",
        there.len()
    ))
}

fn counted(text: &str, core: Core) -> Result<String, String> {
    match (core, text.trim().is_empty()) {
        (Core::C, true) => Ok("the core in C counts nothing".to_owned()),
        (Core::Rust, true) => Err("there is nothing in /sys/kernel/debug/vfio".to_owned()),
        (_, false) => Ok("each vector's own".to_owned()),
    }
}

/// Checks the vectors after a refused request: the core in C disables those before the bad one, the
/// core in Rust changes nothing.
fn refused(text: &str, core: Core) -> Result<String, String> {
    let alive = |vectors: u32| text.contains(&format!("errno=EBADF alive={vectors} of=6"));
    match core {
        Core::C if alive(1) => Ok("the core in C has disabled five working vectors".to_owned()),
        Core::Rust if alive(6) => Ok("the refused request has changed nothing".to_owned()),
        _ => Err(format!("this is not what the core in {core} does")),
    }
}

#[cfg(test)]
mod tests {
    use super::{host_interrupts, part, vectors_used};

    #[test]
    fn parts_end_where_the_next_begins() {
        let text = "x\n@@ second\na\n@@ second console\nb\n";
        assert_eq!(part(text, "second"), "a\n");
        assert_eq!(part(text, "second console"), "b\n");
    }

    #[test]
    fn vectors_are_listed_once_in_order() {
        let trace = "vfio_msix_vector_do_use  (0000:00:04.0) vector 1 used\nvfio_msix_vector_do_use  (x) vector 0 used\n\
                     vfio_msix_vector_do_use  (x) vector 1 used\n";
        assert_eq!(vectors_used(trace), [1, 0]);
    }

    #[test]
    fn an_unexpected_interrupt_is_an_error() {
        let text = " 30:  5  0  IR-PCI-MSIX  vfio-msix[0](x)\n 31: 0 7 IR vfio-msix[1](x)\n";
        assert!(host_interrupts(text, &[0, 1]).is_ok());
        assert!(host_interrupts(text, &[0]).is_err());
        assert!(host_interrupts(text, &[0, 1, 2]).is_err());
    }
}
