//! As many queues as there can be, each with its own vector, coming and going beside others at work.

use crate::machine::{Cmd, DATA, Guest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const READ: u8 = 2;
const QUEUES: u16 = 1024;
/// Of these, those that are under load: every so many.
const LOADED: u16 = 64;

/// The next of a sequence that looks like chance.
fn chance(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize % below
}

/// A queue under load: what was put into it, and what was told.
#[derive(Default)]
struct Load {
    open: u32,
    done: u64,
    signals: u64,
}

impl Load {
    /// Keeps the queue filled, and takes what is there.
    fn turn(&mut self, guest: &mut Guest, id: u16) {
        while self.open < 7 {
            guest.put(id, Cmd::new(READ).prp(DATA + 0x1000, 0).blocks(u64::from(id), 1));
            self.open += 1;
        }
        guest.ring(id);
        self.take(guest, id);
    }

    fn take(&mut self, guest: &mut Guest, id: u16) {
        while let Some(end) = guest.look(id) {
            assert_eq!(end.status, 0);
            self.open -= 1;
            self.done += 1;
        }
        guest.acknowledge(id);
        self.signals += guest.signals(id.into());
    }
}

/// Some of those under load have their turn.
fn next_turns(loads: &mut [(u16, Load)], guest: &mut Guest) {
    loads.rotate_left(4);
    loads.iter_mut().take(4).for_each(|(id, load)| load.turn(guest, *id));
}

/// A command of a queue that is otherwise idle: one interrupt.
fn once(guest: &mut Guest, id: u16) {
    let read = Cmd::new(READ).prp(DATA, 0).blocks(u64::from(id), 1);
    assert_eq!(guest.run(id, read).status, 0, "queue {id}");
    guest.interrupted(id);
}

#[test]
fn a_thousand_queues_come_and_go_while_others_work() {
    // An eventfd for each, on both sides.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut guest = Guest::ready(QUEUES);
    let asked = guest.admin(Cmd::new(9).word(10, 7).word(11, 0xfffe_fffe));
    assert_eq!((asked.status, asked.result), (0, 1023 | 1023 << 16));
    for id in 1..=QUEUES {
        guest.create(id, 8);
        once(&mut guest, id);
    }
    let is_loaded = |id: &u16| id.is_multiple_of(LOADED);
    let mut loads: Vec<(u16, Load)> =
        (1..=QUEUES).filter(is_loaded).map(|id| (id, Load::default())).collect();
    let mut order: Vec<u16> = (1..=QUEUES).filter(|id| !is_loaded(id)).collect();
    let mut seed = 7;
    for nth in (1..order.len()).rev() {
        order.swap(nth, chance(&mut seed, nth + 1));
    }
    // Some at a time are gone, and come back in another order.
    for gone in order.chunks(21) {
        for id in gone {
            guest.delete(*id);
            next_turns(&mut loads, &mut guest);
        }
        for id in gone.iter().rev() {
            guest.create(*id, 8);
            once(&mut guest, *id);
            next_turns(&mut loads, &mut guest);
        }
    }
    for (id, load) in &mut loads {
        guest.wait("the rest", |guest| {
            load.take(guest, *id);
            load.open == 0
        });
        assert!(load.done >= 7, "queue {id}: {}", load.done);
    }
    // One for each command where they came alone; where they did not, as many as were seen.
    guest.wait("count of interrupts", |guest| {
        let raised = guest.counts.totals().vectors;
        loads.iter_mut().for_each(|(id, load)| load.signals += guest.signals((*id).into()));
        assert!(order.iter().all(|id| guest.signals((*id).into()) == 0));
        // The first command of a loaded queue came alone.
        let agrees = |(id, load): &(u16, Load)| raised[usize::from(*id)] == load.signals + 1;
        order.iter().all(|id| raised[usize::from(*id)] == 2) && loads.iter().all(agrees)
    });
    assert!(loads.iter().all(|(_, load)| load.signals <= load.done));
}
