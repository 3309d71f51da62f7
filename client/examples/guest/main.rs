//! The client on a real kernel, for the lab, whose guests have an NVMe controller.
//!
//! ```text
//! vfio-irq-client group|cdev BDF [VECTORS]
//! ```
//!
//! The device comes from its group and a container, or from its character device and an iommufd.
//!
//! The first part uses the device's descriptor. It adds vectors one by one while the controller
//! interrupts, and counts lost interrupts: with disable and enable of all, and with both policies
//! of `NoResize`. The second part uses rust-vmm's `VfioDevice`: a request that fails in the
//! middle, INTx, and REQ.
//!
//! Each queue works as a driver does: it polls completions only after its eventfd is signalled.
//! If a completion has no signal for a second, its interrupt is lost. The exit status is 0 if
//! disable and enable lost interrupts, the library lost none, and every other check passed.

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
    Action, Data, Event, Index, Info, Intx, KernelDevice, NoResize, SetIrqs, Transport, Trigger,
    Vector, Vectors,
};
use vfio_irq_conformance::devices::Stimulus;
use vfio_irq_conformance::devices::nvme::Controller;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The device, with a sleep after each disable. All three ways of adding a vector have the same
/// delay, and one processor is enough to lose interrupts.
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

/// QEMU's controller ends QEMU when its interrupts are disabled while a queue has a vector above
/// 31.
const MOST: u32 = 32;
/// As `vfio_irq_conformance::eventfd::STALL`.
const STALL: Duration = Duration::from_secs(1);
/// Time that the queues work between two vectors.
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

/// Runs these calls on rust-vmm's device.
fn through_vfio_ioctls(opened: Opened) -> Result<bool, Error> {
    let device = opened.device;
    let failing = fails_in_the_middle(&device)?;
    println!("a request that fails in the middle leaves {failing} of 6 vectors");

    let (trigger, resample) = (Trigger::new()?, Trigger::new()?);
    let intx = Intx::enable_resampled(Arc::clone(&device), &trigger, &resample)?;
    intx.loopback()?;
    let line_works = trigger.take() == 1;
    drop(intx);
    let event = Event::open(Arc::clone(&device), Index::Req, &trigger)?;
    event.loopback()?;
    let event_works = trigger.take() == 1;
    println!("INTx signals: {line_works}, REQ signals: {event_works}");
    Ok(failing == 6 && line_works && event_works)
}

/// Returns how many of six vectors signal after a request whose fifth descriptor is not an eventfd.
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

/// The way in which a vector is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    /// Disable, then enable the previous vectors and the new one.
    Naive,
    /// The library with `NoResize::ReserveAll`.
    Reserve,
    /// The library with `NoResize::Reenable`.
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
        // The vectors stay attached until the last check for a lost interrupt.
        added.map(|_| tally)
    })
}

/// Adds one vector at a time. Returns the handles, which keep the vectors enabled.
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

/// Runs every ready queue until `stop` is set, and then until all commands are complete.
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

/// Commands in flight on a busy queue.
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
            // The signal can arrive between the two checks.
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
