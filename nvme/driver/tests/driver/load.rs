//! Several queues from several threads, queues that come and go.

use crate::emulated::{Emulated, finish, pattern, wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use vfio_irq::NoResize;
use vfio_irq_nvme_driver::{Buffer, Driver, Error, Method, Queue, Request};

const DYNAMIC: Method = Method::Dynamic(NoResize::ReserveAll { most: u32::MAX });

/// Blocks of each thread's part of the disk.
const PART: u64 = 4096;

#[test]
fn what_several_threads_write_is_what_they_read() {
    let emulated = Emulated::new(4);
    let driver = emulated.driver(DYNAMIC);
    let transfer = usize::try_from(driver.info().transfer).unwrap();
    assert_eq!(transfer, 1 << 20);
    thread::scope(|scope| {
        for part in 0..4 {
            let driver = &driver;
            scope.spawn(move || {
                let mut queue = driver.create_queue(8).unwrap();
                // One page, less, a little more, two, a list, the longest list.
                for len in [4096, 512, 4608, 8192, 12 << 10, 65536, (1 << 20) - 512, transfer] {
                    there_and_back(driver, &mut queue, part, len);
                }
                queue.flush().unwrap();
                assert_eq!(queue.stats().stalls, 0);
                queue.delete().unwrap();
            });
        }
    });
    driver.close().unwrap();
}

fn there_and_back(driver: &Driver, queue: &mut Queue, part: u64, len: usize) {
    let (from, into) = (driver.buffer(len).unwrap(), driver.buffer(len).unwrap());
    let data = pattern(part << 24 | len as u64, len);
    from.write(0, &data).unwrap();
    queue.write(part * PART, &from).unwrap();
    queue.read(part * PART, &into).unwrap();
    let mut back = vec![0; len];
    into.read(0, &mut back).unwrap();
    assert!(back == data, "{len} bytes of part {part} came back changed");
    queue.write_zeroes(part * PART, 1).unwrap();
    queue.read(part * PART, &into).unwrap();
    into.read(0, &mut back).unwrap();
    assert!(back[..512] == [0; 512] && back[512..] == data[512..]);
}

#[test]
fn many_commands_at_one_time_end_each_once() {
    let emulated = Emulated::new(1);
    let driver = emulated.driver(DYNAMIC);
    let mut queue = driver.create_queue(31).unwrap();
    let buffers = driver.buffers(31, 4096).unwrap();
    for round in 0..50_u64 {
        for (token, from) in (0..).zip(&buffers) {
            from.write(0, &pattern(round << 8 | token, 4096)).unwrap();
            queue.submit(Request::Write { start: 8 * token, blocks: 8, from }, token).unwrap();
        }
        let full = queue.submit(Request::Flush, 99).unwrap_err();
        assert!(matches!(full, Error::Full { queue: 1, depth: 31 }), "{full}");
        let mut seen = vec![0; buffers.len()];
        finish(&mut queue, |done| {
            done.result.unwrap();
            seen[usize::try_from(done.token).unwrap()] += 1;
        });
        assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
    }
    for (token, into) in (0..).zip(&buffers) {
        queue.read(8 * token, into).unwrap();
        let mut back = vec![0; 4096];
        into.read(0, &mut back).unwrap();
        assert!(back == pattern(49 << 8 | token, 4096));
    }
    let stats = queue.stats();
    assert_eq!((stats.completions, stats.stalls), (50 * 31 + 31, 0));
    // Every signal is counted, on both sides.
    emulated.signalled(1..2, stats.signals);
}

/// Keeps a queue at work, and looks at what it reads.
fn keep_busy(queue: &mut Queue, from: &Buffer, into: &Buffer, stop: &AtomicBool) {
    let start = u64::from(queue.id()) * 64;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let data = pattern(start + round, 4096);
        from.write(0, &data).unwrap();
        let requests =
            [Request::Write { start, blocks: 8, from }, Request::Read { start, blocks: 8, into }];
        for request in requests {
            queue.submit(request, round).unwrap();
            wait(queue, |done| assert_eq!((done.token, done.result), (round, Ok(0))));
        }
        let mut back = vec![0; 4096];
        into.read(0, &mut back).unwrap();
        assert!(back == data, "queue {} round {round}", queue.id());
    }
}

fn come_and_go(method: Method) -> u64 {
    let emulated = Emulated::new(8);
    let driver = emulated.driver(method);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (driver, stop) = (&driver, &stop);
                scope.spawn(move || {
                    let mut queue = driver.create_queue(1).unwrap();
                    let [from, into] = [(); 2].map(|()| driver.buffer(4096).unwrap());
                    keep_busy(&mut queue, &from, &into, stop);
                    queue.stats().stalls
                })
            })
            .collect();
        let buffer = driver.buffer(512).unwrap();
        for round in 0..40 {
            let mut queue = driver.create_queue(4).unwrap();
            queue.read(round, &buffer).unwrap();
            match round % 2 {
                0 => queue.delete().unwrap(),
                // With a command whose completion was not taken.
                _ => queue.submit(Request::Flush, 0).unwrap(),
            }
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

#[test]
fn queues_come_and_go_and_the_others_lose_nothing() {
    assert_eq!(come_and_go(DYNAMIC), 0);
}

/// Interrupts are lost between, which is found and counted; nothing else goes wrong.
#[test]
fn queues_come_and_go_the_old_way() {
    come_and_go(Method::ReleaseAll);
}

fn sixty_three(method: Method) {
    let emulated = Emulated::new(63);
    let driver = emulated.driver(method);
    assert_eq!(driver.info().queues, 63);
    let buffer = driver.buffer(512).unwrap();
    let mut queues: Vec<Queue> = (0..63).map(|_| driver.create_queue(2).unwrap()).collect();
    let error = driver.create_queue(2).unwrap_err();
    assert!(matches!(error, Error::NoQueue { most: 63 }), "{error}");
    for (id, queue) in (1..).zip(&mut queues) {
        assert_eq!(queue.id(), id);
        queue.read(u64::from(id), &buffer).unwrap();
        assert_eq!(queue.stats().signals, 1, "queue {id}");
    }
    emulated.signalled(1..64, 1);
    // One goes; its number, its place and its vector are the next one's.
    let gone = queues.remove(30);
    let (id, trigger) = (gone.id(), gone.trigger().clone());
    drop(gone);
    let mut next = driver.create_queue(2).unwrap();
    assert_eq!(next.id(), id);
    next.read(0, &buffer).unwrap();
    assert_eq!((next.stats().signals, trigger.take()), (1, 0));
}

#[test]
fn sixty_three_queues_have_a_vector_each() {
    sixty_three(DYNAMIC);
}

#[test]
fn sixty_three_queues_have_a_vector_each_the_old_way() {
    sixty_three(Method::ReleaseAll);
}
