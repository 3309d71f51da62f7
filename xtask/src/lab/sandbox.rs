//! Runs programs of a Debian root that is not installed: in a mount namespace, with chroot. An
//! ordinary user becomes root of a user namespace, which is sufficient.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::capture;
use crate::error::{Error, Result};

/// Directories the lab mounts into a root; they exist in each root.
pub const MOUNT_POINTS: [&str; 6] =
    ["build/linux", "build/stage", "lab/run", "lab/kernel", "lab/root", "usr/lib/modules"];

/// Mounts directories and then executes the program. `$1` is the root, then come pairs of
/// directories up to `--`, then the program. If the first half of a pair starts with `=`, it is
/// mounted without the mounts below it. The program dies with its parent.
const ENTER: &str = r#"set -e
root=$1; shift
while [ "$1" != -- ]; do
    case $1 in
    =*) mount --bind "${1#=}" "$root/$2";;
    *) mount --rbind "$1" "$root/$2";;
    esac
    shift 2
done
shift
for dir in dev proc sys; do mount --rbind "/$dir" "$root/$dir"; done
mount -t tmpfs tmp "$root/tmp"
exec setpriv --pdeathsig KILL chroot "$root" /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin HOME=/tmp LC_ALL=C.UTF-8 "TERM=$TERM" "$@"
"#;

/// A Debian root and the directories mounted into it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    root: PathBuf,
    binds: Vec<String>,
}

impl Sandbox {
    /// Creates a sandbox for programs of `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), binds: Vec::new() }
    }

    /// Mounts `from` at `to` inside, which is one of [`MOUNT_POINTS`] or a directory of the root.
    pub fn bind(mut self, from: &Path, to: &str) -> Self {
        self.binds.extend([from.display().to_string(), to.trim_start_matches('/').to_owned()]);
        self
    }

    /// Acts as [`Sandbox::bind`], without the mounts below `from`.
    pub fn bind_alone(mut self, from: &Path, to: &str) -> Self {
        self.binds.extend([format!("={}", from.display()), to.trim_start_matches('/').to_owned()]);
        self
    }

    /// Returns the command that runs `program` inside. One thread must spawn it and wait for it:
    /// the program is killed when the thread that started it ends.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        if !runs_as_root() {
            command.arg("--map-root-user");
        }
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "/bin/sh",
            "-c",
            ENTER,
            "enter",
        ]);
        command.arg(&self.root).args(&self.binds).arg("--").arg(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        command
    }
}

/// Tries whether this machine lets this user make a root, and explains if it does not.
pub fn check() -> Result<()> {
    let mut command = Command::new("unshare");
    if !runs_as_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "--", "/bin/sh", "-c", "mount -t tmpfs tmp /mnt"]);
    capture(command, "making a mount namespace").map(drop).map_err(|error| match error {
        Error::Failed { output, .. } => Error::other(format!(
            "this machine does not let this user make a mount namespace: {output}\n\
             The lab runs Debian's programs in one. Run as root in a container that has CAP_SYS_ADMIN, or allow user \
             namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
        )),
        other => other,
    })
}

/// Returns true if this user is root, and not only in a namespace.
pub fn runs_as_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    uid == Some("0")
}
