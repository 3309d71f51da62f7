// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Rules of `CONTRACT.md` on the simulated platform, one test for each.

mod common;

use common::{Rig, With};
use vfio_irq_engine::abi::{flags, Data, Header, Index, Info, InfoHeader};
use vfio_irq_engine::sim::{IrqCaps, Sim};
use vfio_irq_engine::{Errno, Event, EventHost, Host, IntxHost, Mask, MsiType, Refusal, Vectors};

const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;
const ERR: u32 = 3;
const REQ: u32 = 4;
const EINVAL: Result<(), Refusal> = Err(Refusal::Errno(Errno::EINVAL));
const ENOTTY: Result<(), Refusal> = Err(Refusal::Errno(Errno::ENOTTY));

fn rig() -> Rig {
    Rig::new(IrqCaps::default())
}

impl Rig {
    fn mask(&mut self, index: u32, number: u32) {
        assert_eq!(self.ask(index, flags::ACTION_MASK, number, 1, &With::Nothing), Ok(()));
    }

    fn unmask(&mut self, index: u32, number: u32) {
        assert_eq!(self.ask(index, flags::ACTION_UNMASK, number, 1, &With::Nothing), Ok(()));
    }

    fn trigger(&mut self, index: u32, start: u32, count: u32) -> Result<(), Refusal> {
        self.ask(index, flags::ACTION_TRIGGER, start, count, &With::Nothing)
    }
}

#[test]
fn i02_info_refuses_short_structures_and_unknown_indexes() {
    let header = InfoHeader { argsz: 16, flags: 9, index: 3, count: 9 };
    assert_eq!(header.check(), Ok(Index::Err));
    assert_eq!(InfoHeader { argsz: 15, ..header }.check(), Err(Errno::EINVAL));
    assert_eq!(InfoHeader { index: 5, ..header }.check(), Err(Errno::EINVAL));
    assert_eq!(InfoHeader::from_bytes(&header.to_bytes()), header);
    let longer = InfoHeader { argsz: 64, ..header };
    let answer = InfoHeader { flags: 1, count: 1, ..longer };
    assert_eq!(longer.answered(Info { flags: 1, count: 1 }), answer, "argsz is kept");
}

#[test]
fn i03_to_i07_info_describes_each_index() {
    let Rig { sim, device, .. } = rig();
    let intx = device.info(&sim, Index::Intx);
    assert_eq!((intx.count, intx.flags), (1, 1 | 2 | 4));
    let msi = device.info(&sim, Index::Msi);
    assert_eq!((msi.count, msi.flags), (8, 1 | 2 | 8));
    let msix = device.info(&sim, Index::Msix);
    assert_eq!((msix.count, msix.flags), (64, 1 | 2));
    for index in [Index::Err, Index::Req] {
        let event = device.info(&sim, index);
        assert_eq!((event.count, event.flags), (1, 1 | 8));
    }
    let old = Sim::with(IrqCaps {
        dynamic: false,
        pin: false,
        msi_maskable: false,
        ..IrqCaps::default()
    });
    assert_eq!(device.info(&old, Index::Intx).count, 0, "a function without a pin");
    assert_eq!(Vectors::info(&old, MsiType::Msi).flags, 1 | 8);
    assert_eq!(Vectors::info(&old, MsiType::Msix).flags, 1 | 2 | 8);
    assert_eq!(Sim::with(IrqCaps { msi: 0, ..IrqCaps::default() }).count(MsiType::Msi), 0);
}

