//! Compares the interrupts that the server raised with those that the guest saw.

use std::ops::RangeInclusive;

use super::boot::{Boot, Seen};
use super::server::Signals;
use super::{CPUS, READS};

/// The least number of nvme-cli's commands between two marks; each uses the admin queue.
const ADMIN: u64 = 30;

/// Checks that there are as many queues as processors, each with a vector, and that both sides
/// count alike. Returns the differences.
pub fn judge(boot: &Boot) -> Vec<String> {
    let mut failures = Vec::new();
    let shown = |line: &&str| line.contains("nvme0q") || line.contains("CPU0");
    boot.output.lines().filter(shown).for_each(|line| println!("  {line}"));
    let (queues, wanted) = (boot.lines("queues"), format!("{CPUS} of {CPUS}"));
    if queues != [wanted.as_str()] {
        failures.push(format!("the guest has queues for its processors: {queues:?}"));
    }
    if !boot.trace.contains("noresize 0") {
        failures.push("QEMU does not know that vectors can be added at any time".to_owned());
    }
    for id in 0..=CPUS {
        if !boot.trace.contains(&format!("vector {id} used")) {
            failures.push(format!("QEMU did not add vector {id} when the guest began to use it"));
        }
    }
    failures.extend(in_all(&boot.interrupts("interrupts"), &boot.signals));
    failures.extend(one_by_one(boot, 0..=CPUS));
    failures.extend(complaints(&boot.log));
    failures
}

fn of(seen: &[Seen], queue: u32) -> Option<Seen> {
    seen.iter().copied().find(|seen| seen.queue == queue)
}

/// Checks the whole boot: the guest never sees more interrupts than were raised. Under load,
/// signals merge, and the guest uses the admin queue after it has counted; so more may be raised
/// than seen.
fn in_all(seen: &[Seen], raised: &Signals) -> Vec<String> {
    let judge = |queue| {
        let Some(Seen { vector, count, .. }) = of(seen, queue) else {
            return Some(format!("queue {queue} has no interrupt in the guest"));
        };
        let raised = raised.get(&vector).copied().unwrap_or(0);
        println!("  queue {queue}, vector {vector}: raised {raised}, seen {count} in all");
        if vector != queue {
            return Some(format!("queue {queue} has vector {vector}"));
        }
        let wrong = count == 0 || count > raised;
        wrong.then(|| format!("vector {vector}: raised {raised} times, seen {count} times"))
    };
    (0..=CPUS).filter_map(judge).collect()
}

/// Checks two marks. With one command at a time, the guest sees each interrupt before the server
/// raises the next, so both sides count exactly the same.
fn one_by_one(boot: &Boot, queues: RangeInclusive<u32>) -> Vec<String> {
    let marks = ["before", "after"];
    let seen = marks.map(|mark| boot.interrupts(&format!("interrupts-{mark}")));
    let [Some(before), Some(after)] = marks.map(|mark| boot.marks.get(mark)) else {
        return vec![format!("the guest has not come to {marks:?}")];
    };
    let judge = |queue| {
        let [Some(first), Some(last)] = seen.each_ref().map(|seen| of(seen, queue)) else {
            return Some(format!("queue {queue} has no interrupt at {marks:?}"));
        };
        let at = |signals: &Signals| signals.get(&last.vector).copied().unwrap_or(0);
        let raised = at(after).checked_sub(at(before));
        let seen = last.count.checked_sub(first.count);
        let text = |count: Option<u64>| count.map_or("fewer than before".into(), |n| n.to_string());
        let said = format!(
            "queue {queue}, vector {}: raised {}, seen {} with one command at a time",
            last.vector,
            text(raised),
            text(seen)
        );
        println!("  {said}");
        let least = if queue == 0 { ADMIN } else { READS };
        let right = seen.is_some() && raised == seen && seen >= Some(least);
        (!right).then(|| format!("{said}: both must be the same, and at least {least}"))
    };
    queues.filter_map(judge).collect()
}

/// Returns the messages of the guest's driver about a lost interrupt, or a failed or unanswered
/// command.
fn complaints(log: &str) -> Vec<String> {
    const WORDS: [&str; 7] =
        ["timeout", "polled", "abort", "reset", "i/o error", "failed", "not ready"];
    let is_ours = |line: &&str| line.contains("nvme");
    let lines = log.lines().filter(is_ours);
    let complains = |line: &&str| WORDS.iter().any(|word| line.to_lowercase().contains(word));
    lines.filter(complains).map(|line| format!("the guest's kernel complains: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::boot::Boot;
    use super::{complaints, one_by_one};
    use std::collections::BTreeMap;

    fn boot(seen: [u64; 2], raised: [u64; 2]) -> Boot {
        let output =
            format!("interrupts-before 1 1 {}\ninterrupts-after 1 1 {}\n", seen[0], seen[1]);
        let mark = |name: &str, count| (name.to_owned(), BTreeMap::from([(1, count)]));
        let marks = [mark("before", raised[0]), mark("after", raised[1])].into();
        let (trace, log) = (String::new(), String::new());
        Boot { output, signals: BTreeMap::new(), marks, trace, log }
    }

    #[test]
    fn with_one_command_at_a_time_both_sides_count_the_same() {
        let judged = |seen, raised| one_by_one(&boot(seen, raised), 1..=1).len();
        assert_eq!(judged([40, 240], [45, 245]), 0);
        assert_eq!(judged([40, 239], [45, 245]), 1);
        assert_eq!(judged([40, 241], [45, 245]), 1);
        assert_eq!(judged([40, 239], [45, 244]), 1);
        assert_eq!(judged([40, 0], [45, 5]), 1);
        assert_eq!(one_by_one(&boot([0, 200], [0, 200]), 0..=1).len(), 1);
    }

    #[test]
    fn a_lost_interrupt_shows_in_the_log() {
        let log = "[ 1.0] nvme nvme0: 2/0/0 default/read/poll queues\n[ 9.0] nvme nvme0: I/O tag 5 (0005) QID 1 timeout, completion polled\n";
        assert_eq!(complaints(log).len(), 1);
    }
}
