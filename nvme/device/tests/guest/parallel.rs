//! Commands run beside one another: one that takes long holds up nobody, and whatever waits for it
//! waits for as long as it takes.

use crate::machine::{Cmd, DATA, Guest, SLOW, file_disk};
use std::collections::BTreeSet;

const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;

/// Threads of a controller, and a few.
const MANY: u32 = 12;

/// A guest whose disk is a file, with memory that is slow.
fn ready(queues: u16) -> Guest {
    let mut guest = Guest::with(queues, file_disk(), true);
    guest.enable();
    (1..=queues).for_each(|id| guest.create(id, 32));
    guest.add_slow_memory();
    guest
}

/// A write that takes long.
fn slow(block: u64) -> Cmd {
    Cmd::new(WRITE).prp(SLOW, 0).blocks(block, 8)
}

#[test]
fn a_slow_command_holds_up_neither_its_own_queue_nor_others() {
    let mut guest = ready(3);
    let long = guest.put(1, slow(0));
    guest.ring(1);
    for round in 0..50 {
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0, "its own queue, round {round}");
        let read = Cmd::new(READ).prp(DATA, 0).blocks(8, 1);
        assert_eq!(guest.run(2, read).status, 0, "another queue");
        assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0, "the admin queue");
    }
    assert_eq!(guest.look(1), None);
    guest.serve_slow_memory();
    let end = guest.next(1);
    assert_eq!((end.id, end.status), (long, 0));
}

#[test]
fn blocks_are_read_as_they_were_before_a_write_or_after_it() {
    let mut guest = ready(3);
    // Ones, which the slow command replaces by zeroes.
    guest.write(DATA, &[1; 4096]);
    assert_eq!(guest.run(1, Cmd::new(WRITE).prp(DATA, 0).blocks(0, 8)).status, 0);
    guest.put(1, slow(0));
    guest.ring(1);
    let other = guest.put(2, Cmd::new(READ).prp(DATA, 0).blocks(7, 1));
    guest.ring(2);
    // Others go on, and what overlaps does not.
    for _ in 0..20 {
        assert_eq!(guest.run(3, Cmd::new(READ).prp(DATA + 4096, 0).blocks(8, 8)).status, 0);
        assert_eq!(guest.run(2, Cmd::new(FLUSH)).status, 0);
    }
    assert_eq!((guest.look(1), guest.look(2)), (None, None));
    guest.serve_slow_memory();
    assert_eq!(guest.next(2).id, other);
    assert_eq!(guest.next(1).status, 0);
    assert_eq!(guest.read(DATA, 512), [0; 512]);
}

#[test]
fn a_queue_is_deleted_when_its_commands_have_ended() {
    let mut guest = ready(3);
    let long = guest.put(1, slow(0));
    guest.ring(1);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    // What was fetched is not aborted.
    let abort = guest.admin(Cmd::new(8).word(10, 1 | u32::from(long) << 16));
    assert_eq!((abort.status, abort.result), (0, 1));
    let deletion = guest.put(0, Cmd::new(0).word(10, 1));
    guest.ring(0);
    // Commands behind it go on, and find the queue there and not there: it is about to go.
    assert_eq!(guest.admin(Cmd::new(4).word(10, 1)).status, 0x10c, "completions still come");
    assert_eq!(guest.admin(Cmd::new(0).word(10, 1)).status, 0x101, "it is being deleted");
    let again = Cmd::new(1).prp(DATA, 0).word(10, 1 | 7 << 16).word(11, 1 | 1 << 16);
    assert_eq!(guest.admin(again).status, 0x101, "its number is taken");
    guest.put(1, Cmd::new(FLUSH));
    guest.ring(1);
    assert_eq!(guest.run(2, Cmd::new(FLUSH)).status, 0);
    assert_eq!((guest.look(0), guest.look(1)), (None, None));
    guest.serve_slow_memory();
    let deleted = guest.next(0);
    assert_eq!((deleted.id, deleted.status), (deletion, 0));
    // Its command was first. The one behind was never fetched.
    assert_eq!(guest.next(1).id, long);
    assert_eq!(guest.look(1), None);
    assert_eq!(guest.admin(Cmd::new(4).word(10, 1)).status, 0);
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
}

#[test]
fn more_slow_commands_than_threads_end_each_once() {
    let mut guest = ready(3);
    let mut open = BTreeSet::new();
    for nth in 0..MANY {
        let queue = (nth % 3 + 1) as u16;
        // Blocks of their own, but for some that overlap.
        open.insert((queue, guest.put(queue, slow(u64::from(nth / 2) * 8))));
        guest.ring(queue);
    }
    guest.serve_slow_memory();
    while !open.is_empty() {
        for queue in 1..=3 {
            let left = open.iter().filter(|(of, _)| *of == queue).count();
            (left > 0).then(|| assert!(open.remove(&(queue, guest.next(queue).id))));
        }
    }
    assert_eq!((1..=3).filter_map(|queue| guest.look(queue)).count(), 0);
}

#[test]
fn disabling_and_resetting_wait_for_what_is_under_way() {
    let mut guest = ready(2);
    for round in 0..20_u64 {
        for nth in 0..6 {
            guest.put(1, slow(nth * 8));
        }
        guest.ring(1);
        // All of these have messages answered while they wait for their own.
        match round % 3 {
            0 => guest.client.reset().unwrap(),
            1 => guest.disable(),
            _ => {
                // Without waiting for the end.
                guest.set(crate::machine::CC, 0);
            }
        }
        guest.client.region_write(7, 4, &6_u16.to_le_bytes()).unwrap();
        guest.enable();
        guest.create(1, 32);
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    }
    // And the client leaves while commands are under way.
    guest.put(1, slow(0));
    guest.ring(1);
}

#[test]
fn interrupts_are_as_many_as_were_raised_whoever_raises_them() {
    let mut guest = ready(4);
    let mut seen = [0; 5];
    let mut open = [0_u32; 5];
    for round in 0..2000_u64 {
        let queue = (round % 4 + 1) as u16;
        let place = usize::from(queue);
        let cmd = Cmd::new(if round % 3 == 0 { WRITE } else { READ }).prp(DATA, 0);
        guest.put(queue, cmd.blocks(round % 8, 1 + (round % 8) as u32));
        open[place] += 1;
        guest.ring(queue);
        while open[place] > 20 || open[place] > 0 && round >= 1996 {
            guest.wait("completion", |guest| match guest.look(queue) {
                Some(end) => end.status == 0,
                None => false,
            });
            guest.acknowledge(queue);
            open[place] -= 1;
        }
        seen[place] += guest.signals(queue.into());
    }
    assert_eq!(open, [0; 5]);
    // Each queue had one, and none was lost or made up.
    guest.wait("count", |guest| {
        (1..=4).for_each(|queue: u16| seen[usize::from(queue)] += guest.signals(queue.into()));
        let raised = guest.counts.totals().vectors;
        assert!(seen.iter().skip(1).zip(&raised[1..]).all(|(seen, raised)| seen <= &(raised + 1)));
        seen[1..] == raised[1..] && seen[1..].iter().all(|count| (1..=500).contains(count))
    });
}
