//! What comes and goes: queues, the driver, the controller.

use crate::emulated::{Emulated, PATIENCE};
use crate::puppet::{Puppet, Script, State};
use std::sync::Arc;
use std::time::Instant;
use vfio_irq::NoResize;
use vfio_irq_nvme_driver::{Driver, Error, Method, Options, Queue, Request};

const METHODS: [Method; 3] = [
    Method::Dynamic(NoResize::ReserveAll { most: u32::MAX }),
    Method::Dynamic(NoResize::Reenable { spare: 0 }),
    Method::ReleaseAll,
];

fn vectors(puppet: &Puppet) -> Vec<u32> {
    puppet.see(|state| state.vectors.keys().copied().collect())
}

#[test]
fn a_vector_is_attached_as_long_as_its_queue_exists() {
    for method in METHODS {
        let puppet = Puppet::new(Script::default());
        let options = Options { method, ..Options::default() };
        let driver = Driver::open(puppet.clone(), options).unwrap();
        assert_eq!(driver.info().queues, 8);
        let mut queues: Vec<_> = (0..8).map(|_| driver.create_queue(4).unwrap()).collect();
        assert_eq!(vectors(&puppet), (0..9).collect::<Vec<_>>());
        drop(queues.remove(2));
        queues.remove(4).delete().unwrap();
        assert_eq!(vectors(&puppet), [0, 1, 2, 4, 5, 7, 8], "{method:?}");
        let again = driver.create_queue(4).unwrap();
        assert_eq!((again.id(), vectors(&puppet)), (3, vec![0, 1, 2, 3, 4, 5, 7, 8]));
        queues.push(again);
        for queue in &mut queues {
            queue.flush().unwrap();
        }
        drop(queues);
        driver.close().unwrap();
        assert!(puppet.see(State::disabled));
    }
}

#[test]
fn closing_shuts_the_controller_down_and_gives_everything_back() {
    let puppet = Puppet::new(Script::default());
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let mut queue = driver.create_queue(4).unwrap();
    let buffer = driver.buffer(512).unwrap();
    queue.read(0, &buffer).unwrap();
    driver.close().unwrap();
    puppet.see(|state| {
        let [.., normal, off] = state.configured[..] else { panic!("{:?}", state.configured) };
        assert_eq!((normal >> 14 & 3, normal & 1, off), (1, 1, 0));
        assert!(!state.master && state.disabled());
    });
    assert!(matches!(queue.read(0, &buffer), Err(Error::Closed)));
    assert!(matches!(queue.submit(Request::Flush, 0), Err(Error::Closed)));
    assert!(matches!(queue.check(), Err(Error::Closed)));
    queue.delete().unwrap();
    drop(buffer);
    assert!(puppet.see(|state| state.maps.is_empty()));
}

#[test]
fn a_queue_that_the_controller_refuses_leaves_nothing() {
    // Create I/O Submission Queue ends with "invalid queue size", once.
    let refuse = std::sync::atomic::AtomicBool::new(true);
    let complete = move |_: u16, opcode: u32, end: &mut [u32; 4]| {
        if opcode == 1 && refuse.swap(false, std::sync::atomic::Ordering::Relaxed) {
            end[3] |= 0x102 << 17;
        }
        true
    };
    let script = Script { complete: Arc::new(complete), ..Script::default() };
    let puppet = Puppet::new(script);
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let maps = puppet.see(|state| state.maps.len());
    let error = driver.create_queue(4).unwrap_err();
    assert!(error.to_string().contains("invalid queue size"), "{error}");
    assert_eq!((vectors(&puppet), puppet.see(|state| state.maps.len())), (vec![0], maps));
    assert_eq!(puppet.see(|state| state.commands.last().copied()), Some(4), "it goes as it came");
    assert_eq!(driver.create_queue(4).unwrap().id(), 1);
}

#[test]
fn a_queue_that_the_controller_keeps_keeps_its_memory_until_the_end() {
    let complete = |_: u16, opcode: u32, end: &mut [u32; 4]| {
        end[3] |= if opcode == 0 { 6 << 17 } else { 0 };
        true
    };
    // Flush has the same number, so the queue itself is left alone.
    let complete = move |queue: u16, opcode: u32, end: &mut [u32; 4]| {
        queue != 0 || complete(queue, opcode, end)
    };
    let puppet = Puppet::new(Script { complete: Arc::new(complete), ..Script::default() });
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let queue = driver.create_queue(4).unwrap();
    let maps = puppet.see(|state| state.maps.len());
    let error = queue.delete().unwrap_err();
    assert!(error.to_string().contains("internal error"), "{error}");
    assert_eq!((vectors(&puppet), puppet.see(|state| state.maps.len())), (vec![0], maps));
    assert_eq!(driver.create_queue(4).unwrap().id(), 2);
    driver.close().unwrap();
    assert!(puppet.see(|state| state.maps.is_empty()));
}

