//! Queues added one after the other while all that are there are at work: on a real kernel, for the
//! lab, whose guests have an NVMe controller, or on an emulated one.
//!
//! ```text
//! vfio-irq-nvme BDF|SOCKET QUEUES METHOD...
//! ```
//!
//! With `verify` for a method, as many threads and queues write to the disk (what was there is gone) and
//! read it back, from one block to as many as a command moves.
//!
//! `METHOD` is `dynamic`, `reenable` (the same on a host that can add vectors), or `release-all`
//! (what was done before hosts could). For each it prints what was counted. A completion that lies in
//! its queue for a second while no interrupt comes is a stall. The exit status is 0 when there was
//! none but with `release-all`, and everything else went well.

use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};
use vfio_irq::{Data, Index, Info, NoResize, SetIrqs, Transport, Trigger};
use vfio_irq_nvme_driver::{
    Buffer, Device, Driver, Function, Memory, Method, Options, Queue, Request, Socket, Stats,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A controller whose machine pauses whenever its interrupts are disabled. Every method of adding a
/// queue pays the same for that. One processor is then enough to see which interrupts are lost.
struct Interrupted<F>(F);

impl<F: Transport> Transport for Interrupted<F> {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.0.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let answer = self.0.set_irqs(request);
        if matches!(request.data, Data::None { count: 0 }) {
            thread::sleep(Duration::from_millis(1));
        }
        answer
    }
}

impl<F: Function> Function for Interrupted<F> {
    fn class(&self) -> io::Result<u32> {
        self.0.class()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read32(&self, offset: u64) -> io::Result<u32> {
        self.0.read32(offset)
    }

    fn write32(&self, offset: u64, value: u32) -> io::Result<()> {
        self.0.write32(offset, value)
    }

    fn ring(&self, offset: u64, value: u32) -> io::Result<()> {
        self.0.ring(offset, value)
    }

    fn set_bus_master(&self, on: bool) -> io::Result<()> {
        self.0.set_bus_master(on)
    }

    fn map(&self, memory: &Memory, address: u64) -> io::Result<()> {
        self.0.map(memory, address)
    }

    fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
        self.0.unmap(address, size)
    }
}

/// Commands under way on each queue: with one, a lost interrupt stops its queue for good.
const DEPTH: u16 = 1;
/// How long the queues work between two that are added.
const BETWEEN: Duration = Duration::from_millis(20);
/// How often a queue without interrupts is looked at, and after how long its interrupt was lost.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const LOST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Error> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: vfio-irq-nvme BDF|SOCKET QUEUES METHOD...";
    let device = arguments.next().ok_or(usage)?;
    let queues: u16 = arguments.next().ok_or(usage)?.parse()?;
    let mut well = true;
    for name in arguments {
        if name == "verify" {
            let options = Options { queues, ..Options::default() };
            let driver = match device.contains('/') {
                true => Driver::open(Socket::connect(&device)?, options)?,
                false => Driver::open(Device::open(&device)?, options)?,
            };
            let bytes = verify(&driver, queues)?;
            println!("verify: {queues} queues, {bytes} bytes written and read back");
            continue;
        }
        let method = match name.as_str() {
            "dynamic" => Method::default(),
            "reenable" => Method::Dynamic(NoResize::Reenable { spare: 0 }),
            "release-all" => Method::ReleaseAll,
            _ => return Err(format!("{name} is none of dynamic, reenable, release-all").into()),
        };
        let options = Options { method, queues, ..Options::default() };
        // A socket has a path.
        let told = if device.contains('/') {
            one_run(Socket::connect(&device)?, options, queues)?
        } else {
            one_run(Device::open(&device)?, options, queues)?
        };
        let Stats { completions, signals, polled, stalls } = told;
        println!(
            "{name}: {queues} queues, {completions} completions, {signals} signals, {polled} polled, {stalls} stalls"
        );
        well &= completions > 0 && (stalls == 0 || method == Method::ReleaseAll);
    }
    Ok(well)
}

/// Writes and reads back from as many threads as there are queues; how many bytes.
fn verify(driver: &Driver, queues: u16) -> Result<u64, Error> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..queues)
            .map(|part| scope.spawn(move || verify_part(driver, part.into(), queues.into())))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64, Error>>| {
            thread.join().map_err(|_| "a thread has failed")?
        };
        threads.into_iter().map(join).sum()
    })
}

