//! Tests of `bind` and `unbind` on a system made of files: the obstacles, and the writes.

mod common;

use common::{Tree, config, refused, said, undated};
use std::os::unix::fs::symlink;

const NVME: &str = "0000:00:04.0";

fn disk(driver: &str) -> (Tree, String) {
    let tree = Tree::new();
    let at = tree.function(NVME, "010802", &config(65, 0), driver, "1");
    (tree, at)
}

/// Adds a disk of the function with a partition.
fn namespace(tree: &Tree, at: &str) {
    for (path, number) in [("nvme0n1", "259:0"), ("nvme0n1/nvme0n1p1", "259:1")] {
        let below = format!("{at}/nvme/nvme0/{path}");
        tree.file(&format!("{below}/dev"), format!("{number}\n"));
        let name = path.rsplit('/').next().unwrap();
        tree.link(&format!("sys/class/block/{name}"), &below);
    }
    tree.file(&format!("{at}/nvme/nvme0/nvme0n1/queue/scheduler"), "none\n");
    tree.file(&format!("{at}/nvme/nvme0/nvme0n1/nvme0n1p1/partition"), "1\n");
}

#[test]
fn a_dry_run_shows_the_steps_and_takes_none() {
    let (tree, at) = disk("nvme");
    let shown = said(&tree.words(&["bind", "00:04.0", "--dry-run"]));
    insta::assert_snapshot!("bind_dry_run", tree.plain(&shown));
    tree.has_driver("mlx5_vfio_pci");
    let words = ["bind", NVME, "--driver", "mlx5_vfio_pci", "--dry-run", "--json"];
    let shown = said(&tree.words(&words));
    insta::assert_snapshot!("bind_dry_run_json", undated(&tree.plain(&shown)));
    assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n");
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), "");
    assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "");
}

/// Files do not bind drivers: the command takes every step, none has an effect, and it undoes all
/// of them.
#[test]
fn a_driver_that_does_not_take_it_leaves_things_as_they_were() {
    let (tree, at) = disk("nvme");
    tree.file(&format!("{at}/driver_override"), "mine\n");
    let said = refused(&tree.words(&["bind", NVME]));
    assert!(said.contains("vfio-pci did not take 0000:00:04.0 (all is as it was)"), "{said}");
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), format!("{NVME}\n"));
    assert_eq!(tree.read("sys/bus/pci/drivers_probe"), format!("{NVME}\n"));
    assert!(tree.read(&format!("{at}/driver_override")).starts_with("mine\n"));
}

#[test]
fn a_step_that_fails_undoes_those_before_it() {
    let (tree, at) = disk("nvme");
    std::fs::remove_file(tree.path("sys/bus/pci/drivers/nvme/unbind")).unwrap();
    let said = refused(&tree.words(&["bind", NVME]));
    assert!(said.contains("cannot write") && said.contains("all is as it was"), "{said}");
    assert!(tree.read(&format!("{at}/driver_override")).starts_with('\n'));
    assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "");
}

#[test]
fn a_function_that_is_bound_already_is_left_alone() {
    let (tree, at) = disk("vfio-pci");
    assert!(said(&tree.words(&["bind", NVME])).contains("is bound to vfio-pci already"));
    assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n");
}

#[test]
fn unbind_gives_the_function_to_any_driver() {
    let (tree, at) = disk("vfio-pci");
    tree.file(&format!("{at}/driver_override"), "");
    let kernel = tree.lets_go(&at, "vfio-pci");
    said(&tree.words(&["unbind", NVME]));
    assert_eq!(tree.read(&format!("{at}/driver_override")), "\n");
    assert_eq!(tree.read("sys/bus/pci/drivers/vfio-pci/unbind"), format!("{NVME}\n"));
    assert_eq!(kernel.join().unwrap(), format!("{NVME}\n"));
    // Where vfio-pci was told to take devices of this kind, it takes the function again.
    let (tree, at) = disk("vfio-pci");
    tree.file(&format!("{at}/driver_override"), "");
    let error = refused(&tree.words(&["unbind", NVME]));
    assert!(error.contains("vfio-pci took 0000:00:04.0 again"), "{error}");
    assert!(error.contains("all is as it was") && error.contains("remove_id"), "{error}");
    let (tree, _) = disk("nvme");
    assert!(
        refused(&tree.words(&["unbind", NVME])).contains("not bound to a VFIO driver: nvme has")
    );
    assert!(refused(&tree.words(&["unbind", "00:09.0"])).contains("no PCI function"));
}