#[test]
fn c01_to_c08_a_header_is_checked_against_the_index() {
    let eventfds = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
    let header = Header { argsz: 28, flags: eventfds, index: 2, start: 62, count: 2 };
    assert_eq!(Header::from_bytes(&header.to_bytes()), header);
    assert_eq!(header.check(64).map(|checked| checked.data_len()), Ok(8));
    assert_eq!(header.check(63), Err(Errno::EINVAL), "vector 63 is beyond the last");
    assert_eq!(Header { argsz: 27, ..header }.check(64), Err(Errno::EINVAL), "no room for two");
    assert_eq!(Header { index: 77, ..header }.check(64), Err(Errno::EINVAL));
    assert!(Header::from_bytes(&[0xff; 20]).check(2048).is_err());
    let both = header.flags | flags::DATA_BOOL;
    assert_eq!(Header { flags: both, ..header }.check(64), Err(Errno::EINVAL));
    let Rig { sim, device, .. } = rig();
    assert!(device.check(&sim, header).is_ok());
    assert_eq!(device.check(&sim, Header { start: 63, ..header }), Err(Errno::EINVAL));
}

#[test]
fn c08_data_has_an_element_for_each_vector() {
    for (form, bytes) in [(flags::DATA_NONE, 0), (flags::DATA_BOOL, 10), (flags::DATA_EVENTFD, 40)]
    {
        let header = Header::from_words([60, form | flags::ACTION_TRIGGER, 2, 0, 10]);
        assert_eq!(header.check(64).map(|checked| checked.data_len()), Ok(bytes));
    }
    let bools = Header::from_words([23, flags::DATA_BOOL | flags::ACTION_TRIGGER, 2, 4, 3]);
    let request = bools.check(64).and_then(|checked| checked.request(&[1, 0, 0x80]));
    let request = request.expect("a valid request");
    let Data::Bool(bools) = request.data() else { panic!("one byte each") };
    assert_eq!([0, 1, 2, 3].map(|i| bools.get(i)), [true, false, true, false]);
    let range = request.range();
    assert_eq!((range.start(), range.end(), range.count(), range.numbers()), (4, 7, 3, 4..7));
    let fds = Header::from_words([24, flags::DATA_EVENTFD | flags::ACTION_TRIGGER, 2, 0, 1]);
    let data = (-1_i32).to_ne_bytes();
    let request = fds.check(64).and_then(|checked| checked.request(&data));
    let Ok(Data::Eventfd(fds)) = request.map(|request| request.data()) else { panic!("one fd") };
    assert_eq!((fds.get(0), fds.get(1)), (Some(-1), None));
}

#[test]
fn c10_a_request_without_an_action_is_enotty_once_its_data_is_read() {
    let checked = Header::from_words([20, flags::DATA_NONE, 2, 0, 1]).check(64);
    assert_eq!(checked.and_then(|checked| checked.request(&[])), Err(Errno::ENOTTY));
}

#[test]
fn an_errno_is_never_a_success() {
    assert_eq!(Errno::from_raw(-28), Errno::ENOSPC);
    assert_eq!(Errno::from_raw(28), Errno::ENOSPC);
    assert_eq!([0, 4096, i32::MIN].map(Errno::from_raw), [Errno::EINVAL; 3]);
    assert_eq!(Refusal::Errno(Errno::EINVAL).to_return(), -22);
    assert_eq!(Refusal::TooFew(3).to_return(), 3);
    assert_eq!(Refusal::TooFew(0).to_return(), -28);
}

#[test]
fn errors_read_as_their_names() {
    assert_eq!(format!("{:?}", Errno::EINVAL), "EINVAL");
    assert_eq!(Refusal::Errno(Errno::ENOSPC).to_string(), "ENOSPC");
    assert_eq!(Refusal::TooFew(3).to_string(), "too few vectors: there are 3");
}

#[test]
fn v02_one_of_intx_msi_and_msix_is_active() {
    let mut rig = rig();
    let fds = rig.fds;
    assert_eq!(rig.attach(MSI, 0, &fds[..1]), Ok(()));
    assert_eq!(rig.device.active(), Some(Index::Msi));
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), EINVAL);
    assert_eq!(rig.attach(INTX, 0, &fds[..1]), EINVAL);
    assert_eq!(rig.trigger(MSI, 0, 0), Ok(()));
    assert_eq!(rig.attach(INTX, 0, &fds[..1]), Ok(()));
    assert_eq!(rig.device.active(), Some(Index::Intx));
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), EINVAL);
    rig.close();
}

