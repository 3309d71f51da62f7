//! Builds a vendor's variant driver for a stock kernel from the kernel's own sources: virtio's,
//! which binds QEMU's virtio-net. Debian builds no variant driver.

use std::path::PathBuf;

use fs_err as fs;

use super::cache::{Cache, hash};
use super::kernel::{Series, Tree};
use super::process::follow;
use crate::checkout::checkout;
use crate::core_module::copy_tree;
use crate::error::{Error, Result};

/// The module's file.
const MODULE: &str = "virtio-vfio-pci.ko";

/// Builds the driver for the stock kernel of `series`.
pub fn build(cache: &Cache, series: Series) -> Result<PathBuf> {
    let tree = Tree::obtain(cache, series)?;
    let release = tree.kernel().release.clone();
    let name = format!("variant-{release}-{}", hash(&checkout().display().to_string()));
    let stage = cache.scratch(&name)?;
    let lock = cache.lock_file(&name)?;
    lock.lock()?;
    copy_tree(&tree.path().join("drivers/vfio/pci/virtio"), &stage)?;
    let kbuild = stage.join("Kbuild");
    let text = "obj-m := virtio-vfio-pci.o\nvirtio-vfio-pci-y := main.o migrate.o\n";
    fs::write(&kbuild, text)?;
    follow(tree.make(&stage)?, &format!("building {MODULE} for {release}"), |_| {})?;
    let module = stage.join(MODULE);
    if module.is_file() {
        return Ok(module);
    }
    Err(Error::other(format!("the build made no {MODULE}")))
}
