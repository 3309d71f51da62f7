//! A process that may not use what is fast: all that this crate can do without. Alone in its process, as
//! a filter of system calls stays.
#![allow(unsafe_code)] // A filter has no safe wrapper.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::{Setup, event, signals, words};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Client, Errno, Raised};

const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_membarrier,
    libc::SYS_kcmp,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
];
const F_DUPFD_QUERY: u32 = 1027;

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Has the kernel refuse these calls to every thread there is, and to those that come.
fn forbid() {
    let equals = |k, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, jt, jf);
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let end = |k| step(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    let refused = |errno: i32| end(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
    let mut filter = vec![load(0)];
    for call in FORBIDDEN {
        filter.extend([equals(*call as u32, 0, 1), refused(libc::EPERM)]);
    }
    // The second argument of fcntl, as a kernel answers that does not know it.
    let second = if cfg!(target_endian = "little") { 24 } else { 28 };
    filter.extend([equals(libc::SYS_fcntl as u32, 0, 3), load(second)]);
    filter.extend([equals(F_DUPFD_QUERY, 0, 1), refused(libc::EINVAL)]);
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (mode, all) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the program and its steps are valid for the time of the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, all, &raw const program) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Two threads raise while the eventfds change: nothing is lost, and nothing is done to others.
fn replace_and_raise(setup: &Setup, client: &Client, fds: &[OwnedFd; 2]) {
    let (interrupts, over) = (setup.bus().interrupts, AtomicBool::new(false));
    client.attach(Index::Msix, 0, &[fds[0].as_fd()]).unwrap();
    fds.iter().for_each(|fd| _ = signals(fd));
    let raised: u64 = std::thread::scope(|scope| {
        let raise = || {
            let mut raised = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(interrupts.raise(0), Raised::Signalled);
                raised += 1;
                std::thread::yield_now();
            }
            raised
        };
        let raising = [scope.spawn(raise), scope.spawn(raise)];
        for turn in 0..200 {
            client.attach(Index::Msix, 0, &[fds[turn % 2].as_fd()]).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        raising.map(|raising| raising.join().unwrap()).into_iter().sum()
    });
    assert_eq!(fds.iter().map(signals).sum::<u64>(), raised);
}

#[test]
fn what_is_refused_only_costs_time() {
    let setup = Setup::new();
    let (client, fds) = (setup.client(), [event(), event()]);
    replace_and_raise(&setup, &client, &fds);
    // A program may well forbid itself what it has used before.
    forbid();
    replace_and_raise(&setup, &client, &fds);
    let later = Setup::new();
    replace_and_raise(&later, &later.client(), &fds);

    let mut raw = later.agreed();
    let file = common::memfd(8);
    let trigger = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
    let set = words(&[20, trigger, Index::Msix as u32, 0, 1]);
    assert_eq!(raw.ask(Command::DeviceSetIrqs, &set, &[file.as_fd()]), Some(Errno::EINVAL));
    assert_eq!(raw.ask(Command::DeviceSetIrqs, &set, &[fds[0].as_fd()]), None);
}
