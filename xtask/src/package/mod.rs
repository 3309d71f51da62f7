//! `cargo xtask package`: the Debian packages of the command and of the Rust core.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::checkout::{cargo, checkout, git};
use crate::core_module::{copy_sources, copy_tree};
use crate::error::{Error, Result};
use crate::lab::cache::{Cache, hash, remove_tree};
use crate::lab::debian::{Repository, root_of};
use crate::lab::process::{Step, capture, follow};
use crate::lab::start::Started;

mod installed;
mod notices;

pub use installed::{life, quick_starts};

/// The packages that build and judge packages.
const TOOLS: &[&str] = &["debhelper", "dh-dkms", "lintian"];

/// What must work before the command is packaged.
const RUNS: &str = "running the command, as it was built here, in a Debian 13";

const DKMS: &str = "vfio-pci-core-rs-dkms";

/// The packages.
const NAMES: &[&str] = &["vfio-irq", "vfio-irq-dbgsym", DKMS];

/// What to package.
#[derive(clap::Args)]
pub struct Options {
    /// The directory that gets the packages; earlier ones of this project there are removed
    #[arg(long, value_name = "DIRECTORY", default_value = "target/package")]
    out: PathBuf,
}

/// Builds the packages and prints where they are.
pub fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.out)?;
    let packages = build(&Cache::open()?, VERSION)?;
    // Packages of other versions would match the names that the quick starts install, too.
    for old in fs::read_dir(&options.out)?.flatten() {
        let name = old.file_name();
        let name = name.to_string_lossy();
        let is_ours = NAMES.iter().any(|ours| name.starts_with(&format!("{ours}_")));
        if is_ours && name.ends_with(".deb") {
            fs::remove_file(old.path())?;
        }
    }
    for package in packages {
        let to = options.out.join(package.file_name().unwrap_or_default());
        fs::copy(&package, &to)?;
        println!("{}", to.display());
    }
    Ok(())
}

/// Builds the packages, which lintian must find nothing in.
pub fn check(cache: &Cache) -> Result<Started<Vec<String>>> {
    let names = build(cache, VERSION)?;
    let names = names.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy()));
    Ok(Started { value: vec![names.collect::<Vec<_>>().join(" ")], twice: false })
}

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds the packages with a version. Returns their paths, which the next build may overwrite.
pub fn build(cache: &Cache, version: &str) -> Result<Vec<PathBuf>> {
    let tools = Repository::obtain(cache, "package", TOOLS, &[])?;
    let system = tools.system(cache, "package", TOOLS)?;
    let name = format!("package-{}", hash(&checkout().display().to_string()));
    let (lock, shared) = (cache.lock_file(&name)?, cache.scratch(&name)?);
    lock.lock()?;
    remove_tree(&shared)?;
    let stage = shared.join("vfio-irq");
    fs::create_dir_all(&stage)?;
    fill(&stage, version)?;
    let system = tools.enter(&root_of(&system), &shared);
    // This machine's C library may be newer than Debian's, and a program asks for that of its build.
    let said = capture(system.shell("vfio-irq/bin/vfio-irq --version 2>&1"), RUNS)?;
    if said.trim() != format!("vfio-irq {VERSION}") {
        return Err(Error::other(format!("{RUNS}: it printed {said:?}")));
    }
    let step = Step::start("Building the packages", None);
    // The compiler's packages are no build dependency of what cargo has built.
    let build = system.shell("cd vfio-irq; dpkg-buildpackage --no-check-builddeps -b -us -uc 2>&1");
    follow(build, "building the packages with dpkg-buildpackage", |line| step.note(line))?;
    step.note("lintian");
    let lint = "lintian --allow-root --info --fail-on error,warning *.changes 2>&1";
    capture(system.shell(lint), "judging the packages with lintian")?;
    let files = fs::read_dir(&shared)?.flatten().map(|entry| entry.path());
    let mut debs: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
    debs.sort();
    Ok(debs)
}

/// Fills the directory from which packages are built.
fn fill(stage: &Path, version: &str) -> Result<()> {
    let from = checkout();
    let copy = |file: &str, to: &str| -> Result<()> {
        let to = stage.join(to);
        fs::create_dir_all(to.parent().unwrap_or(stage))?;
        fs::copy(from.join(file), to)?;
        Ok(())
    };
    command(stage)?;
    copy_tree(&from.join("packaging/debian"), &stage.join("debian"))?;
    copy_sources(from, stage)?;
    fs::remove_file(stage.join("kernel/Kbuild"))?;
    copy("packaging/dkms/build-core", "build-core")?;
    copy("packaging/dkms/dkms.conf", &format!("debian/{DKMS}.dkms"))?;
    // debhelper takes a changelog beside debian/ for that of the package.
    copy("CHANGELOG.md", "docs/CHANGELOG.md")?;
    for file in ["CONTRACT.md", "docs/json.md"] {
        copy(file, file)?;
    }
    let changes = format!(
        "vfio-irq ({version}) unstable; urgency=medium\n\n  * CHANGELOG.md says what changed.\n\n \
         -- vfio-irq maintainers <maintainers@vfio-irq.invalid>  {}\n",
        date()?
    );
    Ok(fs::write(stage.join("debian/changelog"), changes)?)
}

/// Returns the date of the sources: that of the last commit, so that the same commit makes the same
/// package, or the time of the changelog where there is no repository.
fn date() -> Result<String> {
    if let Some(date) = git(&["log", "-1", "--format=%aD"]).ok().filter(|date| !date.is_empty()) {
        return Ok(date);
    }
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["-R", "-r"]).arg(checkout().join("CHANGELOG.md"));
    Ok(capture(date, "reading the date of CHANGELOG.md")?.trim().to_owned())
}

/// Builds the command, its manual pages, and what completes its words.
fn command(stage: &Path) -> Result<()> {
    let target = checkout().join("target/package-build");
    let mut build = cargo();
    build.args(["build", "--release", "-p", "vfio-irq-cli", "--target-dir"]);
    let step = Step::start("Building the command", None);
    follow(
        {
            build.arg(&target);
            build
        },
        "building the command with cargo",
        |line| step.note(line),
    )?;
    let program = target.join("release/vfio-irq");
    for dir in ["bin", "completions"] {
        fs::create_dir_all(stage.join(dir))?;
    }
    fs::copy(&program, stage.join("bin/vfio-irq"))?;
    fs::write(stage.join("NOTICES"), notices::notices("vfio-irq-cli")?)?;
    let mut man = Command::new(&program);
    man.args(["man", "--out"]).arg(stage.join("man"));
    capture(man, "writing the manual pages")?;
    for (shell, file) in [("bash", "vfio-irq"), ("zsh", "_vfio-irq"), ("fish", "vfio-irq.fish")] {
        let mut complete = Command::new(&program);
        // The script names the program as it was called.
        complete.arg0("vfio-irq").args(["completions", shell]);
        let script = capture(complete, "writing completions")?;
        if script.contains(&*target.to_string_lossy()) {
            return Err(Error::other(format!(
                "the completions of {shell} name {}",
                target.display()
            )));
        }
        fs::write(stage.join("completions").join(file), script)?;
    }
    Ok(())
}