#[test]
fn v04_a_loopback_signals_a_masked_vector() {
    let mut rig = rig();
    let fds = rig.fds;
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), Ok(()));
    rig.mask(MSIX, 0);
    assert_eq!(rig.trigger(MSIX, 0, 1), Ok(()));
    assert_eq!(rig.sim.signals(fds[0]), 1);
    rig.close();
}

#[test]
fn v06_too_few_vectors_allocates_none() {
    let mut sim = Sim::with(IrqCaps { interrupts: 2, ..IrqCaps::default() });
    assert_eq!(sim.enable(MsiType::Msix, 3), Err(Refusal::TooFew(2)));
    assert_eq!(sim.allocated(), 0);
    sim.set_interrupts(0);
    assert_eq!(sim.enable(MsiType::Msix, 3), Err(Refusal::Errno(Errno::ENOSPC)));
}

#[test]
fn v09_an_index_stays_active_without_an_attached_vector() {
    let mut rig = rig();
    assert_eq!(rig.attach(MSIX, 7, &[-1]), Ok(()));
    assert_eq!(rig.device.vectors().active(), Some(MsiType::Msix));
    assert_eq!(rig.sim.allocated(), 8);
    assert!(rig.device.vectors().slot(7).is_none());
    rig.sim.raise(7);
    assert_eq!(rig.sim.lost(), 1);
    rig.close();
}

#[test]
fn v10_a_descriptor_must_be_an_open_eventfd() {
    let mut rig = rig();
    let other = rig.sim.other_file();
    assert_eq!(rig.attach(MSIX, 0, &[99]), Err(Refusal::Errno(Errno::EBADF)));
    assert_eq!(rig.attach(MSIX, 0, &[other]), EINVAL);
    rig.close();
}

#[test]
fn b01_a_bad_second_descriptor_attaches_no_vector() {
    let mut rig = rig();
    let fds = [rig.fds[0], rig.sim.other_file()];
    let before = rig.sim.visible();
    assert_eq!(rig.attach(MSIX, 0, &fds), EINVAL);
    assert_eq!(rig.sim.visible(), before);
    let totals = *rig.device.vectors().totals();
    assert_eq!((totals.refused, totals.gone.failures), (1, 1));
    rig.close();
}

#[test]
fn b02_a_retarget_signals_the_old_or_the_new_eventfd() {
    let mut rig = rig();
    let fds = rig.fds;
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), Ok(()));
    rig.sim.raise(0);
    let before = rig.device.vectors().slot(0).map(|slot| slot.counts());
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), Ok(()));
    let after = rig.device.vectors().slot(0).map(|slot| slot.counts());
    assert_eq!(after, before, "an eventfd that is attached already changes nothing");
    assert_eq!(rig.attach(MSIX, 0, &fds[1..2]), Ok(()));
    rig.sim.raise(0);
    assert_eq!((rig.sim.signals(fds[0]), rig.sim.signals(fds[1]), rig.sim.lost()), (1, 1, 0));
    rig.close();
}

#[test]
fn b03_a_mask_outlives_a_detach_and_holds_one_interrupt() {
    let mut rig = rig();
    let fds = rig.fds;
    assert_eq!(rig.attach(MSIX, 0, &fds[..1]), Ok(()));
    rig.mask(MSIX, 0);
    rig.sim.raise(0);
    rig.sim.raise(0);
    assert!(rig.sim.pending(0));
    rig.unmask(MSIX, 0);
    assert_eq!(rig.sim.signals(fds[0]), 1);
    rig.mask(MSIX, 0);
    assert_eq!(rig.attach(MSIX, 0, &[-1]), Ok(()));
    let slot = rig.device.vectors().slot(0);
    assert!(slot.is_some_and(|slot| slot.mask() == Mask::Masked && slot.vector().is_none()));
    rig.close();
}

