//! Runs a guest: a stock kernel, devices bound to a VFIO driver, one command, its outcome.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fs_err::{self as fs, File};

use super::cache::{Cache, Made, remove_tree};
use super::device::{self, Device};
use super::image::Image;
use super::kernel::{Kernel, Series};
use super::process::drain;
use super::root;
use super::run_dir::{Report, RunDir, read_text};
use super::sandbox::Sandbox;
use super::start::{FAIR, STARTED, at_most_twice, is_started};
use crate::core_module;
use crate::error::{Error, Result, last_lines};
use crate::log;

/// The vfio-pci-core that the guest's kernel loads. The driver on top of it is Linux's own vfio-pci.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Core {
    /// Linux's own, all of it in C
    C,
    /// This project's build of it, with its interrupts in Rust
    Rust,
}

impl Core {
    /// Returns its name in the guest's VFIO_IRQ_CORE and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Rust => "rust",
        }
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::C => "C",
            Self::Rust => "Rust",
        })
    }
}

/// The driver to which devices are bound.
pub const DRIVER: &str = "vfio-pci";

/// The parameters of a guest.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The kernel's series.
    pub series: Series,
    /// The vfio-pci-core to load.
    pub core: Core,
    /// The module to load for [`Core::Rust`]; built from the checkout if `None`.
    pub module: Option<PathBuf>,
    /// Modules to load in place of the kernel's own VFIO and of `module`; may be empty.
    pub vfio: Vec<PathBuf>,
    /// The devices.
    pub devices: Vec<device::Kind>,
    /// The content of the first file system.
    pub image: Image,
    /// Count instructions instead of time, so that runs repeat exactly.
    pub icount: bool,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// True if the command runs in a Debian root.
    pub root: bool,
    /// The kind of that root.
    pub userland: root::Kind,
    /// True if the guest can run KVM guests of its own.
    pub nested: bool,
    /// Size in MiB of the file behind each NVMe disk. Without it, disks read as zeroes and lose
    /// writes.
    pub disk: Option<u64>,
    /// The time limit.
    pub timeout: Duration,
    /// Additions to the kernel's command line.
    pub append: Vec<String>,
    /// True if the command's output goes to this program's standard output as it comes.
    pub echo: bool,
    /// True if the command is interactive.
    pub shell: bool,
}

/// How a guest ended, with its output and logs.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status.
    pub status: u8,
    /// What the command printed.
    pub output: String,
    /// The kernel's log at the end.
    pub log: String,
    /// The file with the console's output.
    pub console: PathBuf,
    /// The time from QEMU's start to its end.
    pub took: Duration,
    /// True if the guest did not reach its first program, and this is its second start.
    pub started_twice: bool,
}

impl Outcome {
    /// Returns an error if the command failed or the kernel's log has a fault. Lines of the log that
    /// `provoked` accepts are no faults.
    pub fn check(&self, provoked: impl Fn(&str) -> bool) -> Result<()> {
        let said = last_lines(&self.output, 40);
        let (mut alarms, _) = log::judge(&self.log);
        alarms.retain(|line| !provoked(line));
        if !alarms.is_empty() {
            let alarms = alarms.join("\n");
            return Err(Error::other(format!("the guest's kernel said:\n{alarms}\n{said}")));
        }
        if self.status != 0 {
            return Err(Error::other(format!("exit status {}:\n{said}", self.status)));
        }
        Ok(())
    }
}

impl Builder {
    /// Creates a guest of `series` with the vfio-pci-core of `core`.
    pub fn new(series: Series, core: Core) -> Self {
        Self {
            series,
            core,
            module: None,
            vfio: Vec::new(),
            devices: Vec::new(),
            image: Image::default(),
            icount: false,
            cpus: 1,
            memory: 1024,
            root: false,
            userland: root::Kind::Trixie,
            nested: false,
            disk: None,
            timeout: Duration::from_secs(300),
            append: Vec::new(),
            echo: false,
            shell: false,
        }
    }

    /// Boots the guest, runs the command, and waits for the end. Returns the outcome.
    pub fn run(&self, cache: &Cache) -> Result<Outcome> {
        let started = at_most_twice(|| Ready::new(self, cache)?.run(self))?;
        Ok(Outcome { started_twice: started.twice, ..started.value })
    }

