//! Searches a kernel's log for messages of faults.

/// Words of the kernel's messages about faults.
const ALARMS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops:",
    "Call Trace:",
    "general protection fault",
    "possible circular locking",
    "possible recursive locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "Kernel panic -",
    "rcu_preempt detected stalls",
    "soft lockup",
    "hung_task:",
    "blocked for more than",
    "DMAR: [",
    "refcount_t:",
    "suspected memory leaks",
    "unable to handle",
    "nobody cared",
    "ODEBUG:",
    "non-static key",
    "held lock freed",
    "turning off the locking correctness validator",
];

/// Messages about every module that is not part of the kernel's build.
const EXPECTED: &[&str] =
    &["loading out-of-tree module taints kernel", "module verification failed"];

/// KCSAN begins a report with this, and ends it with [`RACE_ENDS`].
const RACE: &str = "BUG: KCSAN:";
const RACE_ENDS: &str = "Reported by Kernel Concurrency Sanitizer";

/// Returns the lines that are faults, and the taints that are expected.
///
/// Linux has data races of its own, in all its parts. Of KCSAN's reports, those count in which VFIO
/// occurs, with all their lines.
pub fn judge(log: &str) -> (Vec<String>, Vec<String>) {
    let has = |line: &str, words: &[&str]| {
        words.iter().any(|word| line.to_lowercase().contains(&word.to_lowercase()))
    };
    let expected = log.lines().filter(|line| has(line, EXPECTED)).map(str::to_owned).collect();
    let (mut alarms, mut lines) = (Vec::new(), log.lines());
    while let Some(line) = lines.next() {
        if line.contains(RACE) {
            let rest = lines.by_ref().take_while(|line| !line.contains(RACE_ENDS));
            let report: Vec<&str> = std::iter::once(line).chain(rest).collect();
            if report.iter().any(|line| line.contains("vfio")) {
                alarms.extend(report.into_iter().map(str::to_owned));
            }
        } else if has(line, ALARMS) {
            alarms.push(line.to_owned());
        }
    }
    (alarms, expected)
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn taints_are_expected_and_warnings_are_not() {
        let log = "[1] vfio_pci_core: loading out-of-tree module taints kernel.\n[2] WARNING: CPU: 0 PID: 1 at x.c:1\n[3] fine\n";
        let (alarms, expected) = judge(log);
        assert_eq!(alarms.len(), 1);
        assert_eq!(expected.len(), 1);
    }

    #[test]
    fn of_data_races_those_in_vfio_count() {
        let report = |frame: &str| {
            format!(
                "[1] BUG: KCSAN: data-race in a / b\n[1]  {frame}+0x1/0x2\n[1] Reported by Kernel Concurrency Sanitizer on:\n[1] CPU: 0\n"
            )
        };
        let log =
            report("tick_sched_do_timer") + &report("vfio_pci_set_irqs_ioctl") + "[2] WARNING: x\n";
        let (alarms, _) = judge(&log);
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        assert!(alarms[1].contains("vfio_pci_set_irqs_ioctl"));
    }
}
