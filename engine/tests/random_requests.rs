// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compares random requests with a simple model: the attached eventfds, the masks and the active
//! index. Every raised interrupt must arrive.

mod common;

use common::{Rig, With};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use vfio_irq_engine::abi::flags::{ACTION_MASK, ACTION_TRIGGER, ACTION_UNMASK};
use vfio_irq_engine::sim::IrqCaps;
use vfio_irq_engine::{Errno, MsiType, Refusal};

const VECTORS: u32 = 12;

#[derive(Clone, Debug)]
enum Step {
    /// Descriptors by their position in `Rig::fds`. -1 detaches, and 99 is not open.
    Attach {
        msi_type: u32,
        start: u32,
        fds: Vec<i32>,
    },
    Disable {
        msi_type: u32,
    },
    Mask {
        start: u32,
        chosen: Vec<bool>,
    },
    Unmask {
        start: u32,
        chosen: Vec<bool>,
    },
    Raise {
        number: u32,
    },
    Loopback {
        start: u32,
        count: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let fd = prop_oneof![8 => 0..16_i32, 3 => Just(-1), 1 => Just(99)];
    let msi_type = prop_oneof![1 => Just(1_u32), 4 => Just(2_u32)];
    let bools = || prop::collection::vec(any::<bool>(), 1..5);
    prop_oneof![
        6 => (msi_type.clone(), 0..10_u32, prop::collection::vec(fd, 1..6))
            .prop_map(|(msi_type, start, fds)| Step::Attach { msi_type, start, fds }),
        1 => msi_type.prop_map(|msi_type| Step::Disable { msi_type }),
        2 => (0..8_u32, bools()).prop_map(|(start, chosen)| Step::Mask { start, chosen }),
        2 => (0..8_u32, bools()).prop_map(|(start, chosen)| Step::Unmask { start, chosen }),
        6 => (0..VECTORS).prop_map(|number| Step::Raise { number }),
        1 => (0..8_u32, 1..5_u32).prop_map(|(start, count)| Step::Loopback { start, count }),
    ]
}

#[derive(Default)]
struct Model {
    active: Option<(u32, u32)>,
    attached: BTreeMap<u32, i32>,
    masked: BTreeSet<u32>,
    pending: BTreeSet<u32>,
    expected: BTreeMap<i32, u64>,
}

impl Model {
    fn signal_pending(&mut self, number: u32) {
        if self.masked.contains(&number) {
            return;
        }
        if let Some(fd) = self.attached.get(&number) {
            if self.pending.remove(&number) {
                *self.expected.entry(*fd).or_default() += 1;
            }
        }
    }
}

fn numbers(start: u32, chosen: &[bool]) -> Vec<u32> {
    (start..).zip(chosen).filter(|(_, yes)| **yes).map(|(n, _)| n).collect()
}

fn play(rig: &mut Rig, model: &mut Model, dynamic: bool, step: &Step) {
    match step {
        Step::Attach { msi_type, start, fds } => {
            attach(rig, model, dynamic, *msi_type, *start, fds)
        }
        Step::Disable { msi_type } => {
            let outcome = rig.ask(*msi_type, ACTION_TRIGGER, 0, 0, &With::Nothing);
            let active = model.active.is_some_and(|(active, _)| active == *msi_type);
            assert_eq!(outcome.is_ok(), active);
            if active {
                *model =
                    Model { expected: std::mem::take(&mut model.expected), ..Model::default() };
            }
        }
        Step::Mask { start, chosen } => {
            let data = With::Bools(chosen.iter().map(|yes| u8::from(*yes)).collect());
            let outcome = rig.ask(2, ACTION_MASK, *start, chosen.len() as u32, &data);
            assert_eq!(outcome.is_ok(), model.active.is_some_and(|(msi_type, _)| msi_type == 2));
            if outcome.is_ok() {
                model.masked.extend(numbers(*start, chosen));
            }
        }
        Step::Unmask { start, chosen } => {
            let data = With::Bools(chosen.iter().map(|yes| u8::from(*yes)).collect());
            if rig.ask(2, ACTION_UNMASK, *start, chosen.len() as u32, &data).is_ok() {
                for number in numbers(*start, chosen) {
                    model.masked.remove(&number);
                    model.signal_pending(number);
                }
            }
        }
        Step::Raise { number } => {
            rig.sim.raise(*number);
            if let Some(fd) = model.attached.get(number) {
                if model.masked.contains(number) {
                    model.pending.insert(*number);
                } else {
                    *model.expected.entry(*fd).or_default() += 1;
                }
            }
        }
        Step::Loopback { start, count } => {
            if rig.ask(2, ACTION_TRIGGER, *start, *count, &With::Nothing).is_ok() {
                for fd in model.attached.range(*start..start + count).map(|(_, fd)| *fd) {
                    *model.expected.entry(fd).or_default() += 1;
                }
            }
        }
    }
}

fn attach(rig: &mut Rig, model: &mut Model, dynamic: bool, msi_type: u32, start: u32, fds: &[i32]) {
    let real: Vec<i32> = fds
        .iter()
        .map(|fd| if (0..16).contains(fd) { rig.fds[*fd as usize] } else { *fd })
        .collect();
    let end = start + fds.len() as u32;
    let table = if msi_type == 1 { 8 } else { 64 };
    let fixed = match model.active {
        Some((_, size)) if msi_type == 1 || !dynamic => Some(size),
        _ => None,
    };
    // The checks of range and mode come first. Then the first failing vector determines the error.
    let by_vector = (start..).zip(fds).filter(|(_, fd)| **fd >= 0).find_map(|(n, fd)| {
        if fixed.is_some_and(|size| n >= size) {
            Some(Errno::EINVAL)
        } else {
            (*fd == 99).then_some(Errno::EBADF)
        }
    });
    let early = end > table || model.active.is_some_and(|(active, _)| active != msi_type);
    let expected = if early { Some(Errno::EINVAL) } else { by_vector };
    let outcome = rig.attach(msi_type, start, &real);
    assert_eq!(outcome, expected.map_or(Ok(()), |errno| Err(Refusal::Errno(errno))));
    if outcome.is_err() {
        return;
    }
    model.active.get_or_insert((msi_type, end));
    for (number, fd) in (start..).zip(real) {
        if fd < 0 {
            model.attached.remove(&number);
        } else {
            model.attached.insert(number, fd);
            model.signal_pending(number);
        }
    }
}

fn agree(rig: &Rig, model: &Model) {
    let msi_type =
        rig.device.vectors().active().map(|msi_type| if msi_type == MsiType::Msi { 1 } else { 2 });
    assert_eq!(msi_type, model.active.map(|(msi_type, _)| msi_type));
    let attached: BTreeMap<u32, i32> = rig
        .device
        .vectors()
        .slots()
        .filter_map(|(n, slot)| Some((n, slot.vector()?.fd())))
        .collect();
    assert_eq!(attached, model.attached);
    for (fd, expected) in &model.expected {
        assert_eq!(rig.sim.signals(*fd), *expected, "signals of eventfd {fd}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_requests_do_what_the_model_does(
        steps in prop::collection::vec(step(), 1..80),
        dynamic in any::<bool>(),
    ) {
        let mut rig = Rig::new(IrqCaps { dynamic, ..IrqCaps::default() });
        let mut model = Model::default();
        for step in &steps {
            play(&mut rig, &mut model, dynamic, step);
            agree(&rig, &model);
        }
        rig.close();
    }

    /// Any bytes get an answer, and an error changes nothing.
    #[test]
    fn arbitrary_bytes_are_answered(
        header in prop::array::uniform20(any::<u8>()),
        small in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        use vfio_irq_engine::abi::Header;
        let mut rig = Rig::new(IrqCaps::default());
        rig.attach(2, 0, &[3, 4, 5]).expect("attaches");
        let mut header = Header::from_bytes(&header);
        if small {
            header = Header {
                argsz: header.argsz % 64,
                flags: header.flags % 64,
                index: header.index % 6,
                start: header.start % 80,
                count: header.count % 20,
            };
        }
        let before = rig.sim.visible();
        let outcome = rig.device.check(&rig.sim, header).map_err(Refusal::from).and_then(|checked| {
            let len = checked.data_len().min(data.len());
            let request = checked.request(&data[..len])?;
            rig.device.set_irqs(&mut rig.sim, &request)
        });
        if outcome.is_err() {
            prop_assert_eq!(rig.sim.visible(), before);
        }
        rig.close();
    }
}
