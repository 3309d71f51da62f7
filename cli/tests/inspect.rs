//! `list` and `info` on a system that is made up, and on devices that are.

mod common;

use common::{Tree, config, eventually, json, refused, said, stop, text, undated};

const TABLE: &str = "mode msix msi 0 msix 65 dynamic 1 detach keep
requests 9 refused 1 enables 1 disables 0 attaches 3 detaches 1
vector   irq state    signals      masks    unmasks  retargets  loopbacks   failures
     0    27 open          12          1          1          2          0          0
     3    28 masked         7          1          0          0          3          0
  gone     - -              7          0          0          0          0          1
";

/// A machine with one function of every kind.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.function("0000:00:00.0", "060000", &[0; 256], "", "0");
    tree.function("0000:00:04.0", "010802", &config(65, 0), "nvme", "1");
    tree.irq("0000:00:04.0", 24, "5 7 IR-PCI-MSIX-0000:00:04.0 0-edge nvme0q0");
    tree.irq("0000:00:04.0", 25, "0 9 IR-PCI-MSIX-0000:00:04.0 1-edge nvme0q1");
    tree.irq("0000:00:04.0", 26, "");
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci-rs", "2");
    tree.irq("0000:00:05.0", 27, "12 0 IR-PCI-MSIX-0000:00:05.0 0-edge vfio-msix[0](0000:00:05.0)");
    tree.irq("0000:00:05.0", 28, "7 0 IR-PCI-MSIX-0000:00:05.0 3-edge vfio-msix[3](0000:00:05.0)");
    tree.file("sys/kernel/debug/vfio-pci-rs/0000:00:05.0", TABLE);
    tree.file("proc/77/comm", "qemu-system-x86\n");
    std::fs::create_dir_all(tree.path("proc/77/fd")).unwrap();
    std::os::unix::fs::symlink("/dev/vfio/2", tree.path("proc/77/fd/9")).unwrap();
    tree.function("0000:00:06.0", "0c0330", &config(0, 0x0006), "vfio-pci", "3");
    tree.function("0000:00:06.1", "020000", &config(10, 0x0180), "e1000e", "3");
    tree.function("0000:00:07.0", "020000", &config(10, 0x0180)[..64], "igb", "");
    tree
}

#[test]
fn functions_are_listed_with_what_is_known_of_them() {
    let tree = machine();
    insta::assert_snapshot!("list", said(&tree.words(&["list"])));
    insta::assert_snapshot!("list_all", said(&tree.words(&["list", "--all"])));
    insta::assert_snapshot!("list_json", undated(&said(&tree.words(&["list", "--json"]))));
}

#[test]
fn older_kernels_add_no_vectors() {
    let tree = Tree::new();
    tree.function("0000:00:04.0", "010802", &config(65, 0), "vfio-pci", "1");
    let dynamic = || json(&tree.words(&["list"]))["functions"][0]["abilities"]["dynamic"].clone();
    assert_eq!(dynamic(), true);
    tree.file("proc/sys/kernel/osrelease", "6.1.0-44-amd64\n");
    assert_eq!(dynamic(), false);
    // Without a release it is not known.
    tree.file("proc/sys/kernel/osrelease", "?\n");
    assert_eq!(dynamic(), serde_json::Value::Null);
}

/// vfio-pci-rs looks at a device when it is first opened.
#[test]
fn what_the_driver_does_not_know_yet_is_not_taken_for_a_no() {
    let tree = Tree::new();
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci-rs", "2");
    for (known, dynamic) in [("msix - dynamic -", true), ("msix 65 dynamic 0", false)] {
        let table = format!("mode idle msi 0 {known} detach keep\n");
        tree.file("sys/kernel/debug/vfio-pci-rs/0000:00:05.0", table);
        assert_eq!(json(&tree.words(&["list"]))["functions"][0]["abilities"]["dynamic"], dynamic);
    }
}

#[test]
fn a_system_without_functions_is_no_failure_and_one_without_sysfs_is() {
    let tree = Tree::new();
    assert!(said(&tree.words(&["list"])).contains("no PCI function"));
    assert_eq!(json(&tree.words(&["list"]))["functions"], serde_json::json!([]));
    let none = tempfile::tempdir().unwrap();
    let words = ["--root", text(none.path()), "list"];
    assert!(refused(&words).contains("cannot read"));
}

#[test]
fn everything_is_told_of_one_function() {
    let tree = machine();
    for (name, bdf) in [("bound", "00:05.0"), ("host", "00:04.0"), ("stock", "0000:00:06.0")] {
        let words = said(&tree.words(&["info", bdf]));
        insta::assert_snapshot!(format!("info_{name}"), tree.plain(&words));
    }
    insta::assert_snapshot!(
        "info_json",
        undated(&said(&tree.words(&["info", "00:05.0", "--json"])))
    );
    let unseen = said(&tree.words(&["info", "00:07.0"]));
    assert!(unseen.contains("first 64 bytes only"), "{unseen}");
    // Nobody is told to hand over what cannot be.
    tree.function("0000:00:08.0", "060400", &config(1, 0), "pcieport", "8");
    let bridge = said(&tree.words(&["info", "00:08.0"]));
    assert!(bridge.contains("PCI bridge") && !bridge.contains("bind"), "{bridge}");
    // The counts are somewhere that is not mounted.
    std::fs::remove_dir_all(tree.path("sys/kernel/debug")).unwrap();
    let uncounted = said(&tree.words(&["info", "00:05.0"]));
    assert!(uncounted.contains("mount -t debugfs"), "{uncounted}");
    assert!(refused(&tree.words(&["info", "00:09.0"])).contains("no PCI function 0000:00:09.0"));
}

#[test]
fn made_up_and_served_devices_are_asked() {
    insta::assert_snapshot!("info_sim", said(&["info", "sim"]));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk.sock");
    let target = format!("vfio-user:{}", text(&socket));
    let refusal = refused(&["info", &target]);
    assert!(refusal.contains("is a server listening there?"), "{refusal}");
    let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M", "--queues", "7"];
    let server = common::command(&words).spawn().unwrap();
    eventually("a socket", || socket.with_extension("sock.counts").exists());
    let asked = json(&["info", &target]);
    let msix = &asked["indexes"][2];
    assert_eq!((&msix["index"], &msix["count"]), (&"MSI-X".into(), &8.into()));
    assert_eq!((&msix["maskable"], &msix["noresize"]), (&true.into(), &false.into()));
    assert_eq!(asked["counts"]["device"], "NVMe controller");
    assert!(stop(server, "-TERM").status.success());
}