/// A tree with an obstacle, the message about it, and whether it can be forced.
type Case = (&'static str, fn(&Tree, &str), &'static str, bool);

#[test]
fn what_would_break_is_said_before_anything_is_done() {
    let cases: &[Case] = &[
        (
            "a mounted partition",
            |tree, at| {
                namespace(tree, at);
                let line = "36 1 259:1 / /data rw - ext4 /dev/nvme0n1p1 rw\n";
                tree.file("proc/self/mountinfo", line);
            },
            "nvme0n1p1 on nvme0n1 is mounted at /data: umount /data",
            false,
        ),
        (
            "a file system over several disks",
            |tree, at| {
                namespace(tree, at);
                tree.file("proc/self/mountinfo", "36 1 0:35 / / rw - btrfs /dev/nvme0n1 rw\n");
            },
            "nvme0n1 is mounted at /: this machine runs from it: choose another device",
            false,
        ),
        (
            "swap",
            |tree, at| {
                namespace(tree, at);
                tree.file("proc/swaps", "Filename Type\n/dev/nvme0n1p1 partition 1 0 -2\n");
            },
            "nvme0n1p1 on nvme0n1 is swap space: swapoff /dev/nvme0n1p1",
            false,
        ),
        (
            "a RAID that is mounted",
            |tree, at| {
                namespace(tree, at);
                tree.file("sys/class/block/nvme0n1p1/holders/md0/size", "1\n");
                tree.file("sys/class/block/md0/dev", "9:0\n");
                tree.file("proc/self/mountinfo", "36 1 9:0 / /raid rw - ext4 /dev/md0 rw\n");
            },
            "md0 on nvme0n1 is mounted at /raid",
            false,
        ),
        (
            "an encrypted disk",
            |tree, at| {
                namespace(tree, at);
                tree.file("sys/class/block/nvme0n1/holders/dm-3/size", "1\n");
            },
            "the mapped device dm-3 is built on nvme0n1",
            false,
        ),
        (
            "a disk of USB",
            |tree, at| {
                let below = format!("{at}/usb1/1-1/host0/target0:0:0/0:0:0:0/block/sda");
                tree.file(&format!("{below}/dev"), "8:0\n");
                tree.link("sys/class/block/sda", &below);
                tree.file("proc/self/mountinfo", "36 1 8:0 / /media rw - vfat /dev/sda rw\n");
            },
            "sda is mounted at /media",
            false,
        ),
        (
            "a network interface",
            |tree, at| {
                tree.file(&format!("{at}/net/eth0/flags"), "0x1003\n");
                tree.link("sys/class/net/eth0", &format!("{at}/net/eth0"));
                tree.file("proc/net/route", "Iface Destination\neth0 00000000\n");
            },
            "the network interface eth0 is up and has addresses",
            true,
        ),
        (
            "a network interface of a bridge",
            |tree, at| {
                tree.file(&format!("{at}/net/eth0/flags"), "0x1002\n");
                tree.link(&format!("{at}/net/eth0/master"), "sys/class/net/br0");
                tree.link("sys/class/net/eth0", &format!("{at}/net/eth0"));
            },
            "the network interface eth0 is part of br0",
            true,
        ),
        (
            "the console",
            |tree, at| tree.file(&format!("{at}/boot_vga"), "1\n"),
            "the machine's console is on this graphics card",
            true,
        ),
        (
            "another member of the group",
            |tree, _| {
                tree.function("0000:00:04.1", "020000", &config(4, 0), "igb", "1");
                tree.function("0000:00:04.2", "020000", &config(4, 0), "vfio-pci", "1");
                tree.function("0000:00:04.3", "020000", &config(4, 0), "", "1");
            },
            "0000:00:04.1 of the same IOMMU group is bound to igb",
            true,
        ),
        (
            "no IOMMU",
            |tree, at| std::fs::remove_file(tree.path(&format!("{at}/iommu_group"))).unwrap(),
            "is in no IOMMU group: the machine has no IOMMU, or it is off",
            false,
        ),
        (
            "no driver",
            |tree, _| std::fs::remove_dir_all(tree.path("sys/bus/pci/drivers/vfio-pci")).unwrap(),
            "the driver vfio-pci is not loaded: modprobe vfio-pci\n",
            false,
        ),
        (
            "a bridge",
            |tree, at| tree.file(&format!("{at}/class"), "0x060400\n"),
            "is a PCI bridge: hand over what is behind it instead",
            false,
        ),
    ];
    for (name, put, what, forceable) in cases {
        let (tree, at) = disk("nvme");
        // Without the obstacle, the bind is possible.
        said(&tree.words(&["bind", NVME, "--dry-run"]));
        put(&tree, &at);
        let refusal = refused(&tree.words(&["bind", NVME]));
        assert!(refusal.contains(what), "{name}: {refusal}");
        assert_eq!(
            refusal.matches("\n  - ").count(),
            if name.contains("RAID") { 2 } else { 1 },
            "{name}: {refusal}"
        );
        assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n", "{name}");
        assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "", "{name}");
        let forced = common::command(&tree.words(&["bind", NVME, "--force", "--dry-run"])).output();
        assert_eq!(forced.unwrap().status.success(), *forceable, "{name}");
    }
}

