//! Controllers that lie: every answer is an error, none a panic, a hang or an access elsewhere.

use crate::puppet::{CAP, Puppet, Script};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use vfio_irq_nvme_driver::{Driver, Error, Method, Options, Queue, Request};

fn options() -> Options {
    Options { timeout: Duration::from_millis(200), ..Options::default() }
}

fn refused(script: Script) -> Error {
    refused_with(script.clone(), Method::ReleaseAll);
    refused_with(script, Method::default())
}

fn refused_with(script: Script, method: Method) -> Error {
    let puppet = Puppet::new(script);
    let options = Options { method, ..options() };
    let error = Driver::open(puppet.clone(), options).map(|_| "opened").unwrap_err();
    puppet.see(|state| {
        assert!(state.maps.is_empty(), "memory stays mapped after {error}");
        assert!(state.disabled() && !state.master, "after {error}");
    });
    error
}

#[test]
fn a_controller_that_does_not_start_is_an_error() {
    let status = |status| Script { status, ..Script::default() };
    let never = refused(status(|said| said & !1));
    assert!(matches!(never, Error::NotReady { wanted: "ready", .. }), "{never}");
    let always = refused(status(|said| said | 1));
    assert!(matches!(always, Error::NotReady { wanted: "disabled", .. }), "{always}");
    let fatal = refused(status(|said| if said & 1 != 0 { 3 } else { said }));
    assert!(matches!(fatal, Error::Fatal), "{fatal}");
    let gone = refused(status(|_| u32::MAX));
    assert!(matches!(gone, Error::Gone), "{gone}");
    let gone = refused(Script { cap: u64::MAX, ..Script::default() });
    assert!(matches!(gone, Error::Gone), "{gone}");
}

#[test]
fn a_device_that_is_something_else_is_not_written_to() {
    let puppet = Puppet::new(Script { class: 0x02_0000, ..Script::default() });
    let error = Driver::open(puppet.clone(), options()).map(|_| "opened").unwrap_err();
    assert!(error.to_string().contains("its class is 0x020000, and 0x010802 would be"), "{error}");
    assert!(puppet.see(|state| state.configured.is_empty()));
}

#[test]
fn capabilities_that_make_no_sense_are_an_error() {
    for cap in [0, CAP & !(1 << 37), CAP & !0xffff, CAP | 15 << 32, CAP | 15 << 48, u64::MAX - 1] {
        let error = refused(Script { cap, ..Script::default() });
        assert!(matches!(error, Error::Unfit(_)), "{cap:#x}: {error}");
    }
}

#[test]
fn identities_that_make_no_sense_are_an_error() {
    let cases: [fn(u32, &mut [u8]); 6] = [
        // No namespace; no blocks; more bytes than there can be; blocks of 1, of 2^255; metadata.
        |what, page| {
            if what == 1 {
                page[516] = 0
            }
        },
        |what, page| {
            if what == 0 {
                page[..8].fill(0)
            }
        },
        |what, page| {
            if what == 0 {
                page[..8].fill(0xff)
            }
        },
        |what, page| {
            if what == 0 {
                page[130] = 0
            }
        },
        |what, page| {
            if what == 0 {
                page[130] = 255
            }
        },
        |what, page| {
            if what == 0 {
                page[128] = 8
            }
        },
    ];
    for identify in cases {
        let error = refused(Script { identify, ..Script::default() });
        assert!(matches!(error, Error::Unfit(_)), "{error}");
    }
}

