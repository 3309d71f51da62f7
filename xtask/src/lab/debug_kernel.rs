//! Debug kernels: Linux 7.3 with the sanitizers and checkers that show what tests do not. They have
//! what VFIO needs and no more, so that two cores build one in minutes.

use std::path::Path;

use fs_err as fs;

use super::cache::{Cache, hash, remove_tree};
use super::kernel::{Series, download_newest_sources, make_with, unpack_sources};
use super::process::{Step, capture, follow};
use super::root;
use super::sandbox::Sandbox;
use crate::error::{Error, Result};

/// Incremented when a kernel built by an older recipe must not be used any more.
const RECIPE: u32 = 1;

/// The directory of the kernel's built sources, against which modules are built.
pub const TREE: &str = "build";

/// A debug kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sanitizer {
    /// Use after free (KASAN), with lock order (lockdep), sleeping in atomic context, leaks
    /// (kmemleak) and fault injection.
    Kasan,
    /// Data races (KCSAN).
    Kcsan,
}

/// The options of every debug kernel. Everything else is off, unless one of these needs it.
const CONFIG: &str = include_str!("debug_kernel.config");

impl Sanitizer {
    fn config(self) -> String {
        let own = match self {
            Self::Kasan => include_str!("kasan.config"),
            Self::Kcsan => include_str!("kcsan.config"),
        };
        format!("{CONFIG}{own}")
    }

    /// Returns what a build of this project's core adds for the Rust compiler. The kernel's build
    /// has flags for KASAN, and none for KCSAN.
    pub fn rust_flags(self) -> Option<&'static str> {
        match self {
            Self::Kasan => None,
            Self::Kcsan => Some(
                "-Zsanitizer=thread \
                 -Cllvm-args=-tsan-distinguish-volatile=1 \
                 -Cllvm-args=-tsan-compound-read-before-write=1",
            ),
        }
    }

    fn local_version(self) -> &'static str {
        match self {
            Self::Kasan => "-vfio-irq-debug",
            Self::Kcsan => "-vfio-irq-kcsan",
        }
    }
}

/// Parts of the sources that the kernel is not built from.
const UNUSED: [&str; 7] = [
    "Documentation/*/*.rst",
    "drivers/gpu/*.[ch]",
    "drivers/net/ethernet/*.[ch]",
    "drivers/net/wireless/*.[ch]",
    "sound/*.c",
    "tools/perf/*",
    "*.dts",
];

/// Returns the text from which the kernel is made.
pub fn recipe(sanitizer: Sanitizer) -> String {
    let flags = sanitizer.rust_flags().unwrap_or_default();
    format!("debug kernel {RECIPE} {}", hash(&(sanitizer.config() + flags)))
}

/// Fills `dir` as a stock kernel: `release`, `vmlinuz`, `modules/`, `headers/`, and [`TREE`].
pub fn fill(cache: &Cache, sanitizer: Sanitizer, dir: &Path) -> Result<Vec<String>> {
    let root = root::Kind::Llvm.obtain(cache)?;
    let tree = dir.join(TREE);
    let sandbox = Sandbox::new(root.path()).bind(&tree, "build/linux");
    let work = tree.join("work");
    let names = download_newest_sources(Series::V7_3, &work)?;
    let exclude = |pattern: &&str| format!("--exclude=linux-source-{}/{pattern}", Series::V7_3);
    let unused: Vec<String> = UNUSED.iter().map(exclude).collect();
    unpack_sources(Series::V7_3, &sandbox, "/build/linux/work", "/build/linux", &unused)?;
    remove_tree(&work)?;

    if sanitizer == Sanitizer::Kcsan {
        allow_thread_sanitizer(&tree.join("scripts/generate_rust_target.rs"))?;
    }

    let make = |targets: &[&str]| {
        let mut command = make_with(&sandbox, &["LLVM=1".to_owned()], sanitizer.local_version());
        command.args(targets);
        command
    };
    let config = sanitizer.config();
    fs::write(tree.join("vfio-irq.config"), &config)?;
    let configure = make(&["KCONFIG_ALLCONFIG=vfio-irq.config", "allnoconfig"]);
    capture(configure, "configuring the debug kernel with make")?;
    check_config(&config, &fs::read_to_string(tree.join(".config"))?)?;
    let step = Step::start("Building the debug kernel (a quarter of an hour on two cores)", None);
    let build = make(&["bzImage", "modules"]);
    follow(build, "building the debug kernel with make", |line| step.note(line))?;
    drop(step);
    let install = make(&["INSTALL_MOD_PATH=/build/linux/installed", "modules_install"]);
    capture(install, "collecting the debug kernel's modules with make")?;

    fs::rename(tree.join("arch/x86/boot/bzImage"), dir.join("vmlinuz"))?;
    fs::rename(tree.join("installed/lib/modules"), dir.join("modules"))?;
    fs::copy(tree.join("include/config/kernel.release"), dir.join("release"))?;
    fs::create_dir(dir.join("headers"))?;
    for file in [".config", "Module.symvers"] {
        fs::copy(tree.join(file), dir.join("headers").join(file))?;
    }
    Ok(names)
}

/// Adds the thread sanitizer to those that the kernel's target of Rust can have. Code for another
/// target cannot be linked, so the whole kernel is built for this one.
fn allow_thread_sanitizer(generator: &Path) -> Result<()> {
    const KNOWN: &str = "\"kcfi\", \"kernel-address\"";
    let text = fs::read_to_string(generator)?;
    if !text.contains(KNOWN) {
        return Err(Error::other(format!("{} names no sanitizers of x86", generator.display())));
    }
    Ok(fs::write(generator, text.replace(KNOWN, &format!("{KNOWN}, \"thread\"")))?)
}

/// Checks that the sources know every option and leave it as it was set.
fn check_config(wanted: &str, made: &str) -> Result<()> {
    let is_missing = |wanted: &&str| {
        let Some((name, value)) = wanted.split_once('=') else { return false };
        let set = made.lines().any(|line| line == *wanted);
        let absent = !made.lines().any(|line| line.starts_with(&format!("{name}=")));
        !(set || value == "n" && absent)
    };
    let missing: Vec<&str> = wanted.lines().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::other(format!(
        "the kernel's configuration does not allow {} (xtask/src/lab/*.config)",
        missing.join(", ")
    )))
}
