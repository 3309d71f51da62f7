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

/// Returns the lines that are faults, and the taints that are expected.
pub fn judge(log: &str) -> (Vec<String>, Vec<String>) {
    let lines_with = |words: &[&str]| -> Vec<String> {
        let has = |line: &&str| {
            words.iter().any(|word| line.to_lowercase().contains(&word.to_lowercase()))
        };
        log.lines().filter(has).map(str::to_owned).collect()
    };
    (lines_with(ALARMS), lines_with(EXPECTED))
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
}