#[test]
fn a_limit_beyond_reason_is_none() {
    for limit in [0, 51, 52, 60, 64, 255] {
        let identify: fn(u32, &mut [u8]) = match limit {
            0 => |what, page| {
                if what == 1 {
                    page[77] = 0
                }
            },
            51 => |what, page| {
                if what == 1 {
                    page[77] = 51
                }
            },
            52 => |what, page| {
                if what == 1 {
                    page[77] = 52
                }
            },
            60 => |what, page| {
                if what == 1 {
                    page[77] = 60
                }
            },
            64 => |what, page| {
                if what == 1 {
                    page[77] = 64
                }
            },
            _ => |what, page| {
                if what == 1 {
                    page[77] = 255
                }
            },
        };
        let puppet = Puppet::new(Script { identify, ..Script::default() });
        let driver = Driver::open(puppet, options()).unwrap();
        assert_eq!(driver.info().transfer, 2 << 20, "{limit}");
        driver.buffer(2 << 20).unwrap();
    }
}

/// A queue whose completions are bent.
fn bent(
    complete: impl Fn(&mut [u32; 4]) -> bool + Send + Sync + 'static,
) -> (Puppet, Driver, Queue) {
    let complete = move |queue: u16, _: u32, end: &mut [u32; 4]| queue == 0 || complete(end);
    let puppet = Puppet::new(Script { complete: Arc::new(complete), ..Script::default() });
    let driver = Driver::open(puppet.clone(), options()).unwrap();
    let queue = driver.create_queue(7).unwrap();
    (puppet, driver, queue)
}