/// If the completion queue is not deleted either, half of the queue stays. The driver does not use its
/// number or its memory again, and the next queue is another.
#[test]
fn half_a_queue_that_stays_is_not_used_again() {
    let refuse = std::sync::atomic::AtomicBool::new(true);
    let complete = move |_: u16, opcode: u32, end: &mut [u32; 4]| {
        if matches!(opcode, 1 | 4) && refuse.load(std::sync::atomic::Ordering::Relaxed) {
            // Invalid queue size, and internal error.
            end[3] |= if opcode == 1 { 0x102 << 17 } else { 6 << 17 };
            refuse.store(opcode == 1, std::sync::atomic::Ordering::Relaxed);
        }
        true
    };
    let puppet = Puppet::new(Script { complete: Arc::new(complete), ..Script::default() });
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let maps = puppet.see(|state| state.maps.len());
    let error = driver.create_queue(4).unwrap_err();
    // What was wrong first is said.
    assert!(error.to_string().contains("invalid queue size"), "{error}");
    assert_eq!((vectors(&puppet), puppet.see(|state| state.maps.len())), (vec![0], maps + 1));
    assert_eq!(driver.create_queue(4).unwrap().id(), 2);
    driver.close().unwrap();
    assert!(puppet.see(|state| state.maps.is_empty()));
}

/// Commands of a queue that never end.
fn endless() -> Script {
    let complete = |queue: u16, _: u32, _: &mut [u32; 4]| queue == 0;
    Script { complete: Arc::new(complete), ..Script::default() }
}

/// Waits as a program does: for its descriptor alone.
fn wait(queue: &Queue) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let most = Timespec { tv_sec: 20, tv_nsec: 0 };
    let woken = poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&most)).unwrap();
    assert_eq!(woken, 1, "the waiting thread is woken");
}

#[test]
fn closing_wakes_those_who_wait() {
    let driver = Driver::open(Puppet::new(endless()), Options::default()).unwrap();
    let mut queues = [4, 4].map(|depth| driver.create_queue(depth).unwrap());
    for queue in &mut queues {
        queue.submit(Request::Flush, 0).unwrap();
    }
    std::thread::scope(|scope| {
        for queue in &mut queues {
            scope.spawn(move || {
                wait(queue);
                assert!(matches!(queue.drain(|_| panic!("none ends")), Err(Error::Closed)));
            });
        }
        driver.close().unwrap();
    });
}

#[test]
fn what_ended_before_closing_is_handed_out_and_then_the_end() {
    let driver = Driver::open(Puppet::new(Script::default()), Options::default()).unwrap();
    let mut queue = driver.create_queue(4).unwrap();
    queue.submit(Request::Flush, 0).unwrap();
    driver.close().unwrap();
    wait(&queue);
    assert_eq!(queue.drain(|_| {}).unwrap(), 1);
    wait(&queue);
    assert!(matches!(queue.drain(|_| panic!("there was one")), Err(Error::Closed)));
}

#[test]
fn closing_ends_a_call_that_waits() {
    let (tell, told) = std::sync::mpsc::channel();
    let complete = move |queue: u16, _: u32, _: &mut [u32; 4]| {
        if queue > 0 {
            tell.send(()).unwrap();
        }
        queue == 0
    };
    let script = Script { complete: Arc::new(complete), ..Script::default() };
    let options = Options { timeout: PATIENCE * 2, ..Options::default() };
    let driver = Driver::open(Puppet::new(script), options).unwrap();
    let mut queue = driver.create_queue(4).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| queue.flush());
        // The controller has the command.
        told.recv().unwrap();
        driver.close().unwrap();
        let error = waits.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
    });
}

/// A vector that is told of again after it was attached anew has nothing new.
#[test]
fn a_signal_without_a_completion_is_no_completion() {
    let puppet = Puppet::new(Script::default());
    let driver = Driver::open(puppet, Options::default()).unwrap();
    let mut queue = driver.create_queue(4).unwrap();
    queue.trigger().signal().unwrap();
    assert_eq!(queue.drain(|_| panic!("there is none")).unwrap(), 0);
    queue.trigger().signal().unwrap();
    queue.flush().unwrap();
    let stats = queue.stats();
    assert_eq!((stats.completions, stats.signals, stats.polled, stats.stalls), (1, 3, 0, 0));
}

