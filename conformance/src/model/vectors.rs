//! MSI and MSI-X in the model (V-01 to V-10, B-01, B-03).

use super::{Checked, Data, Mode, Model, ensure};
use crate::target::Core;
use crate::{Answer, Index, flags};
use std::collections::{BTreeMap, BTreeSet};

/// MSI or MSI-X while it is active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vectors {
    /// Which of the two.
    pub index: Index,
    /// Vectors with an interrupt of the machine.
    pub allocated: BTreeSet<u32>,
    /// Vectors with an eventfd.
    pub attached: BTreeMap<u32, i32>,
    /// Masked vectors, attached or not.
    pub masked: BTreeSet<u32>,
    /// Vectors whose interrupt the device holds until they are unmasked.
    pub pending: BTreeSet<u32>,
}

impl Model {
    pub(super) fn set_vectors(&mut self, checked: &Checked) -> Result<(), Answer> {
        let Checked { index, action, start, count, .. } = *checked;
        let (is_active, is_other) = match self.active() {
            Some(active) => (active == index, active != index),
            None => (false, false),
        };
        if action != flags::TRIGGER {
            let can = self.maskable(index) && !matches!(checked.data, Data::Eventfd(_));
            ensure(can, Answer::ENOTTY)?;
            ensure(is_active, Answer::EINVAL)?;
            self.set_masks(action == flags::MASK, &chosen(checked));
            return Ok(());
        }
        ensure(!is_other, Answer::EINVAL)?;
        match &checked.data {
            Data::Eventfd(fds) if is_active => return self.attach(start, fds),
            Data::Eventfd(fds) => return self.enable(index, start, count, fds),
            Data::None if count == 0 && is_active => {
                self.make_pending_uncertain();
                self.mode = Mode::Idle;
                return Ok(());
            }
            Data::None | Data::Bool(_) => ensure(is_active, Answer::EINVAL)?,
        }
        let Mode::Vectors(vectors) = &self.mode else { return Ok(()) };
        let triggers: Vec<i32> = chosen(checked)
            .iter()
            .filter_map(|number| vectors.attached.get(number))
            .copied()
            .collect();
        triggers.into_iter().for_each(|fd| self.signal(fd, true));
        Ok(())
    }

    /// V-05.
    fn enable(&mut self, index: Index, start: u32, count: u32, fds: &[i32]) -> Result<(), Answer> {
        ensure(start + count > 0, Answer::ERANGE)?;
        self.mode = Mode::Vectors(Vectors {
            index,
            allocated: (0..start + count).collect(),
            attached: BTreeMap::new(),
            masked: BTreeSet::new(),
            pending: BTreeSet::new(),
        });
        self.attach(start, fds).inspect_err(|_| self.mode = Mode::Idle)
    }

    /// V-07, V-08, and B-01 or what Linux does instead.
    fn attach(&mut self, start: u32, fds: &[i32]) -> Result<(), Answer> {
        let numbers = || start..;
        let mut after = self.clone();
        let failed = numbers().zip(fds).find_map(|(number, fd)| {
            after.attach_one(number, *fd).err().map(|answer| (number, answer))
        });
        let Some((number, answer)) = failed else {
            *self = after;
            numbers().zip(fds).for_each(|(number, _)| self.deliver(number));
            return Ok(());
        };
        if self.core() == Core::C {
            // Linux detaches all vectors up to the failing one. Until then those before it are
            // attached, and an interrupt that the device holds for one of them is signalled.
            (start..=number).for_each(|number| {
                after.may_signal(number);
                after.detach(number);
            });
            *self = after;
        }
        Err(answer)
    }

    fn attach_one(&mut self, number: u32, fd: i32) -> Result<(), Answer> {
        if fd < 0 {
            self.detach(number);
            return Ok(());
        }
        let dynamic = self.rules.dynamic;
        let resolved = self.eventfd(fd);
        let Mode::Vectors(vectors) = &mut self.mode else { return Ok(()) };
        if !vectors.allocated.contains(&number) {
            ensure(dynamic && vectors.index == Index::Msix, Answer::EINVAL)?;
            vectors.allocated.insert(number);
        }
        vectors.attached.insert(number, resolved?);
        Ok(())
    }

    fn detach(&mut self, number: u32) {
        let Mode::Vectors(vectors) = &mut self.mode else { return };
        vectors.attached.remove(&number);
        if vectors.pending.remove(&number) {
            self.uncertain.insert((vectors.index, number));
        }
    }

    fn may_signal(&mut self, number: u32) {
        let Mode::Vectors(vectors) = &self.mode else { return };
        if let Some(fd) = vectors.attached.get(&number).copied()
            && self.uncertain.contains(&(vectors.index, number))
        {
            self.signal(fd, false);
        }
    }

    fn set_masks(&mut self, masked: bool, numbers: &[u32]) {
        for number in numbers {
            let Mode::Vectors(vectors) = &mut self.mode else { return };
            if masked {
                vectors.masked.insert(*number);
            } else {
                vectors.masked.remove(number);
                self.deliver(*number);
            }
        }
    }

    /// Signals a vector whose interrupt the device holds, if nothing is in the way.
    pub(super) fn deliver(&mut self, number: u32) {
        let Mode::Vectors(vectors) = &mut self.mode else { return };
        let Some(fd) = vectors.attached.get(&number).copied() else { return };
        if vectors.masked.contains(&number) {
            return;
        }
        let surely = vectors.pending.remove(&number);
        let maybe = self.uncertain.remove(&(vectors.index, number));
        if surely || maybe {
            self.signal(fd, surely);
        }
    }

    /// The device may keep or lose the interrupts that it holds.
    pub(super) fn make_pending_uncertain(&mut self) {
        if let Mode::Vectors(vectors) = &mut self.mode {
            let index = vectors.index;
            let pending = std::mem::take(&mut vectors.pending);
            self.uncertain.extend(pending.into_iter().map(|number| (index, number)));
        }
    }
}

/// Returns the vectors that a request without descriptors chooses.
fn chosen(checked: &Checked) -> Vec<u32> {
    let numbers = checked.start..checked.start + checked.count;
    match &checked.data {
        Data::Bool(bools) => {
            numbers.zip(bools).filter(|(_, chosen)| **chosen).map(|(n, _)| n).collect()
        }
        Data::None | Data::Eventfd(_) => numbers.collect(),
    }
}
