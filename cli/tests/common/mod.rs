//! A system that exists only as files, and the command that reads it.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The Rust core's counts of a function: two vectors, and one that is gone.
pub const TABLE: &str = "mode msix requests 9 refused 1 enables 1 disables 0 attaches 3 detaches 1
vector   irq state      signals      masks    unmasks  retargets  loopbacks   failures
     0    27 unmasked        12          1          1          2          0          0
     3    28 masked           7          1          0          0          3          0
  gone     - -                7          0          0          0          0          1
";

/// Returns the command with its words; `--root` and a directory in front of them select the tree.
pub fn command(words: &[&str]) -> Command {
    // The command ignores SIGHUP if it inherits that, as from tests that nohup started.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_vfio-irq")]);
    command.env_remove("RUST_LOG").env_remove("VFIO_IRQ_ROOT");
    match words {
        ["--root", root, words @ ..] => command.args(words).env("VFIO_IRQ_ROOT", root),
        words => command.args(words),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns the output of a command that succeeds.
pub fn said(words: &[&str]) -> String {
    let output = command(words).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {error}");
    assert_eq!(error, "", "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the output as JSON.
pub fn json(words: &[&str]) -> serde_json::Value {
    serde_json::from_str(&said(&[words, &["--json"]].concat())).unwrap()
}

/// Returns a JSON text with the same time in every document.
pub fn undated(text: &str) -> String {
    let mut rest = text;
    let mut undated = String::new();
    while let Some((before, after)) = rest.split_once("\"time\": \"") {
        let (time, after) = after.split_once('"').unwrap();
        // 2026-11-27T06:09:49.123456Z
        assert!(time.len() == 27 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
        undated = format!("{undated}{before}\"time\": \"…\"");
        rest = after;
    }
    undated + rest
}

/// Returns the error output of a command that fails.
pub fn refused(words: &[&str]) -> String {
    let output = command(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Waits for a condition, but not forever.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a command. Returns its output.
pub fn stop(child: std::process::Child, signal: &str) -> Output {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

/// `/sys` and `/proc` below a directory.
pub struct Tree(tempfile::TempDir);

/// Returns configuration space with these vectors.
pub fn config(msix: u16, msi_control: u16) -> Vec<u8> {
    let mut config = vec![0; 256];
    (config[0x06], config[0x34], config[0x3d]) = (0x10, 0x40, 1);
    let (msi, x) = (msi_control.to_le_bytes(), msix.saturating_sub(1).to_le_bytes());
    let next = if msix > 0 { 0x50 } else { 0 };
    config[0x40..0x44].copy_from_slice(&[0x05, next, msi[0], msi[1]]);
    if msi_control == 0 {
        config[0x40] = 0x01;
    }
    config[0x50..0x54].copy_from_slice(&[0x11, 0, x[0], x[1]]);
    config
}

impl Tree {
    /// Creates Linux 7.3 with vfio-pci, its core in C, and no functions.
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.file("proc/sys/kernel/osrelease", "7.3.4-amd64\n");
        tree.file("proc/interrupts", "            CPU0       CPU1\n");
        tree.file("sys/bus/pci/drivers_probe", "");
        fs::create_dir_all(tree.path("sys/bus/pci/devices")).unwrap();
        tree.has_driver("vfio-pci");
        tree.file("sys/module/vfio_pci_core/refcnt", "1\n");
        tree
    }

    /// Replaces the core in C.
    pub fn has_rust_core(&self) {
        self.file("sys/module/vfio_pci_core/version", "vfio-irq 0.1.0\n");
    }

    /// Adds the Rust core's counts of a function.
    pub fn counts(&self, bdf: &str, text: &str) {
        self.file(&format!("sys/kernel/debug/vfio/{bdf}/interrupts"), text);
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Returns the words that make the command read this tree.
    pub fn words<'t>(&'t self, words: &[&'t str]) -> Vec<&'t str> {
        [&["--root", self.0.path().to_str().unwrap()], words].concat()
    }

    /// Returns a text of the command without the name of this directory.
    pub fn plain(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "")
    }

    pub fn file(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn link(&self, file: &str, to: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(self.path(to), path).unwrap();
    }

    pub fn has_driver(&self, name: &str) {
        self.file(&format!("sys/bus/pci/drivers/{name}/bind"), "");
        self.file(&format!("sys/bus/pci/drivers/{name}/unbind"), "");
    }

    /// Acts as the kernel does: once the function at `at` is unbound from `driver`, it has no driver.
    /// Returns a thread, whose result is what is written to drivers_probe.
    pub fn lets_go(&self, at: &str, driver: &str) -> std::thread::JoinHandle<String> {
        let [probe, unbind, link] = [
            "sys/bus/pci/drivers_probe".to_owned(),
            format!("sys/bus/pci/drivers/{driver}/unbind"),
            format!("{at}/driver"),
        ]
        .map(|file| self.path(&file));
        fs::remove_file(&probe).unwrap();
        let pipe = Command::new("mkfifo").arg(&probe).status().unwrap();
        assert!(pipe.success());
        std::thread::spawn(move || {
            eventually("the function is unbound", || !fs::read(&unbind).unwrap().is_empty());
            fs::remove_file(&link).unwrap();
            // The command waits for this reader, so that it looks at the link afterwards.
            fs::read_to_string(&probe).unwrap()
        })
    }

    /// Adds a function with its driver, in a group with the functions of the same number.
    pub fn function(
        &self,
        bdf: &str,
        class: &str,
        config: &[u8],
        driver: &str,
        group: &str,
    ) -> String {
        let at = format!("sys/devices/pci0000:00/{bdf}");
        self.file(&format!("{at}/class"), format!("0x{class}\n"));
        self.file(&format!("{at}/vendor"), "0x8086\n");
        self.file(&format!("{at}/device"), "0x10c9\n");
        self.file(&format!("{at}/driver_override"), "(null)\n");
        self.file(&format!("{at}/config"), config);
        self.link(&format!("sys/bus/pci/devices/{bdf}"), &at);
        if !driver.is_empty() {
            self.has_driver(driver);
            self.link(&format!("{at}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        }
        if !group.is_empty() {
            let of = format!("sys/kernel/iommu_groups/{group}");
            self.link(&format!("{at}/iommu_group"), &of);
            self.link(&format!("{of}/devices/{bdf}"), &at);
        }
        at
    }

    /// Adds an interrupt of a function; without words, it is allocated only.
    pub fn irq(&self, bdf: &str, irq: u32, words: &str) {
        self.file(&format!("sys/devices/pci0000:00/{bdf}/msi_irqs/{irq}"), "msix\n");
        if !words.is_empty() {
            let all = self.read("proc/interrupts");
            self.file("proc/interrupts", format!("{all}{irq:>4}: {words}\n"));
        }
    }
}

/// Returns a path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Returns a terminal of this size: this side and the program's side.
pub fn terminal(columns: u16, rows: u16) -> (fs::File, fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    let ours = fs::File::from(
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap(),
    );
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    (ours, fs::File::options().read(true).write(true).open(path).unwrap())
}

/// Returns the whole output on a terminal, once no program has its side.
pub fn all_of(ours: &mut fs::File) -> String {
    use std::io::Read;
    let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = ours.read(&mut bytes) {
        said.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(said).unwrap()
}

/// Returns the columns of each line, without colour codes.
pub fn widths(text: &str) -> Vec<usize> {
    let width = |line: &str| {
        let (mut inside, mut width) = (false, 0);
        for letter in line.chars() {
            inside |= letter == '\x1b';
            width += usize::from(!inside);
            inside &= !letter.is_ascii_alphabetic();
        }
        width
    };
    text.split(['\r', '\n']).map(width).collect()
}