#[test]
fn a_driver_that_hands_nothing_over_is_not_taken() {
    let (tree, at) = disk("nvme");
    let to = |driver: &str| common::command(&tree.words(&["bind", NVME, "--driver", driver]));
    let refusal = |driver: &str| {
        let output = to(driver).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{driver}");
        String::from_utf8(output.stderr).unwrap()
    };
    tree.has_driver("mlx5_vfio_pci");
    let absent = "the driver other_vfio_pci is not loaded: modprobe other_vfio_pci, or choose a \
                  VFIO PCI driver that is loaded: mlx5_vfio_pci, vfio-pci\n";
    assert!(refusal("other_vfio_pci").contains(absent), "{}", refusal("other_vfio_pci"));
    let unfit = "nvme2 is no VFIO PCI driver: choose one that is loaded: mlx5_vfio_pci, vfio-pci\n";
    tree.has_driver("nvme2");
    assert!(refusal("nvme2").contains(unfit), "{}", refusal("nvme2"));
    // A module that uses the core makes a VFIO PCI driver.
    tree.link("sys/bus/pci/drivers/nvme2/module", "sys/module/nvme2");
    tree.file("sys/module/vfio_pci_core/holders/nvme2/refcnt", "0\n");
    assert!(refusal("nvme2").contains("nvme2 did not take 0000:00:04.0"), "{}", refusal("nvme2"));
    tree.file(&format!("{at}/driver_override"), "(null)\n");
    for name in ["", ".", "..", "../nvme", "vfio-pci\n"] {
        assert_eq!(to(name).output().unwrap().status.code(), Some(2), "{name:?}");
    }
    assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n");
}

#[test]
fn who_has_it_open_is_said() {
    let (tree, _) = disk("vfio-pci");
    tree.has_driver("mlx5_vfio_pci");
    tree.file("proc/77/comm", "qemu-system-x86\n");
    std::fs::create_dir_all(tree.path("proc/77/fd")).unwrap();
    symlink("/dev/vfio/1", tree.path("proc/77/fd/9")).unwrap();
    for words in [&["unbind", NVME][..], &["bind", NVME, "--driver", "mlx5_vfio_pci"]] {
        let refusal = refused(&tree.words(words));
        assert!(refusal.contains("in use by qemu-system-x86 (process 77)"), "{refusal}");
    }
}