#[test]
fn b05_changes_are_counted_and_outlive_the_vector() {
    let mut rig = rig();
    let fds = rig.fds;
    assert_eq!(rig.attach(MSIX, 8, &fds[..2]), Ok(()));
    rig.mask(MSIX, 3);
    rig.mask(MSIX, 3);
    assert_eq!(rig.attach(MSIX, 8, &fds[2..3]), Ok(()));
    assert_eq!(rig.trigger(MSIX, 8, 1), Ok(()));
    let known: Vec<u32> = rig.device.vectors().slots().map(|(number, _)| number).collect();
    assert_eq!(known, [3, 8, 9]);
    let counts = |number| rig.device.vectors().slot(number).map(|slot| slot.counts());
    assert_eq!(counts(3).map(|counts| counts.masks), Some(1), "a mask of a masked vector");
    assert_eq!(counts(8).map(|counts| (counts.retargets, counts.loopbacks)), Some((1, 1)));
    assert_eq!(rig.trigger(MSIX, 0, 0), Ok(()));
    let totals = rig.device.vectors().totals();
    assert_eq!((totals.attaches, totals.detaches, totals.gone.masks), (2, 2, 1));
    rig.close();
}

#[test]
fn x02_an_eventfd_unmasks_intx_and_none_masks_it() {
    let mut rig = rig();
    let [fd, resample, ..] = rig.fds;
    assert_eq!(rig.attach(INTX, 0, &[fd]), Ok(()));
    let with = With::Fds(vec![resample]);
    assert_eq!(rig.ask(INTX, flags::ACTION_UNMASK, 0, 1, &with), Ok(()));
    assert_eq!(rig.ask(INTX, flags::ACTION_MASK, 0, 1, &with), ENOTTY);
    rig.sim.raise_intx();
    rig.sim.raise_intx();
    assert_eq!(rig.sim.signals(fd), 1, "the signal masks INTx");
    rig.sim.signal_eventfd(resample);
    rig.sim.raise_intx();
    assert_eq!(rig.sim.signals(fd), 2);
    rig.close();
}

#[test]
fn x03_to_x06_intx_is_masked_detached_signalled_and_disabled() {
    let mut rig = rig();
    let fd = rig.fds[0];
    assert_eq!(rig.attach(INTX, 0, &[fd]), Ok(()));
    rig.mask(INTX, 0);
    rig.sim.raise_intx();
    assert_eq!(rig.sim.signals(fd), 0);
    let yes = With::Bools(vec![1]);
    assert_eq!(rig.ask(INTX, flags::ACTION_TRIGGER, 0, 1, &yes), Ok(()));
    assert_eq!(rig.sim.signals(fd), 1);
    rig.unmask(INTX, 0);
    assert_eq!(rig.attach(INTX, 0, &[-1]), Ok(()));
    rig.sim.raise_intx();
    assert_eq!((rig.sim.signals(fd), rig.device.active()), (1, Some(Index::Intx)));
    assert_eq!(rig.trigger(INTX, 0, 0), Ok(()));
    assert_eq!((rig.device.active(), rig.sim.leaks()), (None, None));
    let mut unrouted = Sim::with(IrqCaps { connected: false, ..IrqCaps::default() });
    assert_eq!(unrouted.intx_enable(None), Err(Errno::ENODEV));
}

#[test]
fn e01_to_e05_events_are_attached_signalled_and_cleared() {
    let mut rig = rig();
    let fd = rig.fds[0];
    assert_eq!(rig.attach(REQ, 0, &[fd]), Ok(()));
    assert!(rig.sim.event_is_set(Event::Req) && !rig.sim.event_is_set(Event::Err));
    assert_eq!(rig.trigger(REQ, 0, 1), Ok(()));
    assert_eq!(rig.sim.signals(fd), 1);
    assert_eq!(rig.ask(ERR, flags::ACTION_MASK, 0, 1, &With::Nothing), ENOTTY);
    assert_eq!(rig.trigger(ERR, 0, 1), EINVAL, "no trigger is attached");
    assert_eq!(rig.trigger(REQ, 0, 0), Ok(()));
    assert!(!rig.sim.event_is_set(Event::Req));
    assert_eq!(rig.attach(ERR, 0, &[fd]), Ok(()));
    rig.close();
}

