//! Tests of `list` and `info` on a system made of files, and on emulated devices.

mod common;

use common::{TABLE, Tree, config, eventually, json, refused, said, stop, text, undated};

/// Makes a machine with the Rust core and one function of every kind.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.has_rust_core();
    tree.function("0000:00:00.0", "060000", &[0; 256], "", "0");
    tree.function("0000:00:04.0", "010802", &config(65, 0), "nvme", "1");
    tree.irq("0000:00:04.0", 24, "5 7 IR-PCI-MSIX-0000:00:04.0 0-edge nvme0q0");
    tree.irq("0000:00:04.0", 25, "0 9 IR-PCI-MSIX-0000:00:04.0 1-edge nvme0q1");
    tree.irq("0000:00:04.0", 26, "");
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci", "2");
    tree.irq("0000:00:05.0", 27, "12 0 IR-PCI-MSIX-0000:00:05.0 0-edge vfio-msix[0](0000:00:05.0)");
    tree.irq("0000:00:05.0", 28, "7 0 IR-PCI-MSIX-0000:00:05.0 3-edge vfio-msix[3](0000:00:05.0)");
    tree.counts("0000:00:05.0", TABLE);
    tree.file("proc/77/comm", "qemu-system-x86\n");
    std::fs::create_dir_all(tree.path("proc/77/fd")).unwrap();
    std::os::unix::fs::symlink("/dev/vfio/2", tree.path("proc/77/fd/9")).unwrap();
    tree.function("0000:00:06.0", "0c0330", &config(0, 0x0006), "mlx5_vfio_pci", "3");
    tree.counts("0000:00:06.0", "mode idle\n");
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
    // Without a release, dynamic MSI-X is unknown.
    tree.file("proc/sys/kernel/osrelease", "?\n");
    assert_eq!(dynamic(), serde_json::Value::Null);
}

/// The core decides what can be done with vectors, for every driver on top of it.
#[test]
fn the_core_that_is_loaded_is_told() {
    let tree = Tree::new();
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci", "2");
    // A driver with another name, whose module uses the core.
    tree.function("0000:00:06.0", "010802", &config(65, 0), "vendor", "3");
    tree.link("sys/bus/pci/drivers/vendor/module", "sys/module/vendor");
    tree.file("sys/module/vfio_pci_core/holders/vendor/refcnt", "0\n");
    let list = || said(&tree.words(&["list"]));
    let maskable = |place: usize| {
        json(&tree.words(&["list"]))["functions"][place]["abilities"]["maskable"].clone()
    };
    assert!(list().contains("\nvfio-pci-core: Linux's own\n"), "{}", list());
    assert_eq!((maskable(0), maskable(1)), (false.into(), false.into()));
    let note =
        "note: this core masks no vectors and counts none; the package vfio-pci-core-rs-dkms has";
    let info = |bdf: &str| said(&tree.words(&["info", bdf]));
    assert!(info("00:06.0").contains(note), "{}", info("00:06.0"));
    // A core with another version is not this project's.
    tree.file("sys/module/vfio_pci_core/version", "0.2\n");
    assert_eq!(json(&tree.words(&["list"]))["core"], serde_json::json!({ "is": "c" }));
    tree.has_rust_core();
    assert!(list().contains("\nvfio-pci-core: vfio-irq 0.1.0\n"), "{}", list());
    assert_eq!((maskable(0), maskable(1)), (true.into(), true.into()));
    for bdf in ["00:05.0", "00:06.0"] {
        let info = info(bdf);
        assert!(info.contains("\n  core         vfio-irq 0.1.0\n"), "{info}");
        assert!(!info.contains("this core masks no vectors"), "{info}");
    }
    // No core is loaded.
    std::fs::remove_dir_all(tree.path("sys/module")).unwrap();
    std::fs::remove_dir_all(tree.path("sys/bus/pci/drivers")).unwrap();
    assert!(list().contains("\nvfio-pci-core: not loaded\n"), "{}", list());
    assert_eq!(json(&tree.words(&["list"]))["core"], serde_json::Value::Null);
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
    for (name, bdf) in [("bound", "00:05.0"), ("host", "00:04.0"), ("variant", "0000:00:06.0")] {
        let words = said(&tree.words(&["info", bdf]));
        insta::assert_snapshot!(format!("info_{name}"), tree.plain(&words));
    }
    insta::assert_snapshot!(
        "info_json",
        undated(&said(&tree.words(&["info", "00:05.0", "--json"])))
    );
    let unseen = said(&tree.words(&["info", "00:07.0"]));
    assert!(unseen.contains("first 64 bytes only"), "{unseen}");
    // The command does not advise binding a bridge.
    tree.function("0000:00:08.0", "060400", &config(1, 0), "pcieport", "8");
    let bridge = said(&tree.words(&["info", "00:08.0"]));
    assert!(bridge.contains("PCI bridge") && !bridge.contains("bind"), "{bridge}");
    // The counts are in debugfs, which is not mounted.
    std::fs::remove_dir_all(tree.path("sys/kernel/debug")).unwrap();
    let uncounted = said(&tree.words(&["info", "00:05.0"]));
    assert!(uncounted.contains("mount -t debugfs"), "{uncounted}");
    assert!(refused(&tree.words(&["info", "00:09.0"])).contains("no PCI function 0000:00:09.0"));
    // The core in C.
    std::fs::remove_file(tree.path("sys/module/vfio_pci_core/version")).unwrap();
    let stock = said(&tree.words(&["info", "00:05.0"]));
    insta::assert_snapshot!("info_stock", tree.plain(&stock));
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
    assert_eq!((&msix["index"], &msix["count"]), (&"msix".into(), &8.into()));
    assert_eq!((&msix["maskable"], &msix["noresize"]), (&true.into(), &false.into()));
    assert_eq!(asked["counts"]["device"], "NVMe controller");
    assert!(stop(server, "-TERM").status.success());
}

