//! Debian systems as a user has them: packages installed by apt, with their own scripts, from a
//! repository of the lab's own. The lab's roots (see [`super::root`]) are only unpacked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use fs_err as fs;

use super::archive::Archive;
use super::cache::{Cache, Made, hash, remove_tree};
use super::device::{Device, Kind};
use super::process::{Step, capture, follow};
use super::root;
use super::run_dir::{RunDir, read_text};
use super::sandbox::{Sandbox, runs_as_root};
use crate::error::{Error, Result, last_lines};
use crate::log;

/// Incremented when a repository or a system made by an older recipe must not be used any more.
const RECIPE: u32 = 1;

/// The suites of the repository. apt takes nothing from backports that it is not asked for.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// Where a system finds the repository, and a directory that it shares with this machine.
const REPOSITORY: &str = "lab/debs";
const SHARED: &str = "lab/shared";

/// Indexes a directory of packages; `$1` is the suite.
const INDEX: &str = r#"cd "/build/stage/$1"
apt-ftparchive packages . >Packages
set -- "$1" -o "APT::FTPArchive::Release::Suite=$1" -o "APT::FTPArchive::Release::Codename=$1"
[ "$1" = trixie ] || set -- "$@" -o APT::FTPArchive::Release::NotAutomatic=yes \
    -o APT::FTPArchive::Release::ButAutomaticUpgrades=yes
shift
apt-ftparchive "$@" release . >Release"#;

/// A repository of Debian's packages.
pub struct Repository(Made);

impl Repository {
    /// Gets a repository with `packages` of trixie and `backports` of trixie-backports, and all that
    /// they depend on.
    pub fn obtain(
        cache: &Cache,
        name: &str,
        packages: &[&str],
        backports: &[&str],
    ) -> Result<Self> {
        let tools = root::Kind::Mmdebstrap.obtain(cache)?;
        let recipe = format!("{RECIPE} {packages:?} {backports:?} {}", hash(tools.made_from()));
        let made = cache.obtain(&format!("debs-{name}"), &recipe, |dir| {
            let archive = Archive::open(&dir.join("apt"), &SUITES, &[])?;
            let mut debs =
                archive.download_with_dependencies(&[&["?essential"], packages].concat())?;
            if !backports.is_empty() {
                debs = archive.download_from(SUITES[1], backports)?;
            }
            let mut names = Vec::new();
            for suite in SUITES {
                fs::create_dir_all(dir.join(suite))?;
            }
            for deb in debs {
                let file = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let suite = SUITES[usize::from(file.contains("bpo"))];
                fs::rename(&deb, dir.join(suite).join(&file))?;
                names.push(file);
            }
            remove_tree(&dir.join("apt"))?;
            for suite in SUITES {
                let mut index = Sandbox::new(tools.path()).bind(dir, "build/stage").command("sh");
                index.args(["-ec", INDEX, "sh", suite]);
                capture(index, "indexing packages with apt-ftparchive")?;
            }
            Ok(names)
        })?;
        Ok(Self(made))
    }

    /// Makes a Debian 13 with `packages`, or gets it from the cache.
    pub fn system(&self, cache: &Cache, name: &str, packages: &[&str]) -> Result<Made> {
        if !runs_as_root() {
            return Err(Error::other(
                "a Debian system has files of several users, so that only root can make one: run this as root",
            ));
        }
        let tools = root::Kind::Mmdebstrap.obtain(cache)?;
        let recipe = format!("{RECIPE} {packages:?} {}", hash(self.0.made_from()));
        cache.obtain(&format!("system-{name}"), &recipe, |dir| {
            let step = Step::start("Making a Debian system", None);
            let sandbox = Sandbox::new(tools.path())
                .bind(self.0.path(), "build/stage")
                .bind(dir, "build/linux");
            let mut command = sandbox.command("mmdebstrap");
            command.args([
                "--mode=root",
                "--variant=minbase",
                "--aptopt=APT::Install-Recommends false",
            ]);
            command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount");
            command.arg(format!("--include={}", packages.join(",")));
            // The repository's files were checked when they were downloaded.
            command.args(["trixie", "/build/linux/system"]);
            command.arg("deb [trusted=yes] file:///build/stage/trixie ./");
            follow(command, "making a Debian system with mmdebstrap", |line| step.note(line))?;
            let system = dir.join("system");
            for place in [REPOSITORY, SHARED] {
                fs::create_dir_all(system.join(place))?;
            }
            let source = |suite| format!("deb [trusted=yes] file:/{REPOSITORY}/{suite} ./\n");
            fs::write(system.join("etc/apt/sources.list"), SUITES.map(source).concat())?;
            Ok(packages.iter().map(|&package| package.to_owned()).collect())
        })
    }

