//! What SET_IRQS means on the wire, where the wire differs from an ioctl; and raising at speed.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::{Setup, borrowed, event, eventually, memfd, signals};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::{Client, Errno, IrqData, Raised, VectorCounts};

const TRIGGER: u32 = flags::ACTION_TRIGGER;

fn detach(client: &Client, index: Index, start: u32, count: u32) {
    client.set_irqs(index, TRIGGER, start, IrqData::Detach(count)).unwrap();
}

#[test]
fn v07_no_descriptors_detach_any_vector() {
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    let fds: Vec<_> = (0..8).map(|_| event()).collect();
    client.attach(Index::Msix, 0, &borrowed(&fds)).unwrap();
    for vector in [7, 3, 0] {
        detach(&client, Index::Msix, vector, 1);
        assert_eq!(interrupts.raise(vector), Raised::Dropped);
    }
    detach(&client, Index::Msix, 4, 60);
    let attached: Vec<_> = (0..64).filter(|vector| interrupts.is_attached(*vector)).collect();
    assert_eq!(attached, [1, 2]);
    assert_eq!((interrupts.raise(1), interrupts.raise(2)), (Raised::Signalled, Raised::Signalled));
    let counts: Vec<_> = fds.iter().map(signals).collect();
    assert_eq!(counts, [0, 1, 1, 0, 0, 0, 0, 0]);
    // Nothing attached is not idle: the index must be disabled.
    detach(&client, Index::Msix, 0, 64);
    let other = client.attach(Index::Msi, 0, &[fds[0].as_fd()]).unwrap_err();
    assert_eq!(other.errno(), Some(Errno::EINVAL));
    client.set_irqs(Index::Msix, TRIGGER, 0, IrqData::None(0)).unwrap();
    client.attach(Index::Msi, 0, &[fds[0].as_fd()]).unwrap();
}

#[test]
fn b01_a_range_that_fails_changes_nothing() {
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    let old: Vec<_> = (0..4).map(|_| event()).collect();
    client.attach(Index::Msix, 0, &borrowed(&old)).unwrap();
    let mut new: Vec<_> = (0..6).map(|_| event()).collect();
    new[4] = memfd(8);
    let refused = client.attach(Index::Msix, 0, &borrowed(&new)).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EINVAL));
    for (vector, fd) in (0..).zip(&old) {
        assert_eq!((interrupts.raise(vector), signals(fd)), (Raised::Signalled, 1));
    }
    assert!(!interrupts.is_attached(4) && !interrupts.is_attached(5));
    assert!(new.iter().take(4).all(|fd| signals(fd) == 0));
}

#[test]
fn v02_indexes_exclude_each_other() {
    let setup = Setup::new();
    let (client, fd) = (setup.client(), event());
    let all = [Index::Intx, Index::Msi, Index::Msix];
    for active in all {
        client.attach(active, 0, &[fd.as_fd()]).unwrap();
        for other in all.into_iter().filter(|index| *index != active) {
            let refused = client.attach(other, 0, &[fd.as_fd()]).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::EINVAL), "{other:?} beside {active:?}");
        }
        client.set_irqs(active, TRIGGER, 0, IrqData::None(0)).unwrap();
    }
}

#[test]
fn e03_error_and_release_have_triggers_of_their_own() {
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    let (error, release) = (event(), event());
    interrupts.raise_err();
    client.attach(Index::Err, 0, &[error.as_fd()]).unwrap();
    client.attach(Index::Req, 0, &[release.as_fd()]).unwrap();
    interrupts.raise_err();
    interrupts.raise_req();
    interrupts.raise_req();
    assert_eq!((signals(&error), signals(&release)), (1, 2));
    detach(&client, Index::Err, 0, 1);
    interrupts.raise_err();
    assert_eq!(signals(&error), 0);
}

#[test]
fn x06_the_command_register_switches_the_line_off() {
    let setup = Setup::new();
    let (client, interrupts, fd) = (setup.client(), setup.bus().interrupts, event());
    let config = vfio_irq_user::pci::region::CONFIG;
    client.attach(Index::Intx, 0, &[fd.as_fd()]).unwrap();
    client.region_write(config, 5, &[4]).unwrap();
    interrupts.set_intx(true);
    let mut status = [0];
    client.region_read(config, 6, &mut status).unwrap();
    assert_eq!((signals(&fd), status[0] & 8), (0, 8));
    client.region_write(config, 5, &[0]).unwrap();
    assert_eq!(signals(&fd), 1);
    // Its own signal has masked it.
    interrupts.set_intx(false);
    interrupts.set_intx(true);
    assert_eq!(signals(&fd), 0);
    client.set_irqs(Index::Intx, flags::ACTION_UNMASK, 0, IrqData::None(1)).unwrap();
    assert_eq!(signals(&fd), 1);
}