const IDS: &str = "8086  Intel Corporation\n\t10c9  82576 Gigabit Network Connection\n";

/// Returns a table on a terminal of this width.
fn on_terminal(tree: &Tree, columns: u16) -> String {
    let (mut ours, theirs) = common::terminal(columns, 24);
    let mut command = common::command(&tree.words(&["list", "--all"]));
    let mut child = command.stdout(theirs).spawn().unwrap();
    drop(command);
    let text = common::all_of(&mut ours);
    assert!(child.wait().unwrap().success());
    text.replace('\r', "")
}

#[test]
fn the_list_fits_and_says_what_is_used() {
    let tree = machine();
    tree.file("usr/share/misc/pci.ids", IDS);
    let disk = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1";
    tree.file(&format!("{disk}/queue/scheduler"), "none\n");
    tree.file(&format!("{disk}/dev"), "259:0\n");
    tree.link("sys/class/block/nvme0n1", disk);
    tree.file("proc/self/mountinfo", "36 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n");
    tree.function("0000:00:09.0", "118000", &config(4, 0), "intel_pmc_core_something", "9");
    insta::assert_snapshot!("list_80", on_terminal(&tree, 80));
    for columns in [80, 100] {
        let text = on_terminal(&tree, columns);
        let longest = common::widths(&text).into_iter().max().unwrap();
        assert!(longest <= columns.into(), "{longest}: {text}");
    }
    let product = "Intel Corporation 82576 Gigabit Network Connection";
    let functions = json(&tree.words(&["list"]))["functions"].clone();
    assert_eq!(
        (&functions[0]["name"], &functions[0]["used_by"][0]),
        (&product.into(), &"nvme0n1 at /".into())
    );
    assert_eq!(functions[1]["used_by"][0], "qemu-system-x86 (process 77)");
    // The other place of the list, and no list at all.
    std::fs::rename(tree.path("usr/share/misc"), tree.path("usr/share/hwdata")).unwrap();
    assert_eq!(json(&tree.words(&["info", "00:04.0"]))["function"]["name"], product);
    std::fs::remove_dir_all(tree.path("usr")).unwrap();
    assert_eq!(
        json(&tree.words(&["info", "00:04.0"]))["function"]["name"],
        serde_json::Value::Null
    );
    // info does not advise binding the disk that the machine runs from.
    let info = said(&tree.words(&["info", "00:04.0"]));
    assert!(info.contains("this machine uses it itself (nvme0n1 is mounted at /)"), "{info}");
    assert!(!info.contains("vfio-irq bind"), "{info}");
}

#[test]
fn functions_are_found_by_their_names() {
    let tree = Tree::new();
    let disk = tree.function("0000:00:04.0", "010802", &config(65, 0), "nvme", "1");
    let card = tree.function("0000:01:00.0", "020000", &config(10, 0), "igb", "2");
    tree.file(&format!("{card}/net/eth0/flags"), "0x1002\n");
    tree.link("sys/class/net/eth0", &format!("{card}/net/eth0"));
    tree.file(&format!("{disk}/nvme/nvme0/model"), "x\n");
    tree.link("sys/class/nvme/nvme0", &format!("{disk}/nvme/nvme0"));
    // A disk of NVMe multipath is in the directory beside its controllers.
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    tree.file(&format!("{subsystem}/nvme0n1/dev"), "259:0\n");
    tree.link(&format!("{subsystem}/nvme0"), &format!("{disk}/nvme/nvme0"));
    tree.link("sys/class/block/nvme0n1", &format!("{subsystem}/nvme0n1"));
    tree.file("sys/devices/virtual/net/lo/flags", "0x9\n");
    tree.link("sys/class/net/lo", "sys/devices/virtual/net/lo");
    let table = [
        ("eth0", "0000:01:00.0"),
        ("pci_0000_01_00_0", "0000:01:00.0"),
        ("nvme0", "0000:00:04.0"),
        ("/dev/nvme0n1", "0000:00:04.0"),
    ];
    for (name, bdf) in table {
        assert_eq!(json(&tree.words(&["info", name]))["target"], bdf, "{name}");
        let steps = said(&tree.words(&["bind", name, "--dry-run"]));
        assert!(steps.contains(&format!("echo {bdf} > ")), "{name}: {steps}");
    }
    let wrong = |name: &str| {
        let output = common::command(&tree.words(&["info", name])).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(wrong("eth1").contains("there is no device eth1; an address (0000:01:00.0"));
    assert!(wrong("lo").contains("lo belongs to no PCI function"));
    let other = tree.function("0000:00:05.0", "010802", &config(65, 0), "nvme", "3");
    tree.file(&format!("{other}/nvme/nvme1/model"), "x\n");
    tree.link(&format!("{subsystem}/nvme1"), &format!("{other}/nvme/nvme1"));
    assert!(
        wrong("nvme0n1").contains("several PCI functions; say which: 0000:00:04.0, 0000:00:05.0")
    );
}
