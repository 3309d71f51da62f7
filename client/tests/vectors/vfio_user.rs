//! A device behind a vfio-user socket. A message attaches or detaches all of its vectors, and
//! carries a limited number of descriptors.

use crate::hosts::{no_eventfd, triggers};
use std::io;
use std::sync::{Arc, Mutex};
use vfio_irq::sim::{Errno, Simulated};
use vfio_irq::{Data, Index, Info, SetIrqs, Transport, Trigger, Vectors, in_messages};

/// A server on the simulated device, which records the sizes of its messages.
struct Socket {
    device: Arc<Simulated>,
    messages: Arc<Mutex<Vec<(u32, usize)>>>,
}

impl Transport for Socket {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.device.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        in_messages(request, 4, |message| {
            let fds = match message.data {
                Data::Eventfd(fds) => fds.iter().flatten().count(),
                Data::None { .. } | Data::Bool(_) => 0,
            };
            let count = message.count();
            assert!(fds == 0 || fds == count as usize, "a message attaches all or none");
            assert!(fds <= 4);
            self.messages.lock().unwrap().push((count, fds));
            self.device.set_irqs(message)
        })
    }
}

type Messages = Arc<Mutex<Vec<(u32, usize)>>>;

fn opened() -> (Arc<Simulated>, Messages, Vectors<Socket>) {
    let device = Arc::new(Simulated::new());
    let messages = Messages::default();
    let socket = Socket { device: Arc::clone(&device), messages: Arc::clone(&messages) };
    let vectors = Vectors::open(socket, Index::Msix).unwrap();
    (device, messages, vectors)
}

#[test]
fn a_large_request_becomes_several_messages() {
    let (device, messages, vectors) = opened();
    let all: [Trigger; 10] = triggers();
    let held = vectors.enable_many((0..10).zip(&all)).unwrap();
    assert_eq!(*messages.lock().unwrap(), [(4, 4), (4, 4), (2, 2)]);
    vectors.mask_chosen(0, &[true, false]).unwrap();
    (0..10).for_each(|number| device.raise(number));
    assert_eq!(all[0].take(), 0);
    assert!(all[1..].iter().all(|trigger| trigger.take() == 1));
    drop(held);
    assert_eq!(messages.lock().unwrap().last(), Some(&(1, 0)), "no descriptor detaches");
    drop(vectors);
    assert_eq!(device.leaks(), None);
}

#[test]
fn several_messages_are_all_or_nothing_together() {
    let (device, _, vectors) = opened();
    let before: [Trigger; 10] = triggers();
    let held = vectors.enable_many((0..10).zip(&before)).unwrap();
    let mut after: [Trigger; 10] = triggers();
    after[6] = no_eventfd();
    let error = vectors.retarget_many(held.iter().zip(&after)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL.raw()));
    for (number, trigger) in (0..10).zip(&before) {
        trigger.take();
        device.raise(number);
        assert_eq!(trigger.take(), 1, "vector {number}");
    }
    assert!(after.iter().all(|trigger| trigger.take() == 0));
}

#[test]
fn a_first_enable_that_fails_half_way_leaves_the_index_idle() {
    let (device, _, vectors) = opened();
    device.set_interrupts(6);
    let all: [Trigger; 10] = triggers();
    vectors.enable_many((0..10).zip(&all)).unwrap_err();
    assert!(!vectors.is_active());
    assert_eq!(device.leaks(), None);
}
