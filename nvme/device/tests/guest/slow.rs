//! Commands that take long: their data is in memory that the client serves by messages, late.

use crate::machine::{Cmd, DATA, Guest, SLOW, file_disk};
use std::collections::BTreeSet;

const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;

/// Controller Status.
const CSTS: u64 = 0x1c;
/// Slow commands at the same time.
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
fn a_slow_command_delays_commands_and_neither_registers_nor_doorbells() {
    let mut guest = ready(2);
    let long = guest.put(1, slow(0));
    guest.ring(1);
    guest.wait("a command that the worker carries out", |guest| guest.counts.totals().writes == 1);
    let flush = guest.put(2, Cmd::new(FLUSH));
    guest.ring(2);
    let deletion = guest.put(0, Cmd::new(0).word(10, 1));
    guest.ring(0);
    assert_eq!((guest.look(0), guest.look(1), guest.look(2)), (None, None, None));
    // The thread of the connection answers, whatever the worker waits for. The client may serve the
    // memory while it waits for the reply.
    let mut status = [0; 4];
    guest.client.region_read(0, CSTS, &mut status).unwrap();
    assert_eq!(u32::from_le_bytes(status), 1, "ready");
    guest.serve_slow_memory();
    // A queue is deleted after its commands.
    for (queue, id) in [(1, long), (2, flush), (0, deletion)] {
        let end = guest.next(queue);
        assert_eq!((end.id, end.status), (id, 0));
    }
    assert_eq!(guest.admin(Cmd::new(4).word(10, 1)).status, 0);
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
}

#[test]
fn many_slow_commands_end_each_once() {
    let mut guest = ready(3);
    let mut open = BTreeSet::new();
    for nth in 0..MANY {
        let queue = (nth % 3 + 1) as u16;
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
fn each_raised_interrupt_is_counted_once() {
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
