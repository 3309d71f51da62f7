//! What the admin queue answers.

use crate::machine::{CC, CSTS, Cmd, DATA, Guest};

fn identify(guest: &mut Guest, what: u32, namespace: u32) -> Vec<u8> {
    let cmd = Cmd::new(6).word(1, namespace).word(10, what).prp(DATA, 0);
    assert_eq!(guest.admin(cmd).status, 0);
    guest.read(DATA, 4096)
}

#[test]
fn controller_and_namespace_describe_themselves() {
    let mut guest = Guest::ready(4);
    let controller = identify(&mut guest, 1, 0);
    assert_eq!(&controller[4..12], b"atest's ");
    assert_eq!((controller[77], controller[512], controller[513]), (8, 0x66, 0x44));
    assert!(controller[768..].starts_with(b"nqn.2014-08.org.nvmexpress:uuid:"));
    let namespace = identify(&mut guest, 0, 1);
    assert_eq!(namespace[..8], (8192_u64).to_le_bytes());
    assert_eq!(namespace[130], 9);
    assert_eq!(identify(&mut guest, 2, 0)[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(identify(&mut guest, 2, 1)[..4], [0; 4]);
    assert_eq!(identify(&mut guest, 3, 1)[..2], [3, 16]);
    // Of the NVM command set there is no more to say, and of others nothing.
    assert!([(5, 1), (6, 0)].iter().all(|of| identify(&mut guest, of.0, of.1) == [0; 4096]));
    let zoned = Cmd::new(6).word(1, 1).word(10, 5).word(11, 2 << 24).prp(DATA, 0);
    assert_eq!(guest.admin(zoned).status, 2);
    assert_eq!(guest.admin(Cmd::new(6).word(1, 7).word(10, 5).prp(DATA, 0)).status, 0x0b);
}

#[test]
fn queues_come_and_go_at_run_time_each_with_its_vector() {
    let mut guest = Guest::ready(1024);
    // As many as were asked for, both kinds less one.
    let asked = guest.admin(Cmd::new(9).word(10, 7).word(11, 1023 | 1023 << 16));
    assert_eq!((asked.status, asked.result), (0, 1023 | 1023 << 16));
    for round in 0..3 {
        for id in [1, 2, 700, 1024] {
            guest.create(id, 64);
            assert_eq!(guest.run(id, Cmd::new(0)).status, 0, "flush on {id} in round {round}");
            guest.interrupted(id);
        }
        let late = guest.admin(Cmd::new(9).word(10, 7).word(11, 1 | 1 << 16));
        assert_eq!(late.status, 0x0c, "queues exist: too late");
        // One goes, and its neighbours do not notice.
        guest.delete(2);
        assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
        guest.interrupted(1);
        [1, 700, 1024].into_iter().for_each(|id| guest.delete(id));
    }
    guest.wait("count of interrupts", |guest| {
        let vectors = guest.counts.totals().vectors;
        (vectors[1], vectors[2], vectors[1024]) == (6, 3, 3)
    });
}

#[test]
fn features_are_set_and_got() {
    let mut guest = Guest::ready(4);
    for (feature, value) in [(1, 7), (4, 300), (5, 9), (8, 0x0102), (0x0a, 1), (0x0b, 0x1f)] {
        let before = guest.admin(Cmd::new(10).word(10, feature)).result;
        let set = guest.admin(Cmd::new(9).word(10, feature).word(11, value));
        assert_eq!(set.status, 0, "feature {feature}");
        let word = if feature == 4 { 0 } else { value };
        let got = guest.admin(Cmd::new(10).word(10, feature).word(11, word));
        assert_eq!(got.result, value, "feature {feature}");
        let initial = guest.admin(Cmd::new(10).word(10, feature | 1 << 8));
        assert_eq!(initial.result, before, "feature {feature} by default");
    }
    // A controller that is enabled again has forgotten.
    guest.disable();
    guest.enable();
    assert_eq!(guest.admin(Cmd::new(10).word(10, 8)).result, 0);
}

#[test]
fn logs_are_read_in_parts() {
    let mut guest = Guest::ready(4);
    assert_eq!(guest.admin(Cmd::new(0x7f)).status, 1);
    let log = |page: u32, bytes: u32, offset: u32| {
        Cmd::new(2).word(10, page | (bytes / 4 - 1) << 16).word(12, offset).prp(DATA, 0)
    };
    assert_eq!(guest.admin(log(1, 64, 0)).status, 0);
    let entry = guest.read(DATA, 64);
    assert_eq!(entry[..8], 1_u64.to_le_bytes());
    assert_eq!(entry[12..14], (0x4001_u16 << 1).to_le_bytes());
    assert_eq!(guest.admin(log(2, 512, 0)).status, 0);
    let health = guest.read(DATA, 512);
    assert_eq!((health[0], health[1], health[3]), (0, 44, 100));
    assert_eq!(guest.admin(log(2, 16, 176)).status, 0);
    assert_eq!(guest.read(DATA, 8), 1_u64.to_le_bytes());
    assert_eq!(guest.admin(log(3, 512, 0)).status, 0);
    assert_eq!(guest.read(DATA, 1), [1]);
    assert_eq!(guest.admin(log(0x77, 512, 0)).status, 0x109);
    assert_eq!(guest.admin(log(2, 4, 516)).status, 2);
}

#[test]
fn an_event_is_told_once_until_its_log_is_read() {
    let mut guest = Guest::ready(4);
    let first = guest.put(0, Cmd::new(0x0c));
    let second = guest.put(0, Cmd::new(0x0c));
    guest.ring(0);
    // A doorbell of a queue that does not exist.
    guest.doorbell(2 * 3, 1);
    let told = guest.next(0);
    assert_eq!((told.id, told.status, told.result), (first, 0, 1 << 16));
    guest.doorbell(2 * 3, 2);
    let flushed = guest.admin(Cmd::new(2).word(10, 1 | 15 << 16).prp(DATA, 0));
    // The log was read, so the second event comes.
    let other = guest.next(0);
    assert_eq!((flushed.status, other.status), (0, 0));
    assert_eq!(other.id, second);
}

#[test]
fn an_event_request_is_aborted() {
    let mut guest = Guest::ready(4);
    let ids: Vec<u16> = (0..4).map(|_| guest.put(0, Cmd::new(0x0c))).collect();
    guest.ring(0);
    assert_eq!(guest.admin(Cmd::new(0x0c)).status, 0x105);
    let abort = guest.put(0, Cmd::new(8).word(10, u32::from(ids[2]) << 16));
    guest.ring(0);
    let (one, other) = (guest.next(0), guest.next(0));
    assert_eq!((one.id, one.status), (ids[2], 7));
    assert_eq!((other.id, other.status, other.result), (abort, 0, 0));
    let unknown = guest.admin(Cmd::new(8).word(10, 0xffff_0000));
    assert_eq!((unknown.status, unknown.result), (0, 1));
}

#[test]
fn a_shutdown_is_acknowledged_and_a_reset_forgets_all() {
    let mut guest = Guest::ready(4);
    guest.create(1, 16);
    guest.set(CC, 0x0046_4001);
    guest.wait("shutdown", |guest| guest.get(CSTS) & 0xc == 8);
    guest.client.reset().unwrap();
    assert_eq!((guest.get(CC), guest.get(CSTS), guest.get(0x24)), (0, 0, 0));
    guest.client.region_write(7, 4, &6_u16.to_le_bytes()).unwrap();
    guest.enable();
    guest.create(1, 16);
    assert_eq!(guest.run(1, Cmd::new(0)).status, 0);
}