/// Without its interrupt, a command ends all the same, a second later, and is counted.
#[test]
fn a_lost_interrupt_is_a_stall() {
    let puppet = Puppet::new(Script::default());
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let mut queue = driver.create_queue(4).unwrap();
    puppet.state.lock().unwrap().vectors.remove(&1);
    queue.flush().unwrap();
    let stats = queue.stats();
    assert_eq!((stats.completions, stats.signals, stats.polled, stats.stalls), (1, 0, 1, 1));
}

#[test]
fn a_controller_that_goes_away_is_an_error_for_everybody() {
    let emulated = Emulated::new(2);
    let driver = emulated.driver(Method::default());
    let mut queue = driver.create_queue(4).unwrap();
    let buffer = driver.buffer(512).unwrap();
    queue.read(0, &buffer).unwrap();
    drop(emulated);
    let since = Instant::now();
    let error = queue.read(0, &buffer).unwrap_err();
    assert!(matches!(error, Error::Access { .. }), "{error}");
    assert!(driver.create_queue(4).is_err());
    assert!(queue.delete().is_err());
    assert!(driver.close().is_err());
    assert!(since.elapsed() < PATIENCE);
}

#[test]
fn a_controller_that_goes_away_under_load_is_an_error_for_everybody() {
    let emulated = Emulated::new(4);
    let driver = emulated.driver(Method::default());
    let (ready, started) = std::sync::mpsc::channel();
    let since = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (driver, ready) = (&driver, ready.clone());
            scope.spawn(move || {
                let mut queue = driver.create_queue(4).unwrap();
                let buffer = driver.buffer(4096).unwrap();
                queue.read(0, &buffer).unwrap();
                ready.send(()).unwrap();
                let error = (0..).find_map(|_| queue.read(0, &buffer).err()).unwrap();
                assert!(matches!(error, Error::Access { .. }), "{error}");
            });
        }
        started.iter().take(4).for_each(drop);
        drop(emulated);
    });
    assert!(since.elapsed() < PATIENCE);
}

#[test]
fn a_controller_is_opened_again_after_it_was_closed_and_after_it_was_not() {
    let emulated = Emulated::new(2);
    for _ in 0..3 {
        let driver = emulated.driver(Method::default());
        let mut queue = driver.create_queue(4).unwrap();
        queue.read(0, &driver.buffer(512).unwrap()).unwrap();
        // The queue goes after the driver.
        drop(driver);
        assert!(matches!(queue.flush(), Err(Error::Closed)));
    }
}

#[test]
fn memory_is_mapped_as_long_as_a_command_uses_it() {
    let complete = |queue: u16, _: u32, _: &mut [u32; 4]| queue == 0;
    let puppet = Puppet::new(Script { complete: Arc::new(complete), ..Script::default() });
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let before = puppet.see(|state| state.maps.len());
    let mut queue = driver.create_queue(4).unwrap();
    let into = driver.buffer(512).unwrap();
    queue.submit(Request::Read { start: 0, blocks: 1, into: &into }, 0).unwrap();
    drop(into);
    assert_eq!(puppet.see(|state| state.maps.len()), before + 2);
    queue.delete().unwrap();
    assert_eq!(puppet.see(|state| state.maps.len()), before);
}

#[test]
fn addresses_are_used_again_and_by_one_at_a_time() {
    let puppet = Puppet::new(Script::default());
    let driver = Driver::open(puppet.clone(), Options::default()).unwrap();
    let mut held = std::collections::VecDeque::new();
    for round in 0..500_usize {
        held.push_back(driver.buffer(1 + round * 7919 % 100_000).unwrap());
        if held.len() > 20 {
            held.remove(round % 20);
        }
        puppet.see(|state| {
            let ends = state.maps.iter().map(|(start, (_, size))| start + size);
            assert!(state.maps.keys().skip(1).zip(ends).all(|(next, end)| end <= *next));
        });
    }
    // 22 pieces of 26 pages at most, and holes between.
    let (first, last) = puppet
        .see(|state| (*state.maps.keys().next().unwrap(), *state.maps.keys().last().unwrap()));
    assert!(last - first < 8 << 20, "{first:#x} to {last:#x}");
}
