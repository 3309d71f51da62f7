//! A program on Debian's DPDK that receives packets with interrupts.

use std::path::PathBuf;

use fs_err as fs;

use crate::error::Result;
use crate::lab::cache::{Cache, hash, remove_tree};
use crate::lab::process::{Step, capture};
use crate::lab::root;
use crate::lab::sandbox::Sandbox;

/// The program's name in the guest.
const PROGRAM: &str = "dpdk-receive";

const SOURCE: &str = include_str!("receive.c");

/// Compiles `receive.c` to `dpdk-receive`, in the working directory.
///
/// It links the libraries that it needs from Debian's static archives. With the shared ones,
/// DPDK loads every driver that is installed, which takes a guest longer than the test.
/// A constructor registers each driver, hence `--whole-archive`.
const COMPILE: &str = "exec x86_64-linux-gnu-gcc-14 -O2 -Wall -Wextra -Werror -static -s \
    $(pkg-config --cflags libdpdk) receive.c -o dpdk-receive \
    -Wl,--whole-archive -l:librte_bus_pci.a -l:librte_mempool_ring.a -l:librte_net_e1000.a \
    -l:librte_ethdev.a -l:librte_net.a -l:librte_mbuf.a -l:librte_mempool.a -l:librte_ring.a \
    -l:librte_meter.a -l:librte_pci.a -l:librte_eal.a -l:librte_telemetry.a \
    -l:librte_kvargs.a -l:librte_log.a -l:librte_argparse.a \
    -Wl,--no-whole-archive -lnuma -pthread -lm -ldl";

/// Builds the program in the clients' root.
pub fn build(cache: &Cache) -> Result<Vec<PathBuf>> {
    let root = root::Kind::Clients.obtain(cache)?;
    let recipe = format!("dpdk {} {SOURCE} {COMPILE}", hash(root.made_from()));
    let made = cache.obtain("dpdk", &recipe, |dir| {
        let source = dir.join("receive.c");
        fs::write(&source, SOURCE)?;
        let _step = Step::start("Building a program on DPDK", None);
        let sandbox = Sandbox::new(root.path()).bind(dir, "build/stage");
        let mut compile = sandbox.command("sh");
        compile.args(["-ec", &format!("cd /build/stage; {COMPILE}")]);
        capture(compile, "building a program on DPDK with gcc")?;
        remove_tree(&source)?;
        Ok(Vec::new())
    })?;
    Ok(vec![made.path().join(PROGRAM)])
}
