//! Makes the Debian root: QEMU, the compilers, and the userland of guests that have a root.

use std::os::unix::fs::symlink;
use std::path::Path;

use fs_err as fs;

use super::archive::{Archive, Pin, unpack};
use super::cache::{Cache, Made, remove_tree};
use super::process::capture;
use super::sandbox::{MOUNT_POINTS, Sandbox, check};
use crate::error::Result;

/// Incremented when a root made by an older recipe must not be used any more.
const RECIPE: u32 = 2;

/// The purpose of a root, which decides its packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// QEMU 11 of trixie-backports and the compilers of trixie: all boots, and modules for
    /// backports' kernels.
    Trixie,
    /// The compilers of sid, for sid's kernels.
    Sid,
    /// nvme-cli, for guests with a disk. It is separate, so that a change of it rebuilds no other
    /// root.
    NvmeCli,
    /// DPDK, and the tools that compile the programs of other VFIO clients, for their builds and
    /// for guests that run DPDK. It is separate, so that a change of it rebuilds no other root.
    Clients,
    /// fio, for guests whose disks are measured.
    Fio,
    /// mmdebstrap and apt, which make Debian systems (see [`super::debian`]).
    Mmdebstrap,
    /// Trixie's LLVM, which builds the debug kernels: with Rust in it, the address sanitizer needs
    /// one compiler for both languages.
    Llvm,
}

/// Packages of every root: enough of a userland for a build and for a guest's shell.
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

/// Packages that build a module in Rust for a stock kernel. `libelf-dev` must be of the suite of
/// `libelf1t64`.
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

/// Packages that boot guests, and tools for use inside them.
const BOOT: &[&str] =
    &["busybox-static", "iproute2", "pciutils", "procps", "qemu-system-x86", "qemu-utils"];

/// mmdebstrap, and what it calls.
const MMDEBSTRAP: &[&str] =
    &["apt", "apt-utils", "debianutils", "dpkg", "mmdebstrap", "passwd", "perl"];

/// nvme-cli, and the packages that run a program in a root and index its libraries.
const NVME_CLI: &[&str] = &["base-files", "base-passwd", "coreutils", "libc-bin", "nvme-cli"];

/// DPDK, and the packages that compile against its libraries and compile Linux's selftests of VFIO.
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
            Self::Llvm => "root-llvm",
            Self::Mmdebstrap => "root-mmdebstrap",
            Self::Fio => "root-fio",
        }
    }

    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Trixie => &["trixie", "trixie-backports"],
            Self::Sid => &["sid"],
            Self::NvmeCli | Self::Fio | Self::Clients | Self::Llvm | Self::Mmdebstrap => {
                &["trixie"]
            }
        }
    }

    fn pins(self) -> &'static [Pin] {
        match self {
            Self::Trixie => &[Pin {
                packages: "qemu-* seabios ipxe-qemu pahole libelf* libdw*",
                suite: "trixie-backports",
            }],
            Self::Sid
            | Self::NvmeCli
            | Self::Clients
            | Self::Llvm
            | Self::Mmdebstrap
            | Self::Fio => &[],
        }
    }

    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Trixie => [BASE, BUILD, BOOT, &["gcc-14"]].concat(),
            Self::Sid => [BASE, BUILD, &["gcc-16"]].concat(),
            Self::NvmeCli => NVME_CLI.to_vec(),
            Self::Clients => [BASE, CLIENTS].concat(),
            Self::Mmdebstrap => [BASE, MMDEBSTRAP].concat(),
            Self::Fio => [BASE, &["fio"]].concat(),
            Self::Llvm => [BASE, BUILD, &["clang", "lld", "llvm"]].concat(),
        }
    }

    /// Gets the root of this kind, and makes it if it is absent.
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

/// Does those parts of the packages' own scripts that the lab needs.
fn finish(root: &Path) -> Result<()> {
    for dir in MOUNT_POINTS.iter().copied().chain(["dev", "proc", "sys", "tmp", "run", "etc"]) {
        let path = root.join(dir);
        fs::create_dir_all(&path)?;
    }
    for (name, program) in [("awk", "mawk"), ("which", "which.debianutils")] {
        let bin = root.join("usr/bin");
        let link = bin.join(name);
        if bin.join(program).exists() && !link.is_symlink() {
            symlink(program, &link)?;
        }
    }
    for file in ["passwd", "group"] {
        let (from, to) = (
            root.join(format!("usr/share/base-passwd/{file}.master")),
            root.join("etc").join(file),
        );
        fs::copy(&from, &to)?;
    }
    // No program of the lab reads these files, and they are a fifth of the root.
    for unused in
        ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt"]
    {
        remove_tree(&root.join(unused))?;
    }
    capture(Sandbox::new(root).command("ldconfig"), "indexing the root's libraries with ldconfig")
        .map(drop)
}
