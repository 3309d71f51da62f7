//! VFIO with character devices (CONFIG_VFIO_DEVICE_CDEV) for a stock kernel.
//!
//! Debian builds its kernels without CONFIG_IOMMUFD. iommufd and VFIO are modules, and every kernel
//! has what they need. The lab builds them from Debian's sources with the two options on, and loads
//! them in place of the stock modules. vfio-pci-core is either the one in C or this project's.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err::{self as fs, File};

use super::cache::{Cache, Made, hash, remove_tree};
use super::kernel::{Kernel, Series, Tree, download_sources, unpack_sources};
use super::process::{Step, follow};
use super::root;
use super::sandbox::Sandbox;
use crate::checkout::checkout;
use crate::core_module::{MODULE, copy_sources, copy_tree};
use crate::error::{Error, Result};
use crate::lab::guest::Core;

/// Incremented when sources unpacked by an older recipe must not be used any more.
const RECIPE: u32 = 1;

/// The parts of the kernel's sources that are used.
const SOURCES: [&str; 3] = ["drivers/vfio", "drivers/iommu", "lib/interval_tree.c"];

/// The options that Debian's configuration lacks: for make and for the C compiler.
const OPTIONS: [&str; 4] = [
    "CONFIG_IOMMUFD=m",
    "CONFIG_IOMMUFD_DRIVER_CORE=m",
    "CONFIG_VFIO_DEVICE_CDEV=y",
    "KCFLAGS=-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_IOMMUFD_DRIVER_CORE_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1",
];

/// The built modules, in load order. [`MODULE`] is this project's or the kernel's own.
const MODULES: [&str; 6] = [
    "linux/drivers/iommu/iommufd/iommufd_driver.ko",
    "linux/drivers/iommu/iommufd/iommufd.ko",
    "linux/drivers/vfio/vfio.ko",
    "linux/drivers/vfio/vfio_iommu_type1.ko",
    MODULE,
    "linux/drivers/vfio/pci/vfio-pci.ko",
];

/// A part of the kernel that iommufd uses and a kernel without iommufd lacks. Its other half is in
/// the kernel and must not be exported twice.
const INTERVAL_TREE: &str = "
iommufd-y += interval_tree.o
CFLAGS_interval_tree.o += -D__DISABLE_EXPORTS -DCONFIG_INTERVAL_TREE_SPAN_ITER=1
";

/// The directory in which the kernel's own vfio-pci-core is built.
const PCI: &str = "linux/drivers/vfio/pci";

/// Builds the modules for the stock kernel of `series`, with the vfio-pci-core of `core`.
pub fn build(cache: &Cache, series: Series, core: Core) -> Result<Vec<PathBuf>> {
    let tree = Tree::obtain(cache, series)?;
    let release = &tree.kernel().release;
    let sources = sources(cache, series, tree.kernel())?;
    let name =
        format!("cdev-{}-{release}-{}", core.name(), hash(&checkout().display().to_string()));
    let stage = cache.scratch(&name)?;
    let lock = cache.lock_file(&name)?;
    lock.lock()?;
    let kbuild = stage.join("Kbuild");
    match core {
        Core::C => fs::write(&kbuild, "")?,
        Core::Rust => copy_sources(checkout(), &stage)?,
    }
    if !stage.join("linux").exists() {
        lay_out(sources.path(), &stage, core)?;
    }
    append(&kbuild, "\nobj-m += linux/drivers/iommu/iommufd/ linux/drivers/vfio/\n")?;
    let step = Step::start("Building VFIO with character devices", None);
    let mut command = tree.make(&stage)?;
    command.args(OPTIONS);
    follow(command, "building VFIO with character devices", |line| step.note(line))?;
    MODULES
        .iter()
        .map(|file| match core {
            Core::C if *file == MODULE => stage.join(PCI).join(file),
            _ => stage.join(file),
        })
        .map(|path| Some(path).filter(|path| path.is_file()))
        .collect::<Option<Vec<PathBuf>>>()
        .ok_or_else(|| Error::other("the build of VFIO with character devices made no modules"))
}

/// Returns the kernel's sources of iommufd and VFIO.
fn sources(cache: &Cache, series: Series, kernel: &Kernel) -> Result<Made> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    let recipe = format!("vfio {} {RECIPE}", kernel.release);
    cache.obtain(&format!("vfio-{series}"), &recipe, |dir| {
        let names = download_sources(series, kernel, &dir.join("work"))?;
        let sandbox = Sandbox::new(tools.path()).bind(dir, "build/stage");
        let parts = SOURCES.map(|path| format!("linux-source-{series}/{path}"));
        unpack_sources(series, &sandbox, "/build/stage/work", "/build/stage", &parts)?;
        remove_tree(&dir.join("work"))?;
        Ok(names)
    })
}

/// Copies the sources to the build directory, once. Omits the kernel's own vfio-pci-core if this
/// project's is built.
fn lay_out(sources: &Path, stage: &Path, core: Core) -> Result<()> {
    let new = stage.join("linux.new");
    remove_tree(&new)?;
    copy_tree(sources, &new)?;
    let iommufd = new.join("drivers/iommu/iommufd");
    let (from, to) = (new.join("lib/interval_tree.c"), iommufd.join("interval_tree.c"));
    fs::rename(&from, &to)?;
    append(&iommufd.join("Makefile"), INTERVAL_TREE)?;
    if core == Core::Rust {
        let makefile = new.join("drivers/vfio/pci/Makefile");
        append(&makefile, "\nobj-m := $(filter-out vfio-pci-core.o,$(obj-m))\n")?;
    }
    Ok(fs::rename(&new, stage.join("linux"))?)
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options().append(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
