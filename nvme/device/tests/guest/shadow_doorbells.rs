//! Doorbells in memory: the register is written only where the event index says so, and no command is
//! missed.

use crate::machine::{
    BASE, CSTS, Cmd, DATA, EVENTS, Follow, Guest, MEMORY, NOWHERE, SHADOW, file_disk,
};
use std::collections::BTreeSet;
use vfio_irq_nvme_device::Disk;

const BUFFERS: u8 = 0x7c;
const FLUSH: u8 = 0;

/// Waits until the event index of a doorbell is there.
fn event(guest: &mut Guest, number: u64, value: u32) {
    guest.wait("event index", |guest| guest.load(EVENTS + 4 * number) == value);
}

#[test]
fn the_register_is_needed_only_where_the_event_index_says_so() {
    let mut guest = Guest::ready(4);
    guest.follow(Follow::Io);
    guest.create_pair(1, 16, 4);
    let (tail, head) = (2, 3);
    // An idle queue is rung for its first command.
    let mut ids = vec![guest.put(1, Cmd::new(FLUSH))];
    assert!(guest.ring(1));
    for at in 1..=2 {
        event(&mut guest, tail, at);
        ids.push(guest.put(1, Cmd::new(FLUSH)));
        assert!(guest.ring(1), "command {at}");
    }
    event(&mut guest, tail, 3);
    // The completions are full: commands wait, and more of them need no ringing.
    ids.push(guest.put(1, Cmd::new(FLUSH)));
    assert!(guest.ring(1));
    event(&mut guest, head, 0);
    for more in 0..9 {
        ids.push(guest.put(1, Cmd::new(FLUSH)));
        assert!(!guest.ring(1), "command {more} behind those that wait");
    }
    let before = guest.counts.totals().doorbells;
    let mut done = Vec::new();
    while done.len() < ids.len() {
        guest.wait("completion", |guest| match guest.look(1) {
            Some(end) => {
                done.push(end.id);
                true
            }
            None => false,
        });
        guest.acknowledge(1);
    }
    assert_eq!(ids, done);
    // Commands were not rung for; only for room, once for each completion at most.
    let rung = guest.counts.totals().doorbells - before;
    assert!((1..=13).contains(&rung), "{rung}");
    event(&mut guest, tail, 13);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
}

#[test]
fn completions_are_acknowledged_without_the_register_as_long_as_there_is_room() {
    let mut guest = Guest::ready(4);
    guest.follow(Follow::Io);
    guest.create_pair(1, 16, 64);
    let before = guest.counts.totals().doorbells;
    // Three rounds: the controller looks at the head before the guest has come round.
    for at in 1..=200 {
        guest.put(1, Cmd::new(FLUSH));
        assert!(guest.ring(1));
        guest.wait("completion", |guest| guest.look(1).is_some());
        assert!(!guest.acknowledge(1), "completion {at}");
        event(&mut guest, 2, at % 16);
    }
    assert_eq!(guest.counts.totals().doorbells - before, 200);
}

#[test]
fn the_admin_queue_may_use_memory_or_the_register() {
    for follow in [Follow::Io, Follow::All] {
        let mut guest = Guest::ready(4);
        guest.follow(follow);
        // Round its queue of 32 entries more than once.
        for _ in 0..100 {
            assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0, "{follow:?}");
        }
        guest.create(3, 8);
        assert_eq!(guest.run(3, Cmd::new(FLUSH)).status, 0);
        guest.delete(3);
    }
}

#[test]
fn registers_work_beside_shadow_doorbells_that_the_guest_never_writes() {
    let mut guest = Guest::ready(4);
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    guest.follow(Follow::Io);
    guest.create(2, 8);
    guest.unfollow();
    for _ in 0..30 {
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
        assert_eq!(guest.run(2, Cmd::new(FLUSH)).status, 0);
    }
}

#[test]
fn queues_from_before_and_after_use_memory_and_begin_at_nothing_when_they_come_again() {
    let mut guest = Guest::ready(4);
    guest.create(1, 8);
    for _ in 0..3 {
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    }
    guest.follow(Follow::Io);
    // The controller has written where the queue is: the guest goes on from there.
    assert_eq!((guest.load(SHADOW + 8), guest.load(EVENTS + 8)), (3, 3));
    for _ in 0..20 {
        guest.create(2, 5);
        assert_eq!(guest.load(SHADOW + 16), 0);
        for _ in 0..7 {
            assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
            assert_eq!(guest.run(2, Cmd::new(FLUSH)).status, 0);
        }
        guest.delete(2);
    }
    // Other buffers, while queues are there whose completions were acknowledged in the old ones alone.
    for follow in [Follow::All, Follow::Io, Follow::All] {
        guest.follow(follow);
        for _ in 0..20 {
            assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
        }
    }
}

