//! The packages as a user meets them, on a Debian 13 that is installed, boots, and is upgraded: the
//! book's quick starts, and the life of the packages.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

use super::build;
use crate::book;
use crate::checkout::checkout;
use crate::error::{Error, Result, last_lines};
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::debian::{Repository, System, root_of};
use crate::lab::device::Kind::{self, Igb, Nvme};
use crate::lab::process::{Step as Progress, capture};
use crate::lab::run_dir::RunDir;
use crate::lab::start::Started;

/// What the system has from the start.
const BASE: &[&str] =
    &["dbus", "initramfs-tools", "kmod", "pciutils", "procps", "systemd-sysv", "udev", "zstd"];

/// What it gets from Debian later.
const MORE: &[&str] = &[
    "bc",
    "bindgen",
    "bison",
    "dkms",
    "dpdk",
    "dpdk-dev",
    "driverctl",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "libvirt-clients",
    "libvirt-daemon-system",
    "linux-headers-amd64",
    "linux-image-amd64",
    "openssl",
    "pahole",
    "pci.ids",
    "python3",
    "qemu-system-x86",
    "rust-src",
    "rustc",
    "rustfmt",
    "xz-utils",
];
const BACKPORTS: &[&str] =
    &["linux-headers-amd64", "linux-image-amd64", "linux-source-7.3", "qemu-system-x86"];

/// The version of the packages and their directory, and the version that replaces the first.
const FIRST: (&str, &str) = (super::VERSION, "first");
const NEXT: &str = "0.9999.0";

/// Where a step runs.
enum Place {
    /// In the system while no kernel of it runs, as on a machine that is being set up.
    Chroot,
    /// In the system after it has booted, with these devices.
    Boot(&'static [Kind]),
    /// On this machine, in the checkout.
    Here,
}
use Place::{Boot, Chroot, Here};

/// A step: its name, where it runs, and a script that fails if anything is not as it should be.
/// `{{NAME}}` stands for the commands of the book's block of that name.
type Step = (&'static str, Place, &'static str);

/// `has PATTERN COMMAND …` runs a command, which must succeed and print the pattern.
const PRELUDE: &str = r#"
has() {
    pattern=$1; shift
    "$@" >/tmp/has 2>&1 || { cat /tmp/has; echo "failed: $*"; return 1; }
    cat /tmp/has
    grep -q -e "$pattern" /tmp/has || { echo "$* did not print: $pattern"; return 1; }
}
# `hasnt PATTERN COMMAND …` runs a command, which must succeed and not print the pattern. A line that begins
# with `!` would fail nothing: sh -e ignores it.
hasnt() {
    pattern=$1; shift
    "$@" >/tmp/has 2>&1 || { cat /tmp/has; echo "failed: $*"; return 1; }
    ! grep -e "$pattern" /tmp/has || { echo "$* printed: $pattern"; return 1; }
}
# Waits until a command succeeds.
until_it() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 250 ] || { echo "did not come to pass: $*"; return 1; }
        sleep 1
    done
}
used() { [ "$(grep -c "vfio-msix.*$1" /proc/interrupts)" -ge 2 ]; }
own_core() { modprobe vfio-pci; [ ! -e /sys/module/vfio_pci_core/version ]; }
"#;

/// A Debian 13 with its own kernel. The initramfs finds the lab's root.
const FRESH: Step = (
    "a Debian 13 with its own kernel",
    Chroot,
    "printf '%s\\n' 9p 9pnet_virtio virtio_pci >>/etc/initramfs-tools/modules
     apt-get -q update
     apt-get -q -y install linux-image-amd64 linux-headers-amd64",
);