#[test]
fn the_simulator_reports_steps_out_of_turn_and_leaks() {
    let mut sim = Sim::new();
    assert_eq!(sim.enable(MsiType::Msi, 1).err(), None);
    assert_eq!(sim.enable(MsiType::Msix, 1).err(), None);
    assert_eq!(sim.violations(), ["enable while enabled, or of nothing"]);
    let fd = sim.eventfd();
    let kept = sim.resolve(fd);
    assert!(sim.leaks().is_some_and(|what| what.ends_with("refs 1")));
    drop(kept);
    sim.fail_step(100, Errno::ENOMEM);
    assert!(sim.disarm());
    assert!(!sim.disarm());
}

/// A process without standard input has an eventfd 0. A request that took it for -1 would detach.
#[test]
fn v10_zero_is_a_descriptor() {
    let mut rig = rig();
    assert_eq!(rig.fds[0], 0);
    for index in [ERR, REQ, INTX] {
        assert_eq!(rig.attach(index, 0, &[rig.fds[1]]), Ok(()));
        assert_eq!(rig.attach(index, 0, &[0]), Ok(()));
        assert_eq!(rig.trigger(index, 0, 1), Ok(()), "eventfd 0 is set");
    }
    let unmask = flags::ACTION_UNMASK;
    assert_eq!(rig.ask(INTX, unmask, 0, 1, &With::Fds(vec![0])), Ok(()));
    rig.sim.signal_eventfd(0);
    assert_eq!(rig.trigger(INTX, 0, 0), Ok(()));
    for index in [MSI, MSIX] {
        assert_eq!(rig.attach(index, 0, &[0]), Ok(()), "idle");
        rig.sim.raise(0);
        assert_eq!(rig.attach(index, 0, &[rig.fds[1]]), Ok(()));
        assert_eq!(rig.attach(index, 0, &[0]), Ok(()));
        rig.sim.raise(0);
        assert_eq!(rig.trigger(index, 0, 0), Ok(()));
    }
    assert_eq!(rig.sim.signals(0), 7);
    assert_eq!(rig.sim.signals(rig.fds[1]), 0);
    rig.close();
}

#[test]
fn e03_a_descriptor_below_minus_one_is_refused() {
    let mut rig = rig();
    for index in [ERR, REQ] {
        assert_eq!(rig.attach(index, 0, &[rig.fds[0]]), Ok(()));
        for fd in [-2, i32::MIN] {
            assert_eq!(rig.attach(index, 0, &[fd]), EINVAL);
        }
        assert_eq!(rig.trigger(index, 0, 1), Ok(()), "the trigger is set");
        assert_eq!(rig.attach(index, 0, &[-1]), Ok(()));
        assert_eq!(rig.trigger(index, 0, 1), EINVAL, "the trigger is cleared");
    }
    assert_eq!(rig.sim.signals(rig.fds[0]), 2);
    rig.close();
}

#[test]
fn an_event_has_an_index() {
    let events =
        [Index::Intx, Index::Msi, Index::Msix, Index::Err, Index::Req].map(Event::from_index);
    assert_eq!(events, [None, None, None, Some(Event::Err), Some(Event::Req)]);
}

/// The producer is the one of the vector's eventfd, also after two vectors have swapped theirs.
#[test]
fn attached_vectors_are_offered_to_irq_bypass() {
    let mut rig = rig();
    let [a, b, ..] = rig.fds;
    assert_eq!(rig.attach(MSIX, 4, &[a, b, -1]), Ok(()));
    assert_eq!(rig.sim.offered(), [(4, a), (5, b)]);
    assert_eq!(rig.attach(MSIX, 4, &[b, a]), Ok(()));
    assert_eq!(rig.sim.offered(), [(4, b), (5, a)]);
    assert_eq!(rig.attach(MSIX, 4, &[-1]), Ok(()));
    assert_eq!(rig.sim.offered(), [(5, a)]);
    rig.close();
}