#[test]
fn buffers_that_cannot_be_are_refused() {
    let mut guest = Guest::ready(4);
    guest.create(1, 8);
    let end = BASE + MEMORY;
    for (what, one, other) in [
        ("an odd address", SHADOW + 64, EVENTS),
        ("an odd second one", SHADOW, EVENTS + 4),
        ("nowhere", NOWHERE, EVENTS),
        ("nowhere for events", SHADOW, NOWHERE),
        ("no address", 0, EVENTS),
        ("one for both", SHADOW, SHADOW),
        ("behind the end", end, EVENTS),
        ("the end of everything", SHADOW, u64::MAX - 0xfff),
    ] {
        assert_eq!(guest.admin(Cmd::new(BUFFERS).prp(one, other)).status, 2, "{what}");
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0, "after {what}");
    }
    guest.follow(Follow::Io);
    assert_eq!(guest.admin(Cmd::new(BUFFERS).prp(SHADOW + 8, EVENTS)).status, 2);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0, "the old ones are still used");
}

#[test]
fn a_queue_without_room_in_the_buffers_is_not_created() {
    let mut guest = Guest::ready(1024);
    // A page each: enough for 511 queues. What follows the second is no memory.
    let end = BASE + MEMORY;
    let set = Cmd::new(BUFFERS).prp(end - 0x2000, end - 0x1000);
    assert_eq!(guest.admin(set).status, 0);
    guest.create(511, 8);
    assert_eq!(guest.run(511, Cmd::new(FLUSH)).status, 0);
    let cq = Cmd::new(5).prp(DATA, 0).word(10, 512 | 7 << 16).word(11, 1);
    assert_eq!(guest.admin(cq).status, 2);
    let sq = Cmd::new(1).prp(DATA, 0).word(10, 512 | 7 << 16).word(11, 511 << 16 | 1);
    assert_eq!(guest.admin(sq).status, 2);
    assert_eq!(guest.run(511, Cmd::new(FLUSH)).status, 0);
}

#[test]
fn a_register_from_before_is_not_taken_for_news_when_the_buffers_move() {
    let mut guest = Guest::ready(2);
    guest.follow(Follow::Io);
    guest.create_pair(1, 16, 4);
    // The completions are full with three, so that the register stays at 4.
    for at in 0..4 {
        event(&mut guest, 2, at.min(3));
        guest.put(1, Cmd::new(FLUSH));
        assert!(guest.ring(1));
    }
    event(&mut guest, 3, 0);
    for _ in 0..9 {
        guest.put(1, Cmd::new(FLUSH));
        assert!(!guest.ring(1));
    }
    (0..13).for_each(|_| assert_eq!(guest.next(1).status, 0));
    guest.follow(Follow::Io);
    let before = guest.counts.totals().flushes;
    guest.doorbell(2, 4);
    assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    assert_eq!(guest.counts.totals().flushes, before + 1);
}

/// As with other controllers: memory is where most writes go, and the register is still one.
#[test]
fn the_register_is_followed_after_memory_was_used() {
    let mut guest = Guest::ready(4);
    guest.follow(Follow::All);
    guest.create_pair(1, 16, 5);
    for round in 0..4 {
        guest.follow_again(Follow::All);
        for _ in 0..3 {
            assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
            assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0);
        }
        guest.unfollow();
        // Round the queues more than once, and past the values that memory still has.
        for _ in 0..40 + round {
            assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
            assert_eq!(guest.admin(Cmd::new(10).word(10, 7)).status, 0);
        }
    }
}

#[test]
fn a_reset_forgets_the_buffers() {
    let mut guest = Guest::ready(4);
    guest.follow(Follow::All);
    guest.disable();
    guest.write(SHADOW, &[5; 64]);
    guest.enable();
    guest.create(1, 8);
    for _ in 0..20 {
        assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    }
    assert_eq!(guest.read(SHADOW, 64), [5; 64]);
}

#[test]
fn invalid_shadow_doorbells_are_reported_and_change_nothing() {
    let mut guest = Guest::ready(4);
    guest.follow(Follow::Io);
    guest.create(1, 8);
    guest.create(2, 8);
    let request = guest.put(0, Cmd::new(0x0c));
    guest.ring(0);
    for (number, value) in [(2, 8), (2, 0xffff), (2, u32::MAX), (3, 1), (3, 99)] {
        guest.store(SHADOW + 4 * number, value);
        guest.doorbell(number, value);
        assert_eq!(guest.run(2, Cmd::new(FLUSH)).status, 0);
    }
    let told = guest.next(0);
    assert_eq!((told.id, told.result), (request, 1 << 8 | 1 << 16));
    for number in [2, 3] {
        guest.store(SHADOW + 4 * number, 0);
    }
    guest.doorbell(2, 0);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
}

