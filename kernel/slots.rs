// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The engine's map of slots: the kernel's red-black tree, with a node for each vector that is
//! attached or masked.

use kernel::{alloc::flags::GFP_KERNEL_ACCOUNT, rbtree::RBTree};
use vfio_irq_engine::{Errno, Slots};

pub(crate) struct Tree<S>(RBTree<u32, S>);

impl<S> Tree<S> {
    pub(crate) fn new() -> Self {
        Self(RBTree::new())
    }
}

impl<S: Default> Slots<S> for Tree<S> {
    fn reserve(&mut self, number: u32) -> Result<(), Errno> {
        match self.0.try_create_and_insert(number, S::default(), GFP_KERNEL_ACCOUNT) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ENOMEM),
        }
    }

    fn get(&self, number: u32) -> Option<&S> {
        self.0.get(&number)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut S> {
        self.0.get_mut(&number)
    }

    fn remove(&mut self, number: u32) -> Option<S> {
        self.0.remove(&number)
    }

    fn first_from(&self, number: u32) -> Option<u32> {
        self.0.cursor_lower_bound(&number).map(|cursor| *cursor.current().0)
    }
}
