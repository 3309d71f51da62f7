//! The Debian root: QEMU, the compilers, and the userland of guests that have a root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::archive::{Archive, Pin, unpack};
use super::cache::{Cache, Made, remove_tree};
use super::process::capture;
use super::sandbox::{MOUNT_POINTS, Sandbox, check};
use crate::error::{Error, Result};

/// Changed whenever a root made by an older recipe must not be used any more.
const RECIPE: u32 = 2;

/// What a root is for, and so what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// QEMU 11 of trixie-backports and the compilers of trixie: every boot, and modules for backports' kernels.
    Trixie,
    /// The compilers of sid, for sid's kernels.
    Sid,
    /// nvme-cli, for guests with a disk. Apart from the others, so that nothing else is made anew with it.
    NvmeCli,
    /// DPDK, and what compiles the programs of other VFIO clients: their builds, and guests that run DPDK.
    /// Apart from the others, so that nothing else is made anew with it.
    Clients,
}

/// What every root has: enough of a userland for a build and for a guest's shell.
const BASE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "kmod",
    "libc-bin",
    "mawk",
    "mount",
    "perl-base",
    "sed",
    "tar",
    "util-linux",
    "xz-utils",
    "zstd",
    "cpio",
];

/// What builds a module in Rust for a stock kernel. `libelf-dev` must be of the suite of `libelf1t64`.
const BUILD: &[&str] = &[
    "bc",
    "bindgen",
    "binutils",
    "bison",
    "flex",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "pahole",
    "python3-minimal",
    "rust-src",
    "rustc",
    "rustfmt",
];

/// What boots guests, and what is handy inside them.
const BOOT: &[&str] =
    &["busybox-static", "iproute2", "pciutils", "procps", "qemu-system-x86", "qemu-utils"];

/// What runs a program in a root and indexes its libraries, and the program.
const NVME_CLI: &[&str] = &["base-files", "base-passwd", "coreutils", "libc-bin", "nvme-cli"];

/// DPDK, what compiles against its libraries, and what compiles Linux's selftests of VFIO.
const CLIENTS: &[&str] = &[
    "debianutils",
    "dpdk",
    "dpdk-dev",
    "gcc-14",
    "iproute2",
    "libc6-dev",
    "libdpdk-dev",
    "make",
    "pciutils",
    "pkgconf",
    "uuid-dev",
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Trixie => "root-trixie",
            Self::Sid => "root-sid",
            Self::NvmeCli => "root-nvme-cli",
            Self::Clients => "root-clients",
        }
    }

    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Trixie => &["trixie", "trixie-backports"],
            Self::Sid => &["sid"],
            Self::NvmeCli | Self::Clients => &["trixie"],
        }
    }

    fn pins(self) -> &'static [Pin] {
        match self {
            Self::Trixie => &[Pin {
                packages: "qemu-* seabios ipxe-qemu pahole libelf* libdw*",
                suite: "trixie-backports",
            }],
            Self::Sid | Self::NvmeCli | Self::Clients => &[],
        }
    }

    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Trixie => [BASE, BUILD, BOOT, &["gcc-14"]].concat(),
            Self::Sid => [BASE, BUILD, &["gcc-16"]].concat(),
            Self::NvmeCli => NVME_CLI.to_vec(),
            Self::Clients => [BASE, CLIENTS].concat(),
        }
    }

    /// Gets the root of this kind, made now if need be.
    pub fn obtain(self, cache: &Cache) -> Result<Made> {
        let packages = self.packages();
        let recipe = format!("{} {RECIPE} {:?} {packages:?}", self.name(), self.suites());
        cache.obtain(self.name(), &recipe, |root| {
            check()?;
            let apt = root.join("apt");
            let archive = Archive::open(&apt, self.suites(), self.pins())?;
            let debs = archive.download_with_dependencies(&packages)?;
            let names = unpack(&debs, root)?;
            remove_tree(&apt)?;
            finish(root)?;
            Ok(names)
        })
    }
}

/// A program of `root` and the libraries it loads: paths and contents, as a guest without a root
/// takes them.
pub fn program_with_libraries(root: &Path, program: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut list = Sandbox::new(root).command("/usr/lib64/ld-linux-x86-64.so.2");
    list.args(["--list", program]);
    let listed = capture(list, &format!("asking for the libraries of {program}"))?;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    libraries
        .chain([program])
        .map(|path| {
            let file = root.join(path.trim_start_matches('/'));
            Ok((path.to_owned(), fs::read(&file).map_err(Error::io("read", &file))?))
        })
        .collect()
}

/// Does what the packages' own scripts would have done, as far as the lab needs it.
fn finish(root: &Path) -> Result<()> {
    for dir in MOUNT_POINTS.iter().copied().chain(["dev", "proc", "sys", "tmp", "run", "etc"]) {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    }
    for (name, program) in [("awk", "mawk"), ("which", "which.debianutils")] {
        let bin = root.join("usr/bin");
        let link = bin.join(name);
        if bin.join(program).exists() && !link.is_symlink() {
            symlink(program, &link).map_err(Error::io("create", &link))?;
        }
    }
    for file in ["passwd", "group"] {
        let (from, to) = (
            root.join(format!("usr/share/base-passwd/{file}.master")),
            root.join("etc").join(file),
        );
        fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
    }
    // Nobody reads these here, and they are a fifth of the root.
    for unused in
        ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt"]
    {
        remove_tree(&root.join(unused))?;
    }
    capture(Sandbox::new(root).command("ldconfig"), "indexing the root's libraries with ldconfig")
        .map(drop)
}