#[test]
fn a_refusal_as_json_names_each_thing() {
    let (tree, at) = disk("nvme");
    tree.file(&format!("{at}/boot_vga"), "1\n");
    let refusal = refused(&tree.words(&["bind", NVME, "--json"]));
    let refusal: serde_json::Value = serde_json::from_str(&refusal).unwrap();
    assert_eq!(refusal["obstacles"][0]["forceable"], true);
    assert_eq!(refusal["error"], "0000:00:04.0 is left as it is, because:");
}

#[test]
fn the_module_that_is_missing_is_named() {
    let (tree, at) = disk("vfio-pci");
    let unbind = || {
        tree.link(&format!("{at}/driver"), "sys/bus/pci/drivers/vfio-pci");
        // Files do not unbind drivers, so the link is removed before.
        let after = tree.path(&format!("{at}/driver_override"));
        std::fs::remove_file(tree.path(&format!("{at}/driver"))).unwrap();
        std::fs::create_dir_all(tree.path(&format!("{at}/vfio-dev"))).unwrap();
        assert!(after.exists());
        said(&tree.words(&["unbind", NVME]))
    };
    tree.file(&format!("{at}/modalias"), "pci:v00008086d000010C9sv00001AF4sd00001100bc01sc08i02\n");
    assert!(unbind().contains("no module of this kernel is for pci:v00008086d000010C9sv"));
    let aliases = "# Aliases extracted from modules themselves.\n\
                   alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
                   alias pci:v00008086d000010C8sv*sd*bc*sc*i* other\n\
                   alias pci:v*d*sv*sd*bc01sc08i02* nvme\n";
    tree.file("lib/modules/7.3.4-amd64/modules.alias", aliases);
    let said = unbind();
    let expected = "0000:00:04.0 has no driver now: the module nvme is not loaded; \
                    `modprobe nvme` brings the driver\n";
    assert_eq!(said, expected);
    tree.file("sys/module/nvme/refcnt", "0\n");
    assert!(unbind().contains("the driver of nvme did not take it; the kernel's log"));
}

const RULE: &str = "etc/udev/rules.d/05-vfio-irq-0000:00:04.0.rules";
const DRIVERCTL: &str = "etc/driverctl.d/pci-0000:00:04.0";

#[test]
fn a_binding_is_kept_by_a_rule_of_udev_until_unbind() {
    let (tree, at) = disk("vfio-pci");
    let text = said(&tree.words(&["bind", NVME, "--persist"]));
    assert!(text.contains("is bound to vfio-pci already"), "{text}");
    assert!(text.contains("over restarts") && text.contains(RULE), "{text}");
    let rule = tree.read(RULE);
    let (comment, rule) = rule.split_once('\n').unwrap();
    assert!(comment.starts_with("# Written by `vfio-irq bind --persist`."), "{comment}");
    let program = env!("CARGO_BIN_EXE_vfio-irq");
    let expected = format!(
        "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{NVME}\", ATTR{{vendor}}==\"0x8086\", \
         ATTR{{device}}==\"0x10c9\", TEST==\"{program}\", ATTR{{driver_override}}=\"vfio-pci\", \
         RUN{{builtin}}+=\"kmod load vfio-pci\", \
         RUN{{program}}+=\"{program} bind --driver vfio-pci {NVME}\"\n"
    );
    assert_eq!(rule, expected);
    assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n", "it was bound already");
    let listed = said(&tree.words(&["list"]));
    assert!(listed.contains("vfio-pci at boot"), "{listed}");
    let shown = said(&tree.words(&["unbind", NVME, "--dry-run"]));
    let rm = format!("rm {}    # nothing binds it at boot any more\n", tree.path(RULE).display());
    assert!(shown.ends_with(&rm), "{shown}");
    assert!(tree.path(RULE).exists());
    refused(&tree.words(&["unbind", NVME]));
    assert!(tree.path(RULE).exists(), "what cannot be given back stays");
    tree.file("sys/bus/pci/drivers/vfio-pci/unbind", "");
    let kernel = tree.lets_go(&at, "vfio-pci");
    said(&tree.words(&["unbind", NVME]));
    kernel.join().unwrap();
    assert!(!tree.path(RULE).exists());
}

