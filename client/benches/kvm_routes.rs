//! 2048 vectors brought up one by one: with routes in batches, and with one KVM_SET_GSI_ROUTING for
//! each vector, in one run on /dev/kvm. Also what a vector costs in memory and descriptors.
//!
//! ```text
//! cargo bench -p vfio-irq --features kvm --bench kvm_routes
//! ```

use kvm_ioctls::Kvm;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_irq::kvm::KvmRoutes;
use vfio_irq::msix::MsixTable;
use vfio_irq::{Index, Info, SetIrqs, Transport, Vectors};

const VECTORS: u32 = 2048;
const ROUNDS: usize = 5;

/// A device that accepts every request, so that the benchmark measures KVM and the library.
struct Agreeable;

impl Transport for Agreeable {
    fn irq_info(&self, _: Index) -> io::Result<Info> {
        Ok(Info { flags: 1, count: VECTORS })
    }

    fn set_irqs(&self, _: &SetIrqs<'_>) -> io::Result<u32> {
        Ok(0)
    }
}

fn main() -> ExitCode {
    if let Err(error) = Kvm::new().and_then(|kvm| kvm.create_vm()) {
        println!("kvm_routes NOT RUN: /dev/kvm cannot be used: {error}");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut batched, mut single) = (Vec::new(), Vec::new());
    let mut cost = None;
    for _ in 0..ROUNDS {
        let before = Usage::now()?;
        let (took, table) = bring_up(false)?;
        cost.get_or_insert(Usage::now()?.since(before));
        batched.push(took);
        drop(table);
        single.push(bring_up(true)?.0);
    }
    let (batched, single) = (median(batched), median(single));
    println!("{VECTORS} vectors one by one, median of {ROUNDS} rounds, each round both:");
    println!("  routes in batches:          {batched:>12.1?}");
    println!("  one route update a vector:  {single:>12.1?}");
    println!("  ratio:                      1/{:.0}", single.as_secs_f64() / batched.as_secs_f64());
    if let Some(cost) = cost {
        let each = |all: u64| all as f64 / f64::from(VECTORS);
        let (memory, descriptors) = (each(cost.memory), each(cost.descriptors));
        println!(
            "  a vector on its irqfd:      {memory:.0} bytes of this process's memory, {descriptors:.3} descriptors"
        );
    }
    Ok(())
}

type Table = MsixTable<Agreeable, KvmRoutes<Arc<kvm_ioctls::VmFd>>>;

/// Unmasks every vector in turn, as the guest does.
fn bring_up(commit_each: bool) -> Result<(Duration, Table), Box<dyn std::error::Error>> {
    let vm = Arc::new(Kvm::new()?.create_vm()?);
    vm.create_irq_chip()?;
    let routes = KvmRoutes::new(vm, Vec::new(), 24..24 + VECTORS);
    let mut table = MsixTable::new(Vectors::open(Agreeable, Index::Msix)?, routes)?;
    table.set_control(0x8000)?;
    let since = Instant::now();
    for number in 0..u64::from(VECTORS) {
        table.write(number * 16, &0xfee0_0000_u64.to_le_bytes())?;
        table.write(number * 16 + 8, &0x40_u64.to_le_bytes())?;
        if commit_each {
            table.commit()?;
        }
    }
    table.commit()?;
    let took = since.elapsed();
    assert_eq!(table.waiting(), 0);
    Ok((took, table))
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Returns the memory and the descriptors of this process.
#[derive(Clone, Copy)]
struct Usage {
    memory: u64,
    descriptors: u64,
}

impl Usage {
    fn now() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let descriptors = std::fs::read_dir("/proc/self/fd")?.count() as u64;
        Ok(Self { memory: kib.unwrap_or(0) * 1024, descriptors })
    }

    fn since(self, before: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(before.memory),
            descriptors: self.descriptors.saturating_sub(before.descriptors),
        }
    }
}
