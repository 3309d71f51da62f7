//! Queues that work while more are added one by one.

use super::Method;
use super::machine::Machine;
use super::progress::{Progress, Seen};
use super::record::{Lane, Run};
use crate::error::Error;
use crate::stop::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};
use vfio_irq_nvme_driver::{Buffer, Queue, Request};

/// Bytes that each command reads.
const BYTES: usize = 4096;
/// How often a queue without an interrupt polls for completions.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A completion without an interrupt for this long is a stall.
const STALL: Duration = Duration::from_secs(1);
/// A controller that completes nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One run of the demo.
pub struct Load {
    /// How vectors are added.
    pub method: Method,
    /// The number of queues.
    pub queues: u16,
    /// The time between two queues.
    pub interval: Duration,
}

/// The state that all queues share.
struct Shared {
    begin: Instant,
    over: AtomicBool,
    completed: AtomicU64,
    stalls: AtomicU64,
}

/// An idle queue, and its line of the picture.
type Worked = Result<(Queue, Lane), Error>;

impl Load {
    /// Adds the queues, and counts.
    pub fn run(
        &self,
        machine: &Machine,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<(Run, Vec<Lane>), Error> {
        let buffers = machine.driver.buffers(self.queues.into(), BYTES)?;
        let shared = Shared {
            begin: Instant::now(),
            over: AtomicBool::new(false),
            completed: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        };
        let mut longest_add = Duration::ZERO;
        let worked = thread::scope(|scope| {
            let mut workers: Vec<ScopedJoinHandle<'_, Worked>> = Vec::new();
            let watched = Watched { shared: &shared, progress, stop };
            let added = (1..).zip(&buffers).try_for_each(|(number, buffer)| {
                if shared.is_over() {
                    return Ok(());
                }
                let asked = Instant::now();
                let queue = machine.driver.create_queue(1)?;
                longest_add = longest_add.max(asked.elapsed());
                let shared = &shared;
                let worker = thread::Builder::new().name(format!("queue {}", queue.id()));
                let worker = worker.spawn_scoped(scope, move || work(queue, buffer, shared));
                workers.push(worker.map_err(|error| {
                    Error::plain(format!("no thread for another queue: {error}"))
                })?);
                progress.added(shared.seen(number));
                watched.pause(self.interval, number);
                Ok(())
            });
            watched.pause(self.interval * 5, self.queues);
            shared.over.store(true, Ordering::Relaxed);
            let worked: Vec<Worked> = workers.into_iter().map(join).collect();
            added.and_then(|()| worked.into_iter().collect::<Result<Vec<_>, Error>>())
        })?;
        let mut run = Run {
            method: self.method,
            queues: self.queues,
            completed: 0,
            raised: 0,
            delivered: 0,
            lost: 0,
            stalls: 0,
            longest_gap_us: 0,
            longest_add_us: micros(longest_add),
        };
        let mut lanes = Vec::new();
        for (queue, lane) in worked {
            run.add(machine, queue, &lane)?;
            lanes.push(lane);
        }
        Ok((run, lanes))
    }
}

impl Run {
    /// Ends an idle queue, and adds its counts.
    fn add(&mut self, machine: &Machine, queue: Queue, lane: &Lane) -> Result<(), Error> {
        let (id, stats, trigger) = (queue.id(), queue.stats(), queue.trigger().clone());
        // After the deletion no interrupt is in flight: the eventfd's value is final.
        queue.delete()?;
        let signals = stats.signals + trigger.take();
        let (raised, delivered) = match machine.raised(id) {
            Some(raised) => (raised, signals),
            None => (stats.completions, stats.completions.saturating_sub(stats.stalls)),
        };
        self.completed += stats.completions;
        self.raised += raised;
        self.delivered += delivered;
        self.lost += raised.saturating_sub(delivered);
        self.stalls += stats.stalls;
        self.longest_gap_us = self.longest_gap_us.max(micros(lane.longest_gap));
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn seen(&self, queues: u16) -> Seen {
        let (completed, stalls) = (&self.completed, &self.stalls);
        let [completed, stalls] = [completed, stalls].map(|count| count.load(Ordering::Relaxed));
        Seen { queues, raised: completed, stalls }
    }
}

/// Queues at work, with the observers of the run.
struct Watched<'r> {
    shared: &'r Shared,
    progress: &'r Progress,
    stop: &'r Stop,
}

impl Watched<'_> {
    /// Lets the queues work for a while, unless a queue has failed or a signal asks for the end.
    fn pause(&self, time: Duration, queues: u16) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.shared.is_over() {
            if self.stop.is_asked() {
                self.shared.over.store(true, Ordering::Relaxed);
            }
            self.progress.look(self.shared.seen(queues));
            thread::sleep(until.saturating_duration_since(Instant::now()).min(STALL / 20));
        }
    }
}

fn join(worker: ScopedJoinHandle<'_, Worked>) -> Worked {
    worker.join().unwrap_or_else(|_| Err(Error::plain("a queue's thread has failed")))
}

/// Keeps one command outstanding until the run ends, as a program does that reads and waits.
fn work(queue: Queue, buffer: &Buffer, shared: &Shared) -> Worked {
    let worked = go_on(queue, buffer, shared);
    if worked.is_err() {
        shared.over.store(true, Ordering::Relaxed);
    }
    worked
}

fn go_on(mut queue: Queue, buffer: &Buffer, shared: &Shared) -> Worked {
    let mut lane = Lane::new(shared.begin.elapsed());
    let mut heard = Instant::now();
    let mut failed = None;
    loop {
        if queue.open() == 0 {
            if shared.is_over() {
                return Ok((queue, lane));
            }
            queue.submit(Request::Read { start: 0, blocks: 8, into: buffer }, 0)?;
        }
        let told = poll(&mut [PollFd::new(&queue, PollFlags::IN)], Some(&LOOK));
        let told = match told {
            Ok(ready) => ready > 0,
            // A signal for the program does not concern the queue.
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::plain(format!("cannot wait: {error}"))),
        };
        let stalled = !told && queue.untold().is_some_and(|time| time >= STALL);
        if told || stalled {
            let done = queue.drain(|done| failed = failed.or(done.result.err()))?;
            if done > 0 {
                heard = Instant::now();
                lane.note(shared.begin.elapsed(), stalled);
                shared.completed.fetch_add(1, Ordering::Relaxed);
                shared.stalls.fetch_add(stalled.into(), Ordering::Relaxed);
            }
        }
        if let Some(status) = failed {
            return Err(Error::plain(format!("queue {} was refused: {status}", queue.id())));
        }
        if heard.elapsed() > PATIENCE {
            queue.check()?;
            let what = format!("queue {} has no answer for {PATIENCE:?}", queue.id());
            return Err(Error::new(what, "the device does not work: look at the kernel's log"));
        }
    }
}
