//! The client on a real kernel, old or new: for the lab, whose guests have an NVMe controller.
//!
//! ```text
//! vfio-irq-client group|cdev BDF [VECTORS]
//! ```
//!
//! The device comes from its group and a container, or from its character device and an iommufd.
//!
//! First through its descriptor: vectors are added one by one while the controller interrupts all the
//! while, and the interrupts that are lost are counted: the usual way (disable, enable all), and with
//! both policies of `NoResize`. Then through rust-vmm's `VfioDevice`: a request that fails in the
//! middle, the line, the host's request to give the device back.
//!
//! Each queue works as a driver would: it looks for completions only when its eventfd is signalled.
//! A completion without a signal for a second is a lost interrupt. The exit status is 0 when the
//! usual way lost some and ours none, and the rest is as promised.

mod device;
mod sys;

use device::{Opened, Way};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use vfio_ioctls::VfioDevice;
use vfio_irq::{
    Action, Data, Event, Index, Info, KernelDevice, Line, NoResize, SetIrqs, Transport, Trigger,
    Vector, Vectors,
};
use vfio_irq_conformance::devices::Stimulus;
use vfio_irq_conformance::devices::nvme::Controller;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The device, on a machine that does something else for a moment whenever its interrupts are
/// disabled: whoever disables them pays the same, and one processor is enough to see what is lost.
struct Kernel<'fd>(KernelDevice<BorrowedFd<'fd>>);

impl Transport for Kernel<'_> {
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

/// QEMU's controller ends QEMU when its interrupts are disabled while a queue has a vector above 31.
const MOST: u32 = 32;
/// As `vfio_irq_conformance::eventfd::STALL`.
const STALL: Duration = Duration::from_secs(1);
/// How long the queues work between two vectors.
const BETWEEN: Duration = Duration::from_millis(20);

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
    let way = arguments.next().and_then(|word| Way::named(&word));
    let way = way.ok_or("say where the device comes from: group or cdev")?;
    let bdf = arguments.next().ok_or("give the address of an NVMe controller bound to VFIO")?;
    let vectors = arguments.next().map_or(Ok(MOST), |text| text.parse())?;
    let vectors = vectors.clamp(2, MOST);
    let mut as_promised = true;
    for method in [Method::Naive, Method::Reserve, Method::Reenable] {
        let tally = one_run(&Opened::new(way, &bdf)?, method, vectors)?;
        let Tally { completed, delivered, lost } = tally;
        println!(
            "{method:?}: {vectors} vectors, {completed} commands, {delivered} times told, {lost} times not"
        );
        as_promised &= (lost > 0) == (method == Method::Naive) && delivered > 0;
    }
    as_promised &= through_vfio_ioctls(Opened::new(way, &bdf)?)?;
    Ok(as_promised)
}

/// What rust-vmm's device does with these calls.
fn through_vfio_ioctls(opened: Opened) -> Result<bool, Error> {
    let device = opened.device;
    let failing = fails_in_the_middle(&device)?;
    println!("a request that fails in the middle leaves {failing} of 6 vectors");

    let (trigger, resample) = (Trigger::new()?, Trigger::new()?);
    let line = Line::enable_resampled(Arc::clone(&device), &trigger, &resample)?;
    line.loopback()?;
    let line_works = trigger.take() == 1;
    drop(line);
    let event = Event::open(Arc::clone(&device), Index::Req, &trigger)?;
    event.loopback()?;
    let event_works = trigger.take() == 1;
    println!("INTx signals: {line_works}, REQ signals: {event_works}");
    Ok(failing == 6 && line_works && event_works)
}

/// How many of six vectors signal after a request whose fifth eventfd is none.
fn fails_in_the_middle(device: &Arc<VfioDevice>) -> Result<usize, Error> {
    let vectors = Vectors::open(Arc::clone(device), Index::Msix)?;
    let before: Result<Vec<Trigger>, _> = (0..6).map(|_| Trigger::new()).collect();
    let before = before?;
    let held = vectors.enable_many((0..6).zip(&before))?;
    let mut after = before.clone();
    after.rotate_left(1);
    after[4] = Trigger::from(OwnedFd::from(File::open("/dev/null")?));
    if vectors.retarget_many(held.iter().zip(&after)).is_ok() {
        return Err("a file that is no eventfd was attached".into());
    }
    before.iter().for_each(|trigger| _ = trigger.take());
    held.iter().try_for_each(Vector::loopback)?;
    Ok(before.iter().filter(|trigger| trigger.take() == 1).count())
}

/// How a vector is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    /// Disable, then enable all that were there and the new one.
    Naive,
    /// The library, all reserved at first.
    Reserve,
    /// The library, enabling anew.
    Reenable,
}

enum Adder<'d> {
    Naive(Kernel<'d>),
    Library { held: Vec<Vector<Kernel<'d>>>, vectors: Vectors<Kernel<'d>> },
}

