//! The client's small VMM in the lab: a KVM guest inside the guest, which uses the NVMe disk.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::lab::cache::{Cache, Made, hash, remove_tree};
use crate::lab::guest::Builder;
use crate::lab::image::Image;
use crate::lab::kernel::Kernel;
use crate::lab::process::capture;
use crate::lab::root;
use crate::lab::sandbox::Sandbox;
use fs_err as fs;

/// The first program of the VMM's guest, which has one serial port and no ACPI.
const INIT: &str = include_str!("init.sh");

/// Runs in the VMM's guest.
const GUEST: &str = include_str!("guest.sh");

/// Runs in the guest that is the VMM's host.
pub const HOST: &str = include_str!("host.sh");

/// Starts another kernel in the VMM's guest.
const KEXEC: &str = include_str!("kexec.c");

/// Gives the guest KVM, the kernel and the initrd of the VMM's guest.
///
/// That initrd contains the kernel once more, and a smaller initrd: the guest starts them with
/// kexec at the end.
pub fn equip(builder: &mut Builder, cache: &Cache) -> Result<()> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    let kernel = Kernel::obtain(cache, builder.series)?;
    let vmlinuz = kernel.dir().join("vmlinuz");
    let vmlinuz = fs::read(vmlinuz)?;
    let mut image = Image {
        modules: vec!["nvme".to_owned()],
        // A later entry of the archive replaces an earlier one.
        files: vec![("init".to_owned(), INIT.as_bytes().to_vec())],
        command: GUEST.to_owned(),
        ..Image::default()
    };
    let last = image.build(tools.path(), &kernel)?;
    image.files.push(("lab/kexec/vmlinuz".to_owned(), vmlinuz.clone()));
    image.files.push(("lab/kexec/initrd".to_owned(), last));
    image.put.push(build_kexec(cache, &tools)?);
    let first = image.build(tools.path(), &kernel)?;
    builder.nested = true;
    builder.memory = 2048;
    // Two kernels boot in nested virtualization, under emulation.
    builder.timeout = Duration::from_secs(700);
    builder.image.files.push(("lab/second/vmlinuz".to_owned(), vmlinuz));
    builder.image.files.push(("lab/second/initrd".to_owned(), first));
    Ok(())
}

/// Compiles `kexec.c`. Returns the program.
fn build_kexec(cache: &Cache, root: &Made) -> Result<PathBuf> {
    const COMPILE: &str =
        "x86_64-linux-gnu-gcc-14 -O2 -Wall -Wextra -Werror -static -s kexec.c -o kexec";
    let recipe = format!("kexec {} {KEXEC} {COMPILE}", hash(root.made_from()));
    let made = cache.obtain("kexec", &recipe, |dir| {
        let source = dir.join("kexec.c");
        fs::write(&source, KEXEC)?;
        let sandbox = Sandbox::new(root.path()).bind(dir, "build/stage");
        let mut compile = sandbox.command("sh");
        compile.args(["-ec", &format!("cd /build/stage; {COMPILE}")]);
        capture(compile, "building kexec with gcc")?;
        remove_tree(&source)?;
        Ok(Vec::new())
    })?;
    Ok(made.path().join("kexec"))
}