    fn complete_image(&self, cache: &Cache, devices: &[Device]) -> Result<Image> {
        let mut image = self.image.clone();
        let mut first: Vec<String> = Vec::new();
        if self.root {
            first.extend(["9pnet_virtio", "9p", "overlay"].map(str::to_owned));
        }
        if self.nested {
            first.push("kvm_amd".to_owned());
            image.parameters.push("kvm_amd.nested=1".to_owned());
        }
        if self.vfio.is_empty() {
            first.extend(["vfio_iommu_type1", "irqbypass"].map(str::to_owned));
            if self.core == Core::Rust {
                let built = self
                    .module
                    .clone()
                    .map_or_else(|| core_module::build(cache, self.series), Ok)?;
                first.push(built.display().to_string());
            }
            // vfio-pci names its own vfio-pci-core too, which is loaded only if no other is.
            first.push(DRIVER.to_owned());
        } else {
            first.push("irqbypass".to_owned());
            first.extend(self.vfio.iter().map(|path| path.display().to_string()));
        }
        image.modules.splice(0..0, first);
        let mut set = |name: &str, value: String| image.variables.push((name.to_owned(), value));
        set("VFIO_IRQ_DRIVER", DRIVER.to_owned());
        set("VFIO_IRQ_CORE", self.core.name().to_owned());
        let mut all = Vec::new();
        for device in devices {
            set(&device.variable(), device.address());
            all.push(device.address());
        }
        set("BIND", all.join(" "));
        set("ROOT", if self.root { "1" } else { "" }.to_owned());
        set("SHELL_WANTED", if self.shell { "1" } else { "" }.to_owned());
        if self.shell {
            set("TERM", std::env::var("TERM").unwrap_or_default());
            let (rows, columns) = terminal_size();
            set("LINES", rows);
            set("COLUMNS", columns);
        }
        Ok(image)
    }

    /// Returns QEMU's processor option. QEMU emulates `rep stosb` byte by byte. A kernel that sees
    /// ERMS and FSRM clears and copies pages with such instructions, which takes five times as
    /// long. Counts of instructions keep all features, because published figures were made with
    /// them.
    fn processor(&self) -> String {
        let speed = if self.icount { "" } else { ",-erms,-fsrm" };
        let nested = if self.nested { ",+svm" } else { "" };
        format!("max{speed}{nested}")
    }

    fn arguments(&self, devices: &[Device], disks: &HashMap<String, String>) -> Vec<String> {
        let mut list: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
        let (memory, cpus) = (format!("{}M", self.memory), self.cpus.to_string());
        add(&["-M", "q35,kernel-irqchip=off", "-accel", "tcg"]);
        add(&["-cpu", &self.processor(), "-m", &memory, "-smp", &cpus]);
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-kernel", "/lab/kernel/vmlinuz", "-initrd", "/lab/run/initrd"]);
        add(&["-chardev", "stdio,id=command,signal=off"]);
        add(&[
            "-serial",
            "file:/lab/run/console.log",
            "-serial",
            "chardev:command",
            "-serial",
            "file:/lab/run/report",
        ]);
        // The IOMMU must come before its devices.
        add(&["-device", "intel-iommu,intremap=on,caching-mode=on"]);
        if self.icount {
            add(&["-icount", "shift=0,sleep=off"]);
        }
        if self.root {
            add(&[
                "-fsdev",
                "local,id=root,path=/lab/root,security_model=none,readonly=on,multidevs=remap",
            ]);
            add(&["-device", "virtio-9p-pci,fsdev=root,mount_tag=root,bus=pcie.0,addr=0x1d"]);
        }
        // Warnings must appear on the console, because they explain why a guest dies. On a busy
        // machine the guest may stand still while its kernel counts the timer's interrupts, and the
        // kernel panics; no_timer_check prevents that.
        let append =
            "console=ttyS0 loglevel=5 intel_iommu=on iommu=pt no_timer_check panic=-1 oops=panic";
        add(&["-append", &[&[append.to_owned()], self.append.as_slice()].concat().join(" ")]);
        for device in devices {
            list.extend(device.options(disks.get(&device.address()).map(String::as_str)));
        }
        list
    }
}

/// A guest with everything that its start needs.
struct Ready {
    root: Made,
    userland: Made,
    kernel: Kernel,
    arguments: Vec<String>,
    dir: RunDir,
}

impl Ready {
    fn new(builder: &Builder, cache: &Cache) -> Result<Self> {
        let root = root::Kind::Trixie.obtain(cache)?;
        let userland = builder.userland.obtain(cache)?;
        let kernel = Kernel::obtain(cache, builder.series)?;
        let devices = Device::place(&builder.devices)?;
        let image = builder.complete_image(cache, &devices)?;
        let dir = RunDir::create(cache)?;
        fs::write(dir.path().join("initrd"), image.build(root.path(), &kernel)?)?;
        let disks = make_disks(builder, &devices, dir.path())?;
        let arguments = builder.arguments(&devices, &disks);
        Ok(Self { root, userland, kernel, arguments, dir })
    }

