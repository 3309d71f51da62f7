//! Any bytes as ioctls of a user: the engine answers each as the model of the contract does, and the
//! vectors with an eventfd are the model's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use vfio_irq_conformance::model::{File, Mode, Model, Rules};
use vfio_irq_conformance::target::{Core, Simulator, Target};
use vfio_irq_conformance::{Answer, Request};
use vfio_irq_engine::sim::IrqCaps;

/// Bytes of a header of SET_IRQS.
const HEADER: usize = Request::HEADER as usize;
/// Eventfds of the user. Their numbers are small, so that bytes hit them.
const EVENTFDS: usize = 6;

fuzz_target!(|bytes: &[u8]| {
    let (head, bytes) = bytes.split_at(bytes.len().min(1));
    let head = head.first().copied().unwrap_or(0);
    let [dynamic, msi_maskable, pin] = [1, 2, 4].map(|bit| head & bit == 0);
    let caps = IrqCaps { msi: 4, msix: 12, dynamic, msi_maskable, pin, ..IrqCaps::default() };
    let mut target = Simulator::new(caps);
    let mut files = BTreeMap::new();
    for _ in 0..EVENTFDS {
        files.insert(target.eventfd().unwrap(), File::Eventfd);
    }
    files.insert(target.other_file().unwrap(), File::Other);
    let rules = Rules { core: Core::Rust, facts: target.facts(), dynamic };
    let mut model = Model::new(rules, files);
    // Each request begins with its length. Most are headers without or with a little data.
    let mut rest = bytes;
    while let Some((len, more)) = rest.split_first() {
        let len = (usize::from(*len) % 48).min(more.len());
        let (request, more) = more.split_at(len);
        rest = more;
        ask(&mut target, &mut model, request);
    }
    target.close().unwrap();
    assert_eq!(target.leaks(), None);
});

fn ask(target: &mut Simulator, model: &mut Model, bytes: &[u8]) {
    let answer = target.set_irqs(bytes).unwrap();
    match parsed(bytes) {
        None => assert_eq!(answer, Answer::EFAULT),
        Some(request) => assert_eq!(answer, model.set_irqs(&request), "{request}"),
    }
    let attached: Vec<u32> = match model.mode() {
        Mode::Vectors(vectors) => vectors.attached.keys().copied().collect(),
        Mode::Idle | Mode::Intx(_) => Vec::new(),
    };
    assert_eq!(target.attached(), Some(attached));
}

/// A request, if its header is there.
fn parsed(bytes: &[u8]) -> Option<Request> {
    let (header, data) = bytes.split_at_checked(HEADER)?;
    let word = |n: usize| u32::from_ne_bytes(header[4 * n..4 * n + 4].try_into().unwrap());
    let [argsz, flags, index, start, count] = [0, 1, 2, 3, 4].map(word);
    Some(Request { argsz, flags, index, start, count, data: data.to_vec() })
}
