//! Stock Debian kernels: finds them in the archive, unpacks them, and prepares their sources for
//! module builds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use super::archive::{Archive, unpack};
use super::cache::{Cache, Made, hash, remove_tree};
use super::debug_kernel::{self, Sanitizer};
use super::process::{Step, capture, follow};
use super::root;
use super::sandbox::Sandbox;
use crate::error::{Error, Result};

/// Incremented when a kernel unpacked by an older recipe must not be used any more.
const RECIPE: u32 = 2;

/// Incremented when sources prepared by an older recipe must not be used any more.
const TREE_RECIPE: u32 = 2;

/// A series of kernels the lab knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Series {
    /// Bookworm's: MSI-X is not dynamic (NORESIZE).
    #[value(name = "6.1")]
    V6_1,
    /// Trixie's: MSI-X is dynamic, drivers in C only.
    #[value(name = "6.12")]
    V6_12,
    /// Sid's, with its own compiler.
    #[value(name = "7.2")]
    V7_2,
    /// Trixie-backports'.
    #[value(name = "7.3")]
    V7_3,
    /// Built here from the sources of 7.3: KASAN, lockdep, kmemleak, fault injection.
    #[value(name = "7.3-debug")]
    V7_3Debug,
    /// Built here from the sources of 7.3: KCSAN, which reports data races.
    #[value(name = "7.3-kcsan")]
    V7_3Kcsan,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
            Self::V7_3 => "7.3",
            Self::V7_3Debug => "7.3-debug",
            Self::V7_3Kcsan => "7.3-kcsan",
        })
    }
}

impl Series {
    /// Returns true if modules in Rust can be built for the kernel.
    pub fn has_rust(self) -> bool {
        !matches!(self, Self::V6_1 | Self::V6_12)
    }

    /// Returns the root whose compilers built the kernel.
    pub fn toolchain(self) -> root::Kind {
        match self {
            Self::V7_2 => root::Kind::Sid,
            Self::V7_3Debug | Self::V7_3Kcsan => root::Kind::Llvm,
            Self::V6_1 | Self::V6_12 | Self::V7_3 => root::Kind::Trixie,
        }
    }

    /// Returns what watches the kernel, if it is one of the debug kernels, which are built here.
    pub fn sanitizer(self) -> Option<Sanitizer> {
        match self {
            Self::V7_3Debug => Some(Sanitizer::Kasan),
            Self::V7_3Kcsan => Some(Sanitizer::Kcsan),
            Self::V6_1 | Self::V6_12 | Self::V7_2 | Self::V7_3 => None,
        }
    }

    /// Returns the suite of Debian that has the kernel.
    pub fn suite(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::V7_2 => "sid",
            Self::V7_3 | Self::V7_3Debug | Self::V7_3Kcsan => "trixie-backports",
        }
    }

    /// Returns the name of the kernel's package: before and after the part that varies.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::V6_1 => ("linux-image-6.1.0-", "-amd64"),
            Self::V6_12 => ("linux-image-6.12.", "+deb13-amd64"),
            Self::V7_2 => ("linux-binary-7.2.", "+deb14-amd64"),
            Self::V7_3 | Self::V7_3Debug | Self::V7_3Kcsan => ("linux-binary-7.3.", "+deb13-amd64"),
        }
    }

    /// Returns the newest release of the series in the archive, as `uname -r` prints it.
    fn release(self, archive: &Archive) -> Result<String> {
        let (before, after) = self.package();
        let number = |name: &String| -> Option<u32> {
            name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
        };
        let newest = archive
            .names(before)?
            .into_iter()
            .filter_map(|name| Some((number(&name)?, name)))
            .max();
        if let Some((_, name)) = newest {
            let start = "linux-image-".len().min(name.len());
            let start =
                if name.starts_with("linux-binary-") { "linux-binary-".len() } else { start };
            return Ok(name[start..].to_owned());
        }
        let mut found: Vec<String> =
            [archive.names("linux-binary-")?, archive.names("linux-image-")?].concat();
        let unwanted = ["unsigned", "cloud", "rt-", "dbg", "template"];
        found.retain(|name| {
            name.ends_with("-amd64") && !unwanted.iter().any(|part| name.contains(part))
        });
        found.sort();
        Err(Error::KernelGone {
            suite: self.suite().to_owned(),
            wanted: format!("{before}*{after}"),
            found,
        })
    }
}