    /// Returns a system that runs in `root`, and shares the directory `shared`.
    pub fn enter(&self, root: &Path, shared: &Path) -> System {
        let sandbox = Sandbox::new(root).bind(self.0.path(), REPOSITORY).bind(shared, SHARED);
        System { sandbox, root: root.to_owned() }
    }
}

/// Returns the root of a system that [`Repository::system`] made.
pub fn root_of(made: &Made) -> PathBuf {
    made.path().join("system")
}

/// A system whose programs run, though no kernel of its own.
pub struct System {
    sandbox: Sandbox,
    root: PathBuf,
}

impl System {
    /// Returns a shell that runs `script` as root in the shared directory.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.sandbox.command("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "HOME=/root", "sh", "-ec"]);
        command.arg(format!("cd /{SHARED}\n{script}"));
        command
    }

    /// Boots the system with an IOMMU and `devices`, as its boot loader would, and runs `script` as
    /// root once it has started. Returns what the script printed.
    ///
    /// # Errors
    ///
    /// If the script fails, the system does not end in time, or its kernel's log has a fault.
    pub fn boot(&self, cache: &Cache, devices: &[Kind], script: &str) -> Result<String> {
        let qemu = root::Kind::Trixie.obtain(cache)?;
        let dir = RunDir::create(cache)?;
        let guest = self.root.join("lab");
        for file in [SAID, STATUS, KERNEL] {
            remove_tree(&guest.join(file))?;
        }
        fs::write(guest.join("script"), script)?;
        fs::write(guest.join("run"), RUN)?;
        let sandbox = Sandbox::new(qemu.path())
            .bind_alone(&self.root, "lab/root")
            .bind(dir.path(), "lab/run");
        let mut command = sandbox.command("qemu-system-x86_64");
        command.args(QEMU).args(["-append", APPEND]);
        for device in Device::place(devices)? {
            command.args(device.options(None));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(dir.qemu_log()?);
        let ended = within(command, LIMIT);
        let said = read_text(&guest.join(SAID));
        let failed =
            |why: String| Error::other(format!("{why}\n{}\n{}", last_lines(&said, 40), dir.tail()));
        ended.map_err(|error| failed(format!("the system did not end: {error}")))?;
        match read_text(&guest.join(STATUS)).trim() {
            "0" => {}
            "" => return Err(failed("the system ended before it had run the script".to_owned())),
            status => return Err(failed(format!("the script failed with exit status {status}"))),
        }
        let (alarms, _) = log::judge(&read_text(&guest.join(KERNEL)));
        if alarms.is_empty() { Ok(said) } else { Err(failed(alarms.join("\n"))) }
    }
}

/// Files below `/lab` of a system that has booted: what the script said, its exit status, the
/// kernel's log.
const SAID: &str = "said";
const STATUS: &str = "status";
const KERNEL: &str = "kernel.log";

/// Runs the script of a boot, once udev has found all devices.
const RUN: &str = "#!/bin/sh
udevadm settle
sh -e /lab/script >/lab/said 2>&1
echo $? >/lab/status
dmesg >/lab/kernel.log
sync
";

/// systemd runs the script, and then ends the system.
const APPEND: &str = "console=ttyS0 intel_iommu=on no_timer_check panic=-1 root=root rootfstype=9p \
    rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose rw \
    systemd.run=\"/bin/sh /lab/run\" systemd.run_success_action=poweroff systemd.run_failure_action=poweroff";

/// QEMU's options. /vmlinuz and /initrd.img are links to the newest kernel that is installed.
const QEMU: &[&str] = &[
    "-M",
    "q35,kernel-irqchip=off",
    "-accel",
    "tcg",
    "-cpu",
    "max,+svm,-erms,-fsrm",
    "-smp",
    "2",
    "-m",
    "3G",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-serial",
    "file:/lab/run/console.log",
    "-kernel",
    "/lab/root/vmlinuz",
    "-initrd",
    "/lab/root/initrd.img",
    "-fsdev",
    "local,id=root,path=/lab/root,security_model=none,multidevs=remap",
    "-device",
    "intel-iommu,intremap=on,caching-mode=on",
    "-device",
    "virtio-9p-pci,fsdev=root,mount_tag=root,bus=pcie.0,addr=0x1d",
];

/// The longest time of a boot with its script.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a command to its end, or kills it at a time limit.
fn within(mut command: Command, limit: Duration) -> io::Result<()> {
    let (mut child, start) = (command.spawn()?, Instant::now());
    while child.try_wait()?.is_none() {
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            let why = format!("stopped after {} seconds", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
