//! VFIO with character devices (CONFIG_VFIO_DEVICE_CDEV) for a stock kernel.
//!
//! Debian builds its kernels without CONFIG_IOMMUFD. iommufd and VFIO are modules, and every kernel
//! has what they need. The lab builds them from Debian's sources with the two options on, and loads
//! them in place of the stock modules. vfio-pci-core is either the one in C or this project's.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::archive::{Archive, unpack};
use super::cache::{Cache, Made, hash, remove_tree};
use super::kernel::{Series, Tree};
use super::process::{Step, capture, follow};
use super::root;
use super::sandbox::Sandbox;
use crate::core_module::{MODULE, checkout, copy_sources};
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
    let sources = sources(cache, series, release)?;
    let name =
        format!("cdev-{}-{release}-{}", core.name(), hash(&checkout().display().to_string()));
    let stage = cache.scratch(&name)?;
    let lock = cache.lock_file(&name)?;
    lock.lock().map_err(Error::io("lock", &stage))?;
    let kbuild = stage.join("Kbuild");
    match core {
        Core::C => fs::write(&kbuild, "").map_err(Error::io("write", &kbuild))?,
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
fn sources(cache: &Cache, series: Series, release: &str) -> Result<Made> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    cache.obtain(&format!("vfio-{series}"), &format!("vfio {release} {RECIPE}"), |dir| {
        let work = dir.join("work");
        let archive = Archive::open(&work.join("apt"), &[series.suite()], &[])?;
        let names = unpack(&archive.download_alone(&[&format!("linux-source-{series}")])?, &work)?;
        let sandbox = Sandbox::new(tools.path()).bind(dir, "build/stage");
        let step = Step::start("Unpacking the sources of VFIO", None);
        let mut tar = sandbox.command("tar");
        tar.args(["--extract", "--directory=/build/stage", "--strip-components=1"]);
        tar.arg("--no-same-owner");
        tar.arg(format!("--file=/build/stage/work/usr/src/linux-source-{series}.tar.xz"));
        tar.args(SOURCES.map(|path| format!("linux-source-{series}/{path}")));
        capture(tar, "unpacking the sources of VFIO with tar")?;
        drop(step);
        remove_tree(&work)?;
        Ok(names)
    })
}

/// Copies the sources to the build directory, once. Omits the kernel's own vfio-pci-core if this
/// project's is built.
fn lay_out(sources: &Path, stage: &Path, core: Core) -> Result<()> {
    let new = stage.join("linux.new");
    remove_tree(&new)?;
    copy(sources, &new)?;
    let iommufd = new.join("drivers/iommu/iommufd");
    let (from, to) = (new.join("lib/interval_tree.c"), iommufd.join("interval_tree.c"));
    fs::rename(&from, &to).map_err(Error::io("move", &from))?;
    append(&iommufd.join("Makefile"), INTERVAL_TREE)?;
    if core == Core::Rust {
        let makefile = new.join("drivers/vfio/pci/Makefile");
        append(&makefile, "\nobj-m := $(filter-out vfio-pci-core.o,$(obj-m))\n")?;
    }
    fs::rename(&new, stage.join("linux")).map_err(Error::io("move", &new))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("read", from))?.flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to).map_err(Error::io("copy", &path))?;
        }
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let file = File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", path))
}