/// A kernel to boot: its image and its modules.
#[derive(Debug)]
pub struct Kernel {
    /// The release of the kernel, as `uname -r` prints it.
    pub release: String,
    made: Made,
}

impl Kernel {
    /// Gets the newest kernel of `series`, from the cache or from the archive.
    pub fn obtain(cache: &Cache, series: Series) -> Result<Self> {
        let name = format!("kernel-{series}");
        let made = if let Some(sanitizer) = series.sanitizer() {
            let recipe = debug_kernel::recipe(sanitizer);
            cache.obtain(&name, &recipe, |dir| debug_kernel::fill(cache, sanitizer, dir))?
        } else {
            let recipe = format!("kernel {series} {RECIPE}");
            cache.obtain(&name, &recipe, |dir| unpack_kernel(cache, series, dir))?
        };
        let path = made.path().join("release");
        let release = fs::read_to_string(&path)?.trim().to_owned();
        Ok(Self { release, made })
    }

    /// Returns a text that identifies the interface of the kernel's modules.
    fn interface(&self) -> Result<String> {
        let read = |file: &str| {
            let path = self.dir().join("headers").join(file);
            fs::read_to_string(&path)
        };
        Ok(hash(&format!("{} {} {}", self.release, read(".config")?, read("Module.symvers")?)))
    }

    /// Returns the directory with `vmlinuz`, `modules/` and, for kernels with Rust, `headers/`.
    pub fn dir(&self) -> &Path {
        self.made.path()
    }
}

/// Fills `dir` with a kernel: `release`, `vmlinuz`, `modules/RELEASE/…`, and the files that a
/// module build needs.
fn unpack_kernel(cache: &Cache, series: Series, dir: &Path) -> Result<Vec<String>> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    let work = dir.join("work");
    let archive = Archive::open(&work.join("apt"), &[series.suite()], &[])?;
    let release = series.release(&archive)?;
    let packages = if series.has_rust() {
        ["base", "binary", "modules", "headers"]
            .map(|part| format!("linux-{part}-{release}"))
            .to_vec()
    } else {
        vec![format!("linux-image-{release}")]
    };
    let debs = archive.download_alone(&packages.iter().map(String::as_str).collect::<Vec<_>>())?;
    let names = unpack(&debs, &work)?;
    let move_to = |from: &Path, to: &str| fs::rename(from, dir.join(to));
    let first_of = |places: [PathBuf; 2]| {
        places.iter().find(|p| p.exists()).cloned().unwrap_or_else(|| places[0].clone())
    };
    let modules = first_of([work.join("usr/lib/modules"), work.join("lib/modules")]);
    let image = first_of([
        modules.join(&release).join("vmlinuz"),
        work.join("boot").join(format!("vmlinuz-{release}")),
    ]);
    move_to(&image, "vmlinuz")?;
    move_to(&modules, "modules")?;
    if series.has_rust() {
        move_to(&work.join("usr/src").join(format!("linux-headers-{release}")), "headers")?;
    }
    remove_tree(&work)?;
    let sandbox = Sandbox::new(tools.path()).bind(&dir.join("modules"), "usr/lib/modules");
    let mut depmod = sandbox.command("depmod");
    depmod.arg(&release);
    capture(depmod, "indexing the kernel's modules with depmod")?;
    let path = dir.join("release");
    fs::write(&path, format!("{release}\n"))?;
    Ok(names)
}

/// A kernel's sources, prepared so that modules (in Rust too) can be built against them.
#[derive(Debug)]
pub struct Tree {
    root: Made,
    path: PathBuf,
    _made: Option<Made>,
    kernel: Kernel,
    sanitizer: Option<Sanitizer>,
}