impl<'d> Adder<'d> {
    fn new(method: Method, device: BorrowedFd<'d>) -> Result<Self, Error> {
        let device = Kernel(KernelDevice::new(device));
        let policy = match method {
            Method::Naive => return Ok(Self::Naive(device)),
            Method::Reserve => NoResize::default(),
            Method::Reenable => NoResize::Reenable { spare: 0 },
        };
        let vectors = Vectors::with_policy(device, Index::Msix, policy)?;
        println!("{method:?}: {}", vectors.capabilities());
        Ok(Self::Library { held: Vec::new(), vectors })
    }

    fn add(&mut self, number: u32, all: &[Trigger]) -> Result<(), Error> {
        match self {
            Self::Naive(device) => naive(device, all),
            Self::Library { held, vectors } => {
                let trigger = all.last().ok_or("there is no eventfd")?;
                held.push(vectors.enable(number, trigger)?);
                Ok(())
            }
        }
    }
}

fn naive(device: &Kernel<'_>, all: &[Trigger]) -> Result<(), Error> {
    let request = |data| SetIrqs { index: Index::Msix, action: Action::Trigger, start: 0, data };
    if all.len() > 1 {
        device.set_irqs(&request(Data::None { count: 0 }))?;
    }
    let fds: Vec<_> = all.iter().map(|trigger| Some(trigger.as_fd())).collect();
    match device.set_irqs(&request(Data::Eventfd(&fds)))? {
        0 => Ok(()),
        there => Err(format!("the host has {there} vectors only").into()),
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    completed: u64,
    delivered: u64,
    lost: u64,
}

fn one_run(opened: &Opened, method: Method, vectors: u32) -> Result<Tally, Error> {
    let controller = Mutex::new(Controller::new(opened.registers()?, Arc::clone(&opened.dma)));
    let all: Result<Vec<Trigger>, _> = (0..vectors).map(|_| Trigger::new()).collect();
    let (all, ready, stop) = (all?, Mutex::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let load = scope.spawn(|| work(&controller, &all, &ready, &stop));
        let added = add_all(method, sys::fd(&opened.device), &all, |count| {
            let mut controller = controller.lock().map_err(|_| "the load has failed")?;
            controller.ready(Index::Msix, count)?;
            *ready.lock().map_err(|_| "the load has failed")? = count;
            Ok(())
        });
        stop.store(true, SeqCst);
        let tally = load.join().map_err(|_| "the load has failed")??;
        // The vectors stay until the last interrupt has been looked for.
        added.map(|_| tally)
    })
}

/// Adds one vector after the other; what is returned keeps them enabled.
fn add_all<'d>(
    method: Method,
    device: BorrowedFd<'d>,
    all: &[Trigger],
    mut ready: impl FnMut(u32) -> Result<(), Error>,
) -> Result<Adder<'d>, Error> {
    let mut adder = Adder::new(method, device)?;
    for count in 1..=all.len() {
        let number = u32::try_from(count)? - 1;
        adder.add(number, &all[..count])?;
        ready(number + 1)?;
        thread::sleep(BETWEEN);
    }
    Ok(adder)
}

/// Has every queue that is ready work, until it is told to stop; then until none is at work.
fn work(
    controller: &Mutex<Controller>,
    all: &[Trigger],
    ready: &Mutex<u32>,
    stop: &AtomicBool,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut waiting: Vec<Option<Instant>> = vec![None; all.len()];
    loop {
        let stopping = stop.load(SeqCst);
        let count = *ready.lock().map_err(|_| "a vector could not be added")?;
        let mut controller = controller.lock().map_err(|_| "a vector could not be added")?;
        // Queue 0 is the admin queue, which creates the others.
        for (vector, (trigger, waiting)) in (0..count).zip(all.iter().zip(&mut waiting)).skip(1) {
            step(&mut controller, vector, trigger, waiting, stopping, &mut tally)?;
        }
        drop(controller);
        if stopping && waiting.iter().all(Option::is_none) {
            return Ok(tally);
        }
        thread::yield_now();
    }
}

/// Commands under way on a queue that is at work.
const DEPTH: u16 = 16;

fn step(
    controller: &mut Controller,
    vector: u32,
    trigger: &Trigger,
    waiting: &mut Option<Instant>,
    stopping: bool,
    tally: &mut Tally,
) -> Result<(), Error> {
    let signalled = trigger.take() > 0;
    let suspicious = waiting.is_some_and(|since| since.elapsed() > STALL);
    if signalled || suspicious {
        let mut reaped = 0;
        while controller.reap(vector)? {
            reaped += 1;
        }
        tally.completed += reaped;
        if reaped > 0 {
            // The signal may have come this very moment.
            let told = signalled || trigger.take() > 0;
            *(if told { &mut tally.delivered } else { &mut tally.lost }) += 1;
            *waiting = None;
        }
    }
    if controller.open(vector) == 0 {
        *waiting = None;
    }
    if !stopping && waiting.is_none() {
        while controller.open(vector) < DEPTH {
            controller.submit(vector)?;
        }
    }
    if waiting.is_none() && controller.open(vector) > 0 {
        *waiting = Some(Instant::now());
    }
    Ok(())
}
