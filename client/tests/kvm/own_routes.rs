//! A VMM's own routes, which take effect at once and whose eventfds were made ahead. Also the system
//! calls of the threads of virtual processors.

use crate::machine::{ENABLE, FUNCTION_MASK, Machine};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use vfio_irq::kvm::KvmRoutes;
use vfio_irq::msix::{Message, MsixTable, Route, Routes};
use vfio_irq::sim::Simulated;
use vfio_irq::{Error, Index, Info, SetIrqs, Transport, Trigger, Vectors};

pub const CASES: [(&str, fn()); 3] = [
    ("routes_that_take_effect_at_once_need_no_event_loop", at_once),
    ("without_an_eventfd_a_mask_detaches", mask_without_an_eventfd),
    ("a_virtual_processor_makes_no_forbidden_system_call", no_forbidden_call),
];
pub const REAL: [(&str, fn()); 1] =
    [("kvm_a_virtual_processor_makes_no_forbidden_system_call", no_forbidden_call_of_kvm)];

#[derive(Clone, Default)]
struct OwnRoutes(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    eventfds: Vec<Trigger>,
    /// The message of each route by its eventfd's place.
    messages: BTreeMap<usize, Message>,
    next: usize,
}

struct OwnRoute {
    number: usize,
    trigger: Trigger,
    routes: OwnRoutes,
}

impl OwnRoutes {
    fn with(eventfds: usize) -> Self {
        let routes = Self::default();
        routes.0.lock().unwrap().eventfds =
            (0..eventfds).map(|_| Trigger::new().unwrap()).collect();
        routes
    }

    fn messages(&self) -> Vec<u32> {
        self.0.lock().unwrap().messages.values().map(|message| message.data).collect()
    }
}

impl Routes for OwnRoutes {
    type Route = OwnRoute;

    fn allocate(&self) -> io::Result<Option<OwnRoute>> {
        let trigger = self.eventfd().map_err(io::Error::other)?;
        let mut inner = self.0.lock().unwrap();
        inner.next += 1;
        Ok(Some(OwnRoute { number: inner.next, trigger, routes: self.clone() }))
    }

    fn eventfd(&self) -> Result<Trigger, Error> {
        self.0.lock().unwrap().eventfds.pop().ok_or(Error::Descriptor {
            what: "no eventfd is left",
            source: io::ErrorKind::NotFound.into(),
        })
    }
}

impl Route for OwnRoute {
    fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    fn set(&mut self, message: Message) -> io::Result<bool> {
        self.routes.0.lock().unwrap().messages.insert(self.number, message);
        Ok(true)
    }
}

impl Drop for OwnRoute {
    fn drop(&mut self) {
        self.routes.0.lock().unwrap().messages.remove(&self.number);
    }
}

/// A device that accepts every request without a system call: the kernel's own takes one `ioctl`.
struct Agreeable;

impl Transport for Agreeable {
    fn irq_info(&self, _: Index) -> io::Result<Info> {
        Ok(Info { flags: 1, count: 64 })
    }

    fn set_irqs(&self, _: &SetIrqs<'_>) -> io::Result<u32> {
        Ok(0)
    }
}

type Opened<R> = (Arc<Simulated>, MsixTable<Arc<Simulated>, R>);

fn open<R: Routes>(routes: R) -> Opened<R> {
    let device = Arc::new(Simulated::new());
    let mut table =
        MsixTable::new(Vectors::open(device.clone(), Index::Msix).unwrap(), routes).unwrap();
    table.set_control(ENABLE).unwrap();
    (device, table)
}

fn write(table: &mut MsixTable<impl Transport, impl Routes>, number: u64, data: u64) {
    table.write(number * 16 + 8, &data.to_le_bytes()).unwrap();
}