const QUICK_STARTS: &[Step] = &[
    ("the demo", Here, "{ {{demo-run}} } >/tmp/demo; cat /tmp/demo; grep 'dynamic: .*nothing was lost' /tmp/demo"),
    (
        "a device of one's own",
        Here,
        "PATH=$PWD/target/package-build/release:$PATH
         rm -f /tmp/doorbell.sock
         { {{device-serve}} } >/tmp/serve 2>&1 & server=$!
         # The shell may have become the server, or be its parent.
         trap 'pkill -P $server || kill $server' EXIT
         until_it test -S /tmp/doorbell.sock || { cat /tmp/serve; exit 1; }
         { {{device-look}} } >/tmp/look; cat /tmp/look
         grep -q 'MSI-X      4  signals eventfds, maskable, vectors added at any time' /tmp/look
         grep -q ', 0 broken' /tmp/look",
    ),
    FRESH,
    (
        "QEMU: installed; DKMS builds the core and signs it",
        Chroot,
        "apt-get -q -y install openssl
         cd first; {{qemu-install}}
         release=$(readlink /vmlinuz | sed s,.*vmlinuz-,,)
         has \"vfio-pci-core-rs/.*, $release, x86_64: installed\" dkms status
         has '^signer: .*DKMS module signing key' modinfo -k $release vfio-pci-core
         has updates/dkms/vfio-pci-core.ko modprobe -S $release --show-depends vfio-pci",
    ),
    (
        "QEMU: a guest uses the device on the Rust core",
        Boot(&[Nvme]),
        "has ^7.3 uname -r
         {{qemu-bind}}
         { {{qemu-look}} } >/tmp/look; cat /tmp/look; grep -q '^vfio-pci-core: vfio-irq ' /tmp/look
         { {{qemu-run}} } </dev/null >/tmp/qemu 2>&1 &
         until_it used 0000:00:04.0 || { cat /tmp/qemu; exit 1; }
         {{qemu-interrupts}}
         pkill qemu-system; wait || :
         has ', 0 broken' vfio-irq conform 0000:00:04.0 --profile full",
    ),
    (
        "libvirt: a managed device",
        Chroot,
        "{{libvirt-install}}
         rm /etc/udev/rules.d/05-vfio-irq-*",
    ),
    (
        "libvirt: a guest uses the device, and it goes back",
        Boot(&[Nvme]),
        "systemctl start libvirtd
         { {{libvirt-define}} } || { journalctl -b -u libvirtd | tail; cat /var/log/libvirt/qemu/guest.log; exit 1; }
         until_it used 0000:00:04.0 || { cat /var/log/libvirt/qemu/guest.log; exit 1; }
         { {{libvirt-look}} } >/tmp/look; cat /tmp/look; grep -q '0000:00:04.0.* vfio-pci .*yes' /tmp/look
         {{libvirt-undo}}
         until_it sh -c 'vfio-irq list | grep \"0000:00:04.0.* nvme \"' || { dmesg | tail; exit 1; }",
    ),
    ("DPDK: installed", Chroot, "{{dpdk-install}}"),
    (
        "DPDK: sends, and the device goes back",
        Boot(&[Igb, Igb]),
        "{{dpdk-bind}}
         { {{dpdk-look}} } >/tmp/look; cat /tmp/look; grep -q '^0000:00:04.0 .*drv=vfio-pci' /tmp/look
         { {{dpdk-run}} } >/tmp/sent 2>&1 || :
         cat /tmp/sent | tail -n 30; grep -q 'TX-packets: [1-9]' /tmp/sent
         {{dpdk-undo}}
         has '0000:00:04.0.* igb ' vfio-irq list",
    ),
    ("vfio-user: QEMU of backports", Chroot, "{{vfio-user-install}}"),
    (
        "vfio-user: a guest uses the emulated disk",
        Boot(&[]),
        "{ {{vfio-user-serve}} } >/tmp/serve 2>&1 &
         until_it test -S /tmp/disk.sock
         { {{vfio-user-run}} } </dev/null >/tmp/qemu 2>&1 &
         look() { {{vfio-user-look}} }
         busy() { look | grep -q '\"signals\":[1-9]'; }
         until_it busy || { look; cat /tmp/serve; tail /tmp/qemu; exit 1; }
         look
         pkill qemu-system; pkill vfio-irq; wait || :",
    ),
    (
        "QEMU: the device goes back",
        Boot(&[Nvme]),
        "{{qemu-bind}}
         {{qemu-unbind}}
         has '0000:00:04.0.* nvme ' vfio-irq list",
    ),
    (
        "QEMU: the core is removed, and every kernel has its own again",
        Chroot,
        "{{qemu-remove}}
         release=$(readlink /vmlinuz | sed s,.*vmlinuz-,,)
         has kernel/drivers/vfio/pci/vfio-pci-core.ko modprobe -S $release --show-depends vfio-pci
         hasnt . find /lib/modules -path '*/updates/*.ko*'",
    ),
];

