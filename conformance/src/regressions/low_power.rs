//! Tests of a device in low power.

use super::{Place, Regression, ask, must};
use crate::cases::{check, list, need};
use crate::eventfd::Eventfd;
use crate::vfio::{self, COMMAND, COMMAND_MEMORY, Opener};
use crate::{Answer, Error, Index, Request};
use rustix::fs::MemfdFlags;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const STATE: u16 = 3;
const D0: u16 = 0;
const D3HOT: u16 = 3;
/// How often a vector is detached and attached.
const ROUNDS: u32 = 20;
/// How often BAR 0 is read after each.
const LOOKS: u32 = 20;

/// How often user space writes to configuration space while a request runs.
const WRITES: u32 = 300;
/// How often the device wakes; each wake-up takes ten milliseconds.
const WAKES: u32 = 60;

list! {
    pub(super) ALL: Regression = (place: &Place);

    /// After a request to a device in D3hot, its memory is out of reach.
    fn sleeping_device_stays_out_of_reach {
        // Reads the device's memory during and after requests. A request may wake the device for
        // itself. When the device sleeps again, no mapping may reach its memory.
        let opener = Opener::new(&place.bdf)?;
        let device = opener.open()?;
        let power = device.power_control()?;
        need(power.is_some(), "the device has no power states")?;
        let power = power.unwrap_or(0);
        let (bar, trigger) = (device.bar(0)?, Eventfd::new()?);
        let opened = |source| Error::Descriptor { what: "opened", source };
        let sink = rustix::fs::memfd_create("word", MemfdFlags::CLOEXEC).map_err(opened)?;
        let reachable = || bar.reachable(0, sink.as_fd());
        let attach = Request::attach(Index::Msix, 0, &[trigger.number()]);
        let detach = Request::attach(Index::Msix, 0, &[-1]);
        must(&device, &attach)?;
        check(reachable()?, || "BAR 0 of a device that is awake cannot be read".into())?;
        device.config_write16(power, D3HOT)?;

        let asleep_and_out_of_reach = |when: &str| {
            let state = vfio::hardware16(&place.bdf, power)? & STATE;
            check(state == D3HOT, || format!("{when}: the device is in D{state}, not D3hot"))?;
            for _ in 0..LOOKS {
                check(!reachable()?, || format!("{when}: BAR 0 can be read in D3hot"))?;
            }
            Ok(())
        };
        asleep_and_out_of_reach("put to sleep")?;
        let stopping = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stopping.load(Relaxed) && reachable().is_ok() {
                    std::thread::yield_now();
                }
            });
            let held = (0..ROUNDS).try_for_each(|_| {
                must(&device, &detach)?;
                asleep_and_out_of_reach("after a detach")?;
                must(&device, &attach)?;
                asleep_and_out_of_reach("after an attach")
            });
            stopping.store(true, Relaxed);
            held
        })
    }

    /// What user space writes to configuration space during a request is not undone.
    fn writes_during_a_request_hold {
        // Writes to configuration space during requests. A request wakes the device for itself and
        // restores it. Writes of user space in between must hold.
        let device = Opener::new(&place.bdf)?.open()?;
        let power = device.power_control()?;
        let trigger = Eventfd::new()?;
        let attach = Request::attach(Index::Msix, 0, &[trigger.number()]);
        let detach = Request::attach(Index::Msix, 0, &[-1]);
        must(&device, &attach)?;
        let race = |register: u64, from: u16, to: u16, rounds: u32, mask: u16| {
            for round in 0..rounds {
                device.config_write16(register, from)?;
                std::thread::scope(|scope| {
                    let both = || must(&device, &detach).and(must(&device, &attach));
                    let requests = scope.spawn(both);
                    // Each round waits a different time, so that the write hits another moment of
                    // the requests.
                    (0..round * 97 % 20_000).for_each(|_| std::hint::spin_loop());
                    device.config_write16(register, to)?;
                    requests.join().unwrap_or_else(|_| check(false, || "a thread died".into()))
                })?;
                let now = vfio::hardware16(&place.bdf, register)? & mask;
                check(now == to, || {
                    format!("round {round}: {register:#x} is {now:#x}, and {to:#x} was written")
                })?;
            }
            Ok(())
        };
        race(COMMAND, 0, COMMAND_MEMORY, WRITES, COMMAND_MEMORY)?;
        match power {
            Some(power) => race(power, D3HOT, D0, WAKES, STATE),
            None => Ok(()),
        }
    }

    /// Enabling MSI-X of a device in D3hot is EINVAL.
    fn sleeping_device_refuses_to_enable {
        // Enables MSI-X on a device in D3hot, which must fail: the kernel allocates no vectors for
        // it.
        let device = Opener::new(&place.bdf)?.open()?;
        let power = device.power_control()?;
        need(power.is_some(), "the device has no power states")?;
        let power = power.unwrap_or(0);
        let trigger = Eventfd::new()?;
        let attach = Request::attach(Index::Msix, 0, &[trigger.number()]);
        device.config_write16(power, D3HOT)?;
        let answer = ask(&device, &attach)?;
        check(answer == Answer::EINVAL, || format!("enabling in D3hot answered {answer}"))?;
        device.config_write16(power, D0)?;
        must(&device, &attach)
    }

    /// Closing a device in low power does not signal its wake-up eventfd.
    fn close_signals_no_wakeup {
        // Closes a device in low power. Closing wakes the device, but must not signal its wake-up
        // eventfd.
        let opener = Opener::new(&place.bdf)?;
        let device = opener.open()?;
        let (trigger, wakeup) = (Eventfd::new()?, Eventfd::new()?);
        must(&device, &Request::attach(Index::Msix, 0, &[trigger.number()]))?;
        let answer = crate::sys::enter_low_power(device.fd(), wakeup.number());
        need(answer != Answer::ENOTTY, "this kernel has no low-power feature")?;
        check(answer == Answer::OK, || format!("entering low power answered {answer}"))?;
        drop(device);
        let signals = wakeup.take();
        check(signals == 0, || format!("closing signalled the wake-up eventfd {signals} times"))
    }
}