fn at_once() {
    let routes = OwnRoutes::with(3);
    let (device, mut table) = open(routes.clone());
    write(&mut table, 2, 0x41);
    assert_eq!((table.waiting(), routes.messages()), (0, vec![0x41]));
    let irqfd = table.vectors().enabled().len();
    assert_eq!(irqfd, 1);
    // A new message without a mask goes to the same route.
    write(&mut table, 2, 0x42);
    assert_eq!((table.waiting(), routes.messages()), (0, vec![0x42]));
    write(&mut table, 2, 1 << 32 | 0x42);
    device.raise(2);
    let mut pending = [0];
    table.read_pending(0, &mut pending);
    assert_eq!(pending, [0b100]);
    write(&mut table, 2, 0x42);
    table.read_pending(0, &mut pending);
    assert_eq!((pending, table.handle_events().unwrap()), ([0], 0));
    assert_eq!(device.lost(), 0);
    table.set_control(0).unwrap();
    assert!(routes.messages().is_empty(), "the drop of a route gives it back");
}

fn mask_without_an_eventfd() {
    let routes = OwnRoutes::with(1);
    let (device, mut table) = open(routes.clone());
    write(&mut table, 2, 0x41);
    write(&mut table, 2, 1 << 32 | 0x41);
    assert!(!table.vectors().is_enabled(2) && routes.messages().is_empty());
    // The device holds its interrupts from now on.
    let error = table.write(2 * 16 + 12, &0_u32.to_le_bytes()).unwrap_err();
    assert!(error.to_string().contains("no eventfd is left"), "{error}");
    routes.0.lock().unwrap().eventfds.push(Trigger::new().unwrap());
    table.retry().unwrap();
    assert!(table.vectors().is_enabled(2));
    assert_eq!((routes.messages(), device.lost()), (vec![0x41], 0));
}

/// Runs what a guest does from a thread with the filter of a virtual processor. Another call ends
/// the whole process with SIGSYS.
fn as_a_processor<R: Routes<Route: Send> + Send>(routes: R) {
    let vectors = Vectors::open(Agreeable, Index::Msix).unwrap();
    let mut table = MsixTable::new(vectors, routes).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let program: BpfProgram = filter().try_into().unwrap();
            apply_filter(&program).unwrap();
            for _ in 0..3 {
                table.set_control(ENABLE | FUNCTION_MASK).unwrap();
                (0..20).for_each(|number| write(&mut table, number, 0x41));
                table.set_control(ENABLE).unwrap();
                for masked in [1_u32, 0, 1, 0] {
                    table.write(3 * 16 + 12, &masked.to_le_bytes()).unwrap();
                    table.read_pending(0, &mut [0; 8]);
                    table.read(0, &mut [0; 16]);
                    assert_ne!(table.control() & ENABLE, 0);
                }
                write(&mut table, 3, 0x55);
                table.commit().unwrap();
                table.set_control(ENABLE | FUNCTION_MASK).unwrap();
                table.set_control(0).unwrap();
            }
            table.reset().unwrap();
            drop(table);
        });
    });
}

fn no_forbidden_call() {
    as_a_processor(OwnRoutes::with(3 * 40));
}

fn no_forbidden_call_of_kvm() {
    let routes = KvmRoutes::new(Machine::new().vm, Vec::new(), 24..128);
    // As many as one round takes: they are given back.
    routes.make_eventfds(2 * 20).unwrap();
    as_a_processor(routes);
}

/// What Cloud Hypervisor's filter allows threads of virtual processors, of the calls that memory,
/// locks, the end of a thread and this crate need.
fn filter() -> SeccompFilter {
    let always = [
        libc::SYS_brk,
        libc::SYS_close,
        libc::SYS_dup,
        libc::SYS_epoll_ctl,
        libc::SYS_exit,
        libc::SYS_fcntl,
        libc::SYS_fstat,
        libc::SYS_futex,
        libc::SYS_madvise,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_newfstatat,
        libc::SYS_read,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
        libc::SYS_statx,
        libc::SYS_write,
    ];
    // KVM_IRQFD, KVM_SET_GSI_ROUTING and VFIO_DEVICE_SET_IRQS.
    let ioctl = [0x4020_ae76, 0x4008_ae6a, 0x3b6e].map(|number| {
        let number =
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number).unwrap();
        SeccompRule::new(vec![number]).unwrap()
    });
    let rules = always.map(|call| (call, Vec::new())).into_iter();
    SeccompFilter::new(
        rules.chain([(libc::SYS_ioctl, ioctl.to_vec())]).collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap()
}