impl Tree {
    /// Gets the prepared tree for the newest kernel of `series`.
    pub fn obtain(cache: &Cache, series: Series) -> Result<Self> {
        if !series.has_rust() {
            return Err(Error::other(format!(
                "kernel {series} is built without Rust (CONFIG_RUST): the core is built for 7.3 and 7.2"
            )));
        }
        let root = series.toolchain().obtain(cache)?;
        let kernel = Kernel::obtain(cache, series)?;
        let sanitizer = series.sanitizer();
        if sanitizer.is_some() {
            let path = kernel.dir().join(debug_kernel::TREE);
            return Ok(Self { root, path, _made: None, kernel, sanitizer });
        }
        let recipe =
            format!("tree {TREE_RECIPE} {} {}", hash(root.made_from()), kernel.interface()?);
        let made = cache.obtain(&format!("tree-{series}"), &recipe, |dir| {
            prepare(series, &root, &kernel, dir)
        })?;
        let path = made.path().to_owned();
        Ok(Self { root, path, _made: Some(made), kernel, sanitizer })
    }

    /// Returns the kernel of the tree.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Returns the directory of the kernel's sources.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `make` in the tree, with `stage` as the module's directory.
    pub fn make(&self, stage: &Path) -> Result<Command> {
        let sandbox = Sandbox::new(self.root.path())
            .bind(&self.path, "build/linux")
            .bind(stage, "build/stage");
        let mut command = make(&sandbox, &self.kernel)?;
        command.args(["M=/build/stage", "modules"]);
        if let Some(flags) = self.sanitizer.and_then(Sanitizer::rust_flags) {
            command.arg(format!("KRUSTFLAGS={flags}"));
        }
        Ok(command)
    }
}

/// Returns the value of a string option in the configuration of `kernel`.
fn config_string(kernel: &Kernel, option: &str) -> Result<String> {
    let path = kernel.dir().join("headers/.config");
    let config = fs::read_to_string(&path)?;
    let value = config
        .lines()
        .find_map(|line| line.strip_prefix(option)?.strip_prefix("=\"")?.strip_suffix('"'));
    value.map(str::to_owned).ok_or_else(|| {
        Error::other(format!("kernel {} has no {option} in its configuration", kernel.release))
    })
}

/// Returns `make` with the kernel's own compiler and name.
fn make(sandbox: &Sandbox, kernel: &Kernel) -> Result<Command> {
    let text = config_string(kernel, "CONFIG_CC_VERSION_TEXT")?;
    let compiler = text.split_whitespace().next().unwrap_or("gcc");
    let compiler = if text.contains("clang") {
        vec!["LLVM=1".to_owned()]
    } else {
        vec![format!("CC={compiler}"), format!("HOSTCC={compiler}")]
    };
    let version_end = kernel.release.find(['+', '-']).unwrap_or(kernel.release.len());
    Ok(make_with(sandbox, &compiler, &kernel.release[version_end..]))
}

/// Returns `make` in the sources of a kernel, with the arguments of its compiler and the last part
/// of its release.
pub(super) fn make_with(sandbox: &Sandbox, compiler: &[String], local_version: &str) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = sandbox.command("make");
    command.args(["-C", "/build/linux", "ARCH=x86"]).arg(format!("-j{jobs}")).args(compiler);
    command.arg(format!("LOCALVERSION={local_version}"));
    command
}

/// Parts of the sources that neither `modules_prepare` nor the core's build reads, relative to
/// their top.
const UNUSED: &[&str] = &[
    "Documentation/*/*.rst",
    "Documentation/devicetree/*",
    // All of drivers/ except vfio.
    "drivers/[!v]*.c",
    "drivers/v[!f]*.c",
    "drivers/gpu/*.h",
    "drivers/net/*.h",
    "sound/*.c",
    "fs/*.c",
    "net/*.c",
    "tools/testing/*",
    "tools/perf/*",
    "arch/*.dts",
    "arch/*.dtsi",
    "samples/*.c",
    "mm/*.c",
    "crypto/*.c",
    "security/*.c",
];