fn verify_part(driver: &Driver, part: u64, parts: u64) -> Result<u64, Error> {
    let info = driver.info();
    let start = info.blocks / parts * part;
    let block = usize::try_from(info.block)?;
    let most = usize::try_from(info.transfer.min(info.blocks / parts * info.block))?;
    let mut queue = driver.create_queue(1)?;
    let mut bytes = 0;
    // One page and less, a block more, two pages, lists of pages; each from a buffer of its own.
    for len in [block, 4096, 4096 + block, 8192, 12288, 65536, most - block, most] {
        let (from, into) = (driver.buffer(len)?, driver.buffer(len)?);
        let seed = part << 32 | len as u64;
        let word = |at: u64| (seed ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let data: Vec<u8> = (0..).flat_map(word).take(len).collect();
        from.write(0, &data)?;
        queue.write(start, &from)?;
        queue.flush()?;
        queue.read(start, &into)?;
        let mut back = vec![0; len];
        into.read(0, &mut back)?;
        if back != data {
            return Err(format!("{len} bytes at block {start} came back changed").into());
        }
        bytes += len as u64;
    }
    Ok(bytes)
}

/// Adds queues one by one, and sums up what they counted.
fn one_run(
    function: impl Function + 'static,
    options: Options,
    queues: u16,
) -> Result<Stats, Error> {
    let driver = Driver::open(Interrupted(function), options)?;
    let there = driver.info().queues;
    if there < queues {
        return Err(format!("the controller has {there} I/O queues, not {queues}").into());
    }
    let buffers = driver.buffers(queues.into(), 4096)?;
    let workers = thread::available_parallelism().map_or(1, usize::from).max(2);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let (sender, receiver) = channel();
                let wake = Trigger::new()?;
                let waker = wake.clone();
                let thread = scope.spawn(move || work(&wake, &receiver));
                Ok(Worker { sender, waker, thread })
            })
            .collect::<Result<_, Error>>()?;
        let added = add_all(&driver, &buffers, &workers);
        let mut sum = Stats::default();
        for Worker { sender, waker, thread } in workers {
            drop(sender);
            waker.signal()?;
            let stats = thread.join().map_err(|_| "a worker has failed")??;
            sum.completions += stats.completions;
            sum.signals += stats.signals;
            sum.polled += stats.polled;
            sum.stalls += stats.stalls;
        }
        added?;
        Ok(sum)
    })
}

struct Worker<'scope> {
    sender: Sender<(Queue, Buffer)>,
    waker: Trigger,
    thread: thread::ScopedJoinHandle<'scope, Result<Stats, Error>>,
}

fn add_all(driver: &Driver, buffers: &[Buffer], workers: &[Worker<'_>]) -> Result<(), Error> {
    for (buffer, worker) in buffers.iter().zip(workers.iter().cycle()) {
        let queue = driver.create_queue(DEPTH)?;
        worker.sender.send((queue, buffer.clone())).map_err(|_| "a worker has ended")?;
        worker.waker.signal()?;
        thread::sleep(BETWEEN);
    }
    // The last ones work as well.
    thread::sleep(BETWEEN * 10);
    Ok(())
}

/// Keeps queues at work until the channel closes, then completes the outstanding commands.
fn work(wake: &Trigger, queues: &Receiver<(Queue, Buffer)>) -> Result<Stats, Error> {
    let mut mine: Vec<(Queue, Buffer)> = Vec::new();
    let mut looked = Instant::now();
    loop {
        wake.take();
        let going_on = loop {
            match queues.try_recv() {
                Ok(new) => mine.push(new),
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        if going_on {
            mine.iter_mut().try_for_each(|(queue, buffer)| fill(queue, buffer))?;
        } else if mine.iter().all(|(queue, _)| queue.open() == 0) {
            break;
        }
        let mut waiting: Vec<_> =
            mine.iter().map(|(queue, _)| PollFd::new(queue, PollFlags::IN)).collect();
        waiting.push(PollFd::new(wake, PollFlags::IN));
        rustix::event::poll(&mut waiting, Some(&LOOK))?;
        let told: Vec<bool> = waiting.iter().map(|one| !one.revents().is_empty()).collect();
        let look = looked.elapsed() > LOST / 10;
        for ((queue, _), told) in mine.iter_mut().zip(told) {
            if told || look && queue.untold().is_some_and(|time| time >= LOST) {
                drain(queue)?;
            }
        }
        if look {
            looked = Instant::now();
        }
    }
    let add = |sum: Stats, (queue, _): &(Queue, Buffer)| {
        let stats = queue.stats();
        Stats {
            completions: sum.completions + stats.completions,
            signals: sum.signals + stats.signals,
            polled: sum.polled + stats.polled,
            stalls: sum.stalls + stats.stalls,
        }
    };
    Ok(mine.iter().fold(Stats::default(), add))
}

fn fill(queue: &mut Queue, buffer: &Buffer) -> Result<(), Error> {
    while queue.open() < usize::from(DEPTH) {
        queue.submit(Request::Read { start: 0, blocks: 8, into: buffer }, 0)?;
    }
    Ok(())
}

fn drain(queue: &mut Queue) -> Result<(), Error> {
    let mut failed = None;
    queue.drain(|completion| failed = failed.or(completion.result.err()))?;
    match failed {
        Some(status) => Err(format!("queue {}: {status}", queue.id()).into()),
        None => Ok(()),
    }
}