    fn command(&self) -> Command {
        let sandbox = Sandbox::new(self.root.path())
            .bind_alone(self.userland.path(), "lab/root")
            .bind(&self.kernel.dir().join("modules"), "lab/root/usr/lib/modules")
            .bind(self.kernel.dir(), "lab/root/lab/kernel")
            .bind(self.kernel.dir(), "lab/kernel")
            .bind(self.dir.path(), "lab/run");
        let mut command = sandbox.command("qemu-system-x86_64");
        command.args(&self.arguments);
        command
    }

    fn run(&self, builder: &Builder) -> Result<Outcome> {
        let mut command = self.command();
        command.stderr(self.dir.qemu_log()?);
        if builder.shell {
            command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        }
        let start = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|e| Error::other(format!("cannot start unshare (package util-linux): {e}")))?;
        let (output, end) = attend(&mut child, builder, &self.dir.report_file());
        let status =
            child.wait().map_err(|e| Error::other(format!("cannot wait for QEMU: {e}")))?;
        let took = start.elapsed();
        // The disks and the image are useless after the run, and they are most of the space.
        for file in ["initrd", "disk0", "disk1", "disk2"] {
            remove_tree(&self.dir.path().join(file))?;
        }
        let console = self.dir.console();
        let died = |how: String| {
            Err(Error::Guest { how, console: self.dir.console(), tail: self.dir.tail() })
        };
        match end {
            End::ByItself => {}
            End::NotStarted => {
                return Err(Error::NotStarted { waited: FAIR, tail: self.dir.tail(), console });
            }
            End::OutOfTime => {
                let seconds = builder.timeout.as_secs();
                return died(format!("was not done after {seconds} seconds and was stopped"));
            }
        }
        let Report { log, end, .. } = self.dir.report();
        match end.split_once(' ') {
            Some(("exit", code)) => {
                let status = code.trim().parse().unwrap_or(u8::MAX);
                Ok(Outcome { status, output, log, console, took, started_twice: false })
            }
            Some(("failure", reason)) => {
                Err(Error::Setup { reason: reason.trim().to_owned(), console })
            }
            _ if read_text(&console).contains("Kernel panic") => {
                let report = read_text(&self.dir.report_file());
                if report.lines().any(|line| line == STARTED) {
                    return died("panicked".to_owned());
                }
                // No module is loaded yet: the kernel's boot under emulation has failed.
                Err(Error::NotStarted { waited: took, tail: self.dir.tail(), console })
            }
            _ => died(format!("ended without a word (QEMU: {status})")),
        }
    }
}

/// How QEMU's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The guest ended, or QEMU did.
    ByItself,
    /// The guest was stopped at its time limit.
    OutOfTime,
    /// The guest was stopped because it did not reach its first program.
    NotStarted,
}

/// Reads the guest's output until it ends or is stopped. Returns the output and how it ended.
fn attend(qemu: &mut Child, builder: &Builder, report: &Path) -> (String, End) {
    let deadline = Instant::now() + builder.timeout;
    let echo = builder.echo;
    let reader = qemu.stdout.take().map(|out| thread::spawn(move || drain(out, echo)));
    let started = is_started(qemu, report, FAIR.min(builder.timeout));
    while matches!(qemu.try_wait(), Ok(None)) && started && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let end = match qemu.try_wait() {
        Ok(None) if !started && builder.timeout > FAIR => End::NotStarted,
        Ok(None) => End::OutOfTime,
        _ => End::ByItself,
    };
    if end != End::ByItself {
        // The guest may have ended just now; then there is no process to kill.
        let _ = qemu.kill();
    }
    let output = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    (String::from_utf8_lossy(&output).into_owned(), end)
}

/// Returns rows and columns of this program's terminal; empty without a terminal.
fn terminal_size() -> (String, String) {
    let said = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let said = said.unwrap_or_default();
    let (rows, columns) = said.trim().split_once(' ').unwrap_or_default();
    (rows.to_owned(), columns.to_owned())
}

/// Makes files behind the NVMe disks. Returns their paths inside the sandbox.
fn make_disks(
    builder: &Builder,
    devices: &[Device],
    dir: &Path,
) -> Result<HashMap<String, String>> {
    let mut disks = HashMap::new();
    let Some(size) = builder.disk else {
        return Ok(disks);
    };
    for (index, device) in
        devices.iter().filter(|device| device.kind == device::Kind::Nvme).enumerate()
    {
        let path = dir.join(format!("disk{index}"));
        let file = File::create(&path)?;
        file.set_len(size << 20)?;
        disks.insert(device.address(), format!("/lab/run/disk{index}"));
    }
    Ok(disks)
}