#[test]
fn driverctl_keeps_a_binding_where_it_is_installed() {
    let (tree, _) = disk("vfio-pci");
    said(&tree.words(&["bind", NVME, "--persist"]));
    tree.file("usr/lib/udev/rules.d/05-driverctl.rules", "");
    let words = tree.words(&["bind", NVME, "--persist"]);
    let shown: serde_json::Value = common::json(&words);
    assert_eq!(shown["at_boot"]["driver"], "vfio-pci");
    assert_eq!(tree.read(DRIVERCTL), "vfio-pci\n");
    assert!(!tree.path(RULE).exists(), "one file is enough");
    assert_eq!(shown["qemu"], format!("-device vfio-pci,host={NVME}"));
    let again = said(&tree.words(&["bind", NVME, "--persist", "--dry-run"]));
    assert!(!again.contains("cat >"), "{again}");
    // A function that its own driver has can still be kept for another one at boot.
    let (tree, at) = disk("nvme");
    tree.file("usr/lib/udev/rules.d/05-driverctl.rules", "");
    tree.file(DRIVERCTL, "vfio-pci\n");
    tree.file(&format!("{at}/driver_override"), "vfio-pci\n");
    said(&tree.words(&["unbind", NVME]));
    assert!(!tree.path(DRIVERCTL).exists());
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), "", "its driver stays");
    assert!(
        tree.read(&format!("{at}/driver_override")).starts_with('\n'),
        "and no other may have it"
    );
}

/// A rule of udev sets the override before the bind at boot. If that fails, the driver that had the
/// function needs the override out of its way.
#[test]
fn a_binding_at_boot_that_fails_gives_the_function_back() {
    let (tree, at) = disk("nvme");
    tree.file(&format!("{at}/driver_override"), "vfio-pci\n");
    let kernel = tree.lets_go(&at, "nvme");
    let error = refused(&tree.words(&["bind", NVME]));
    assert!(error.contains("vfio-pci did not take 0000:00:04.0"), "{error}");
    kernel.join().unwrap();
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/bind"), format!("{NVME}\n"));
    // Written empty before the bind, and then again as it was: a file has all, an attribute the last.
    let wish = tree.read(&format!("{at}/driver_override"));
    assert!(wish.starts_with("vfio-pci\n"), "{wish:?}");
}

/// The file is the last step. If it cannot be written, the driver goes back, too; files do not bind
/// drivers, so that this begins with a function that is bound already.
#[test]
fn what_cannot_be_kept_changes_nothing() {
    let (tree, at) = disk("vfio-pci");
    tree.file("etc/udev/rules.d", "a file, where a directory should be");
    let error = refused(&tree.words(&["bind", NVME, "--persist"]));
    assert!(error.contains("cannot write") && error.contains("all is as it was"), "{error}");
    assert_eq!(tree.read("etc/udev/rules.d"), "a file, where a directory should be");
    assert_eq!(tree.read("sys/bus/pci/drivers/vfio-pci/unbind"), "");
    assert_eq!(tree.read(&format!("{at}/driver_override")), "(null)\n");
}

/// A file that was edited by hand is seen, though it names no driver: a later step's failure would not
/// put it back otherwise, and `unbind` would leave it.
#[test]
fn a_rule_that_names_no_driver_is_removed_by_unbind() {
    let (tree, _) = disk("nvme");
    tree.file(RULE, "# ACTION==\"add\", ATTR{driver_override}=\"vfio-pci\"\n");
    let listed: serde_json::Value = common::json(&tree.words(&["list"]));
    assert_eq!(listed["functions"][0]["at_boot"]["driver"], serde_json::Value::Null, "{listed}");
    said(&tree.words(&["unbind", NVME]));
    assert!(!tree.path(RULE).exists());
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), "", "its driver stays");
}