const LIFE: &[Step] = &[
    FRESH,
    (
        "installed where the kernel has no Rust: the kernel keeps its own core, and it is said why",
        Chroot,
        "apt-get -q -y install openssl ./first/vfio-*.deb >log 2>&1 || { cat log; exit 1; }
         cat log
         grep -q 'kernel 6.12.*keeps its own vfio-pci-core: this version knows the vfio-pci-core of Linux' log
         hasnt . find /lib/modules -path '*/updates/*'",
    ),
    (
        "used with the kernel's own core, and kept for the next boot",
        Boot(&[Nvme]),
        "has ^6.12 uname -r
         own_core
         vfio-irq bind nvme0 --persist
         has \"vfio-pci-core: Linux's own\" vfio-irq list",
    ),
    (
        "the kernel is upgraded: DKMS builds the core for it",
        Chroot,
        "apt-get -q -y install -t trixie-backports linux-image-amd64 linux-headers-amd64
         has 'vfio-pci-core-rs/.*, 7.3.*: installed' dkms status
         hasnt 6.12 dkms status
         du -sh /var/lib/dkms",
    ),
    (
        "the new kernel has the Rust core, and the function is bound",
        Boot(&[Nvme]),
        "has ^7.3 uname -r
         has '^vfio-irq ' cat /sys/module/vfio_pci_core/version
         has '0000:00:04.0.* vfio-pci ' vfio-irq list",
    ),
    (
        "the package is upgraded: the old core goes, and the new one is built",
        Chroot,
        "apt-get -q -y install ./next/vfio-*.deb
         has 'vfio-pci-core-rs/0.9999.0, 7.3.*: installed' dkms status
         [ \"$(dkms status | grep -c vfio-pci-core-rs)\" = 1 ]
         [ \"$(ls -d /usr/src/vfio-pci-core-rs-*)\" = /usr/src/vfio-pci-core-rs-0.9999.0 ]",
    ),
    (
        "the function goes back, and stays with its own driver",
        Boot(&[Nvme]),
        "has '^vfio-irq ' cat /sys/module/vfio_pci_core/version
         vfio-irq unbind 0000:00:04.0
         has '0000:00:04.0.* nvme ' vfio-irq list
         # As at boot: the override is set already, and then vfio-pci does not take the function.
         override=/sys/bus/pci/devices/0000:00:04.0/driver_override
         echo vfio-pci >$override
         mount -o bind /dev/null /sys/bus/pci/drivers_probe
         if vfio-irq bind 0000:00:04.0 >/tmp/said 2>&1; then exit 1; fi
         has 'vfio-pci did not take 0000:00:04.0' cat /tmp/said
         umount /sys/bus/pci/drivers_probe
         has '0000:00:04.0.* nvme ' vfio-irq list
         has '^vfio-pci$' cat $override
         echo >$override
         hasnt 05-vfio-irq ls /etc/udev/rules.d",
    ),
    (
        "the function stays with its own driver, though the initramfs has a copy of the rule",
        Boot(&[Nvme]),
        "has '0000:00:04.0.* nvme ' vfio-irq list
         has 05-vfio-irq-0000:00:04.0.rules lsinitramfs /initrd.img",
    ),
    (
        "removed: every kernel has its own core again; driverctl comes",
        Chroot,
        "apt-get -q -y remove vfio-pci-core-rs-dkms
         release=$(readlink /vmlinuz | sed s,.*vmlinuz-,,)
         has kernel/drivers/vfio/pci/vfio-pci-core.ko modprobe -S $release --show-depends vfio-pci
         hasnt . find /lib/modules -path '*/updates/*.ko*'
         apt-get -q -y install driverctl",
    ),
    (
        "the kernel's own core again; driverctl keeps what the command is asked to keep",
        Boot(&[Nvme]),
        "own_core
         vfio-irq bind nvme0 --persist
         has '^vfio-pci$' cat /etc/driverctl.d/pci-0000:00:04.0
         has '0000:00:04.0 vfio-pci' driverctl list-persisted",
    ),
    (
        "driverctl has bound the function",
        Boot(&[Nvme]),
        "until_it sh -c 'vfio-irq list | grep \"0000:00:04.0.* vfio-pci \"'
         vfio-irq unbind 0000:00:04.0
         hasnt . ls /etc/driverctl.d",
    ),
    ("the command is purged", Chroot, "apt-get -q -y purge vfio-irq; [ ! -e /usr/bin/vfio-irq ]"),
];

/// Runs the commands of the book's quick starts.
pub fn quick_starts(cache: &Cache) -> Result<Started<Vec<String>>> {
    take_all(cache, QUICK_STARTS, &[FIRST])
}

/// Installs, upgrades and removes the packages.
pub fn life(cache: &Cache) -> Result<Started<Vec<String>>> {
    take_all(cache, LIFE, &[FIRST, (NEXT, "next")])
}

/// Takes steps in a new system, which shares the packages of `versions`. Returns their names.
fn take_all(
    cache: &Cache,
    steps: &[Step],
    versions: &[(&str, &str)],
) -> Result<Started<Vec<String>>> {
    let all = [BASE, MORE].concat();
    let repository = Repository::obtain(cache, "installed", &all, BACKPORTS)?;
    let base = repository.system(cache, "installed", BASE)?;
    let dir = RunDir::create(cache)?;
    let (root, shared) = (dir.path().join("system"), dir.path().join("shared"));
    for (version, name) in versions {
        let to = shared.join(name);
        fs::create_dir_all(&to)?;
        for package in build(cache, version)? {
            fs::copy(&package, to.join(package.file_name().unwrap_or_default()))?;
        }
    }
    copy(&root_of(&base), &root)?;
    let system = repository.enter(&root, &shared);
    let taken = steps.iter().try_for_each(|step| {
        take(cache, &system, step).map_err(|error| Error::other(format!("{}: {error}", step.0)))
    });
    remove_tree(&root)?;
    taken?;
    let names = steps.iter().map(|(name, ..)| (*name).to_owned());
    Ok(Started { value: names.collect(), twice: false })
}

fn take(cache: &Cache, system: &System, (name, place, script): &Step) -> Result<()> {
    let _step = Progress::start(name, None);
    let script = format!("{PRELUDE}{}", book::expand(script)?);
    let said = match place {
        Chroot => capture(system.shell(&format!("exec 2>&1\n{script}")), "the script")?,
        Boot(devices) => system.boot(cache, devices, &script)?,
        Here => {
            let mut shell = Command::new("sh");
            shell.current_dir(checkout()).args(["-ec", &format!("exec 2>&1\n{script}")]);
            capture(shell, "the script")?
        }
    };
    eprintln!("{}", last_lines(&said, 12));
    Ok(())
}

/// Copies a system with owners and links.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto"]).arg(from).arg(to);
    capture(command, "copying a system").map(drop)
}

#[cfg(test)]
mod tests {
    use super::{LIFE, QUICK_STARTS};
    use crate::book::expand;

    #[test]
    fn every_block_of_the_book_that_a_step_names_exists() {
        for (name, _, script) in QUICK_STARTS.iter().chain(LIFE) {
            let script = expand(script).expect(name);
            // sh -e ignores such a line.
            assert!(!script.lines().any(|line| line.trim_start().starts_with("! ")), "{name}");
        }
    }
}