/// Downloads the sources of `kernel` into `work`. Returns the name and
/// version of their package.
pub fn download_sources(series: Series, kernel: &Kernel, work: &Path) -> Result<Vec<String>> {
    let names = download_newest_sources(series, work)?;
    let version = kernel.release.split(['+', '-']).next().unwrap_or_default();
    if names.iter().any(|name| name.contains(&format!("_{version}-"))) {
        return Ok(names);
    }
    Err(Error::other(format!(
        "the archive's sources ({}) are not those of kernel {}; run `cargo xtask lab --clean` and try again",
        names.join(", "),
        kernel.release
    )))
}

/// Downloads the newest sources of a stock series into `work`. Returns the name and version of
/// their package.
pub(super) fn download_newest_sources(series: Series, work: &Path) -> Result<Vec<String>> {
    let archive = Archive::open(&work.join("apt"), &[series.suite()], &[])?;
    unpack(&archive.download_alone(&[&format!("linux-source-{series}")])?, work)
}

/// Unpacks sources that [`download_sources`] has put into `work`. Both paths are those inside the
/// sandbox. `choice` are tar's options and members that choose the files.
pub fn unpack_sources(
    series: Series,
    sandbox: &Sandbox,
    work: &str,
    to: &str,
    choice: &[String],
) -> Result<()> {
    let _step = Step::start("Unpacking the kernel's sources", None);
    let mut tar = sandbox.command("tar");
    tar.args(["--extract", "--strip-components=1", "--no-same-owner", "--directory", to]);
    tar.arg(format!("--file={work}/usr/src/linux-source-{series}.tar.xz"));
    tar.args(choice);
    capture(tar, "unpacking the kernel's sources with tar").map(drop)
}

/// Fills `dir` with the kernel's sources and builds what stock headers lack: the metadata of its
/// Rust crates.
fn prepare(series: Series, root: &Made, kernel: &Kernel, dir: &Path) -> Result<Vec<String>> {
    let sandbox = Sandbox::new(root.path()).bind(dir, "build/linux");
    check_compiler(&sandbox, kernel)?;
    let work = dir.join("work");
    let names = download_sources(series, kernel, &work)?;
    let exclude = |pattern: &&str| format!("--exclude=linux-source-{series}/{pattern}");
    let unused: Vec<String> = UNUSED.iter().map(exclude).collect();
    unpack_sources(series, &sandbox, "/build/linux/work", "/build/linux", &unused)?;
    remove_tree(&work)?;
    for file in [".config", "Module.symvers"] {
        let from = kernel.dir().join("headers").join(file);
        fs::copy(&from, dir.join(file))?;
    }
    let step = Step::start("Building the metadata of the kernel's Rust crates (two minutes)", None);
    let mut command = make(&sandbox, kernel)?;
    command.args(["olddefconfig", "modules_prepare"]);
    follow(command, "preparing the kernel's sources with make", |line| step.note(line))?;
    drop(step);
    check_release(kernel, dir)?;
    Ok(names)
}

/// Checks the compiler. A module in Rust must be compiled by the kernel's own compiler, because
/// symbols carry its hash.
fn check_compiler(sandbox: &Sandbox, kernel: &Kernel) -> Result<()> {
    let wanted = config_string(kernel, "CONFIG_RUSTC_VERSION_TEXT")?;
    let mut rustc = sandbox.command("rustc");
    rustc.arg("--version");
    let found = capture(rustc, "asking rustc for its version")?.trim().to_owned();
    if found == wanted {
        return Ok(());
    }
    Err(Error::CompilerMismatch { release: kernel.release.clone(), wanted, found })
}

/// Checks the release. The kernel refuses modules of another release.
fn check_release(kernel: &Kernel, dir: &Path) -> Result<()> {
    let path = dir.join("include/config/kernel.release");
    let made = fs::read_to_string(&path)?;
    if made.trim() == kernel.release {
        return Ok(());
    }
    Err(Error::other(format!(
        "the prepared sources call themselves {}, and the kernel is {}",
        made.trim(),
        kernel.release
    )))
}