#[test]
fn buffers_taken_away_stop_the_controller_until_it_is_enabled_again() {
    let mut guest = Guest::ready(4);
    let apart = BASE + (1 << 32);
    let file = rustix::fs::memfd_create("buffers", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 0x2000).unwrap();
    use std::os::fd::AsFd;
    guest.client.dma_map(apart, 0x2000, Some((file.as_fd(), 0))).unwrap();
    assert_eq!(guest.admin(Cmd::new(BUFFERS).prp(apart, apart + 0x1000)).status, 0);
    guest.create(1, 8);
    guest.client.dma_unmap(apart, 0x2000).unwrap();
    guest.put(1, Cmd::new(FLUSH));
    guest.ring(1);
    guest.wait("fatal status", |guest| guest.get(CSTS) & 2 != 0);
    guest.disable();
    guest.enable();
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
}

/// The next of a sequence that looks like chance.
fn chance(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn nothing_is_lost_under_load_with_queues_of_any_length() {
    for seed in 1..=8_u64 {
        under_load(seed);
    }
}

/// Queues of lengths by chance, filled and emptied by chance, until each had some thousand commands.
fn under_load(seed: u64) {
    const QUEUES: u16 = 4;
    const COMMANDS: usize = 4000;
    // Commands of a file are carried out by several threads, those of memory by one.
    let disk = if seed < 4 { Disk::memory(4 << 20).unwrap() } else { file_disk() };
    let mut guest = Guest::with(QUEUES, disk, true);
    guest.enable();
    guest.follow(match seed {
        5 | 8 => Follow::Twice,
        _ if seed.is_multiple_of(2) => Follow::Io,
        _ => Follow::All,
    });
    if seed == 5 {
        guest.post_doorbells();
    }
    let mut dice = seed;
    let lengths: Vec<(u32, u32)> = (0..QUEUES)
        .map(|_| {
            let mut length = || 2 + chance(&mut dice, 1 << (2 + seed % 4 * 2)).min(126) as u32;
            (length(), length())
        })
        .collect();
    for (id, (entries, completions)) in (1..).zip(&lengths) {
        guest.create_pair(id, *entries, *completions);
    }
    let mut open = vec![BTreeSet::new(); lengths.len()];
    let mut left = vec![COMMANDS; lengths.len()];
    let mut acknowledged = vec![true; lengths.len()];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while left.iter().any(|left| *left > 0) || open.iter().any(|open| !open.is_empty()) {
        let place = chance(&mut dice, lengths.len() as u64) as usize;
        let id = place as u16 + 1;
        let room = (lengths[place].0 as usize - 1 - open[place].len()).min(left[place]);
        let more = chance(&mut dice, room as u64 + 1) as usize;
        for _ in 0..more {
            let cmd =
                if more.is_multiple_of(2) { Cmd::new(FLUSH) } else { Cmd::new(2).prp(DATA, 0) };
            assert!(open[place].insert(guest.put(id, cmd)));
        }
        left[place] -= more;
        if more > 0 {
            guest.ring(id);
        }
        for _ in 0..chance(&mut dice, 8) {
            let Some(end) = guest.look(id) else { break };
            assert!(open[place].remove(&end.id), "command {} ended, and was not open", end.id);
            assert_eq!(end.status, 0);
            acknowledged[place] = false;
        }
        // Now and then late: the completions may be full.
        if !acknowledged[place] && chance(&mut dice, 3) > 0 {
            guest.acknowledge(id);
            acknowledged[place] = true;
        }
        assert!(std::time::Instant::now() < deadline, "{open:?} are lost, lengths {lengths:?}");
    }
}

#[test]
fn queues_that_share_completions_have_all_of_theirs() {
    for (seed, follow) in [(1, None), (2, Some(Follow::Io)), (3, Some(Follow::All))] {
        let mut guest = Guest::with(8, file_disk(), true);
        guest.enable();
        follow.into_iter().for_each(|follow| guest.follow(follow));
        // Room for three completions, and for many commands.
        guest.create_pair(1, 16, 4);
        (2..=8).for_each(|id| guest.create_beside(id, 9, 1));
        let (mut dice, mut open, mut left) = (seed, BTreeSet::new(), 5000_u32);
        let mut filled = [0; 9];
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while left > 0 || !open.is_empty() {
            let id = chance(&mut dice, 8) as u16 + 1;
            // A queue is not overfilled as long as all that is open fits.
            let room = 8 - filled[usize::from(id)];
            for _ in 0..chance(&mut dice, room + 1).min(left.into()) {
                let read = Cmd::new(2).prp(DATA, 0).blocks(chance(&mut dice, 64), 1);
                open.insert((guest.put(id, read), id));
                filled[usize::from(id)] += 1;
                left -= 1;
            }
            guest.ring(id);
            while let Some(end) = guest.look(1) {
                let (_, id) = *open.range((end.id, 0)..).next().unwrap();
                assert!(open.remove(&(end.id, id)), "command {} was not open", end.id);
                filled[usize::from(id)] -= 1;
            }
            if chance(&mut dice, 4) > 0 {
                guest.acknowledge(1);
            }
            assert!(std::time::Instant::now() < deadline, "{open:?} are lost, {follow:?}");
        }
    }
}