#[test]
fn whole_table_in_a_few_messages() {
    let setup = Setup::new();
    let client = setup.client();
    let fd = event();
    let fds = vec![fd.as_fd(); 64];
    client.attach(Index::Msix, 0, &fds).unwrap();
    (0..64).for_each(|vector| assert_eq!(setup.bus().interrupts.raise(vector), Raised::Signalled));
    assert_eq!(signals(&fd), 64);
    assert_eq!(setup.bus().interrupts.raise(64), Raised::Dropped);
}

#[test]
fn b05_every_interrupt_is_counted() {
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    interrupts.raise(2);
    client.attach(Index::Msix, 2, &[event().as_fd()]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| _ = interrupts.raise(2)));
        }
    });
    client.set_irqs(Index::Msix, flags::ACTION_MASK, 2, IrqData::None(1)).unwrap();
    interrupts.raise(2);
    assert_eq!(interrupts.counts(2).signals, 4001);
}

/// Two threads raise without end while the client masks, unmasks and replaces: every interrupt is
/// signalled or held, and what is held is signalled at the end.
#[test]
fn b02_and_b03_no_interrupt_is_lost_at_speed() {
    const ROUNDS: usize = 100;
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    let fds: [OwnedFd; 2] = [event(), event()];
    client.attach(Index::Msix, 5, &[fds[0].as_fd()]).unwrap();
    let (over, signalled) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match interrupts.raise(5) {
                        Raised::Signalled => _ = signalled.fetch_add(1, Ordering::Relaxed),
                        Raised::Pending => {}
                        Raised::Dropped => panic!("the vector is attached all the time"),
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            client.attach(Index::Msix, 5, &[fds[round % 2].as_fd()]).unwrap();
            client.set_irqs(Index::Msix, flags::ACTION_MASK, 5, IrqData::None(1)).unwrap();
            for fd in &fds {
                signalled.fetch_sub(signals(fd), Ordering::Relaxed);
            }
            assert!(fds.iter().all(|fd| signals(fd) == 0), "signals of a masked vector");
            eventually("a held interrupt", || interrupts.is_pending(5));
            client.set_irqs(Index::Msix, flags::ACTION_UNMASK, 5, IrqData::None(1)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    let left: u64 = fds.iter().map(signals).sum();
    // Each unmask signals what was held, besides what the raises themselves have signalled.
    let extra = left.wrapping_sub(signalled.load(Ordering::Relaxed));
    assert!((1..=2 * ROUNDS as u64).contains(&extra), "{extra} signals of {ROUNDS} unmasks");
    assert!(!interrupts.is_pending(5));
}

#[test]
fn b05_what_requests_do_to_a_vector_is_counted() {
    let setup = Setup::new();
    let (client, interrupts) = (setup.client(), setup.bus().interrupts);
    let (one, other) = (event(), event());
    client.attach(Index::Msix, 3, &[one.as_fd()]).unwrap();
    client.attach(Index::Msix, 3, &[one.as_fd()]).unwrap();
    client.attach(Index::Msix, 3, &[other.as_fd()]).unwrap();
    for action in [flags::ACTION_MASK, flags::ACTION_MASK, flags::ACTION_UNMASK] {
        client.set_irqs(Index::Msix, action, 3, IrqData::None(1)).unwrap();
        assert_eq!(interrupts.is_masked(3), action == flags::ACTION_MASK);
    }
    client.set_irqs(Index::Msix, TRIGGER, 3, IrqData::None(1)).unwrap();
    let counts = interrupts.counts(3);
    assert_eq!((counts.masks, counts.unmasks), (1, 1));
    assert_eq!((counts.retargets, counts.loopbacks, counts.signals), (1, 1, 0));
    // The device keeps them when its client goes; another vector has its own.
    drop(client);
    setup.client();
    assert_eq!(interrupts.raise(3), Raised::Dropped);
    let counts = VectorCounts { dropped: 1, ..counts };
    assert_eq!((interrupts.counts(3), interrupts.counts(2)), (counts, Default::default()));
}
