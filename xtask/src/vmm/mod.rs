//! The client's small VMM in the lab: a KVM guest inside the guest, which uses the NVMe disk.

use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::guest::Builder;
use crate::lab::image::Image;
use crate::lab::kernel::Kernel;
use crate::lab::root;
use fs_err as fs;

/// The first program of the VMM's guest, which has one serial port and no ACPI.
const INIT: &str = include_str!("init.sh");

/// Runs in the VMM's guest.
const GUEST: &str = include_str!("guest.sh");

/// Runs in the guest that is the VMM's host.
pub const HOST: &str = include_str!("host.sh");

/// Gives the guest KVM, the kernel and the initrd of the VMM's guest.
pub fn equip(builder: &mut Builder, cache: &Cache) -> Result<()> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    let kernel = Kernel::obtain(cache, builder.series)?;
    let second = Image {
        modules: vec!["nvme".to_owned()],
        // A later entry of the archive replaces an earlier one.
        files: vec![("init".to_owned(), INIT.as_bytes().to_vec())],
        command: GUEST.to_owned(),
        ..Image::default()
    };
    let vmlinuz = kernel.dir().join("vmlinuz");
    let vmlinuz = fs::read(vmlinuz)?;
    builder.nested = true;
    builder.memory = 2048;
    builder.image.files.push(("lab/second/vmlinuz".to_owned(), vmlinuz));
    let initrd = second.build(tools.path(), &kernel)?;
    builder.image.files.push(("lab/second/initrd".to_owned(), initrd));
    Ok(())
}