#[test]
fn a_completion_that_makes_no_sense_ends_its_queue_alone() {
    type Bend = fn(&mut [u32; 4]);
    let cases: [(Bend, &str); 6] = [
        (|end| end[3] = end[3] & !0xffff | 3, "command 3, which is not under way"),
        (|end| end[3] |= 0xffff, "command 65535, which is not under way"),
        (|end| end[2] ^= 2 << 16, "of queue 3"),
        (|end| end[2] |= 0xffff, "up to place 65535"),
        (|end| end[2] = end[2] & !0xffff | 8, "up to place 8"),
        (|end| end[2] = end[2] & !0xffff | 5, "up to place 5"),
    ];
    for (bend, why) in cases {
        let (puppet, driver, mut queue) = bent(move |end| {
            bend(end);
            true
        });
        let error = queue.flush().unwrap_err();
        assert!(matches!(error, Error::Broken { queue: 1, .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(matches!(queue.submit(Request::Flush, 0), Err(Error::Dead { queue: 1 })));
        assert!(matches!(queue.drain(|_| {}), Err(Error::Dead { queue: 1 })));
        queue.delete().unwrap();
        assert_eq!(puppet.see(|state| state.vectors.keys().copied().collect::<Vec<_>>()), [0]);
        driver.close().unwrap();
    }
}

/// A submission queue that the controller does not fetch from would stay full forever.
#[test]
fn a_controller_that_ends_everything_and_fetches_nothing_is_an_error() {
    let (_puppet, _driver, mut queue) = bent(|end| {
        end[2] &= !0xffff;
        true
    });
    (0..queue.depth()).for_each(|_| queue.flush().unwrap());
    assert_eq!(queue.open(), 0);
    let error = queue.flush().unwrap_err();
    assert!(matches!(error, Error::Broken { queue: 1, .. }), "{error}");
}

/// A command that ended cannot end again.
#[test]
fn a_completion_that_comes_twice_is_an_error() {
    let (_puppet, _driver, mut queue) = bent(|end| {
        end[3] &= !0xffff;
        true
    });
    // Numbers are given out from 0 on, so the first is right.
    queue.submit(Request::Flush, 10).unwrap();
    queue.submit(Request::Flush, 11).unwrap();
    let mut seen = Vec::new();
    let error = queue.drain(|done| seen.push(done.token)).unwrap_err();
    assert!(error.to_string().contains("command 0, which is not under way"), "{error}");
    assert_eq!(seen, [10]);
}

#[test]
fn completions_of_noise_never_do_worse_than_an_error() {
    let noise = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let next = move || {
        let mut x = noise.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        noise.store(x, Ordering::Relaxed);
        x
    };
    let next = Arc::new(next);
    let (mut broken, mut went_on) = (0, 0);
    for _ in 0..200 {
        let next = Arc::clone(&next);
        let (_puppet, _driver, mut queue) = bent(move |end| {
            let random = next();
            // Some bits of some words, so that some go through.
            end[2] ^= (random & random >> 16 & random >> 24 & 0xff) as u32;
            end[3] ^= (random >> 32 & random >> 40 & random >> 48 & 0xff) as u32;
            end[0] ^= (random & 0xffff_ffff) as u32;
            true
        });
        for token in 0..20 {
            match queue.submit(Request::Flush, token).and_then(|()| queue.drain(|_| {})) {
                Ok(_) => went_on += 1,
                Err(Error::Broken { .. } | Error::Dead { .. } | Error::Full { .. }) => broken += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(broken > 0 && went_on > 0, "{broken} {went_on}");
}

#[test]
fn a_command_that_does_not_end_is_an_error_in_time() {
    let (_puppet, driver, mut queue) = bent(|_| false);
    let buffer = driver.buffer(512).unwrap();
    let error = queue.read(0, &buffer).unwrap_err();
    assert!(matches!(error, Error::Timeout { command: "Read", queue: 1, .. }), "{error}");
    // Its memory is still the controller's.
    assert!(matches!(queue.read(0, &buffer), Err(Error::Busy { queue: 1, open: 1 })));
}

#[test]
fn a_controller_that_dies_ends_a_wait_before_its_time() {
    static GONE: AtomicBool = AtomicBool::new(false);
    let complete = |queue: u16, _: u32, _: &mut [u32; 4]| {
        GONE.store(queue != 0, Ordering::Relaxed);
        queue == 0
    };
    let status = |said| if GONE.load(Ordering::Relaxed) { u32::MAX } else { said };
    let script = Script { status, complete: Arc::new(complete), ..Script::default() };
    let driver = Driver::open(Puppet::new(script), Options::default()).unwrap();
    let mut queue = driver.create_queue(1).unwrap();
    assert!(matches!(queue.flush(), Err(Error::Gone)));
}

/// The error says what helps. Taking completions is no help: the user cannot take those of the admin
/// queue.
#[test]
fn an_admin_command_that_a_fatal_error_cuts_short_is_the_last() {
    static FATAL: AtomicBool = AtomicBool::new(false);
    let complete = |_: u16, opcode: u32, _: &mut [u32; 4]| {
        FATAL.store(opcode == 5, Ordering::Relaxed);
        opcode != 5
    };
    let status = |said| if FATAL.load(Ordering::Relaxed) { said | 2 } else { said };
    let script = Script { status, complete: Arc::new(complete), ..Script::default() };
    let driver = Driver::open(Puppet::new(script), Options::default()).unwrap();
    assert!(matches!(driver.create_queue(1), Err(Error::Fatal)));
    let error = driver.create_queue(1).unwrap_err();
    assert!(matches!(error, Error::Dead { queue: 0 }), "{error}");
    assert!(error.to_string().ends_with("open the controller again"), "{error}");
}

#[test]
fn an_admin_command_that_does_not_end_is_an_error_in_time() {
    let script = Script { complete: Arc::new(|_, opcode, _| opcode != 5), ..Script::default() };
    let puppet = Puppet::new(script);
    let driver = Driver::open(puppet.clone(), options()).unwrap();
    let maps = puppet.see(|state| state.maps.len());
    let error = driver.create_queue(1).unwrap_err();
    assert!(matches!(error, Error::Timeout { queue: 0, .. }), "{error}");
    // The driver cannot know whether the queue exists, so its memory stays until the controller is off.
    assert_eq!(puppet.see(|state| state.maps.len()), maps + 1);
    assert!(matches!(driver.create_queue(1), Err(Error::Dead { queue: 0 })));
    driver.close().unwrap();
    assert!(puppet.see(|state| state.maps.is_empty()));
}
