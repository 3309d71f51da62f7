//! Tests of physical and virtual functions on a system made of files.

mod common;

use common::{Tree, config, json, refused, said};
use std::os::unix::fs::symlink;

const PF: &str = "0000:01:00.0";
const VFS: [&str; 2] = ["0000:01:10.0", "0000:01:10.2"];
const TOKEN: &str = "14d63f20-8445-11ea-8900-1f9ce7d5650d";

/// Makes a network card with two virtual functions, each with the driver at that index.
fn card(pf: &str, vfs: [&str; 2]) -> Tree {
    let tree = Tree::new();
    let parent = tree.function(PF, "020000", &config(10, 0), pf, "1");
    tree.file(&format!("{parent}/sriov_totalvfs"), "7\n");
    tree.file(&format!("{parent}/sriov_numvfs"), "2\n");
    for (number, (bdf, driver)) in VFS.into_iter().zip(vfs).enumerate() {
        let mut config = config(3, 0);
        config[..4].fill(0xff);
        let group = (number + 2).to_string();
        let at = tree.function(bdf, "020000", &config, driver, &group);
        tree.file(&format!("{at}/device"), "0x10ca\n");
        tree.link(&format!("{at}/physfn"), &parent);
        tree.link(&format!("{parent}/virtfn{number}"), &at);
    }
    tree
}

#[test]
fn virtual_functions_are_known_although_their_ids_read_as_ones() {
    let tree = card("igb", ["igbvf", "vfio-pci"]);
    let list = said(&tree.words(&["list"]));
    assert!(!list.contains('?') && !list.contains("root"), "{list}");
    let functions = json(&tree.words(&["list"]))["functions"].clone();
    assert_eq!(
        functions[0]["sriov"],
        serde_json::json!({"is": "physical", "virtuals": VFS, "most": 7})
    );
    let virtual_ = serde_json::json!({"is": "virtual", "physical": PF, "needs_token": false});
    assert_eq!(functions[1]["sriov"], virtual_);
    assert_eq!(
        (&functions[1]["id"], &functions[1]["offered"]["msix"]),
        (&"8086:10ca".into(), &3.into())
    );
    let info = said(&tree.words(&["info", VFS[0]]));
    assert!(
        info.contains("virtual function of 0000:01:00.0\n") && !info.contains("root"),
        "{info}"
    );
    let info = said(&tree.words(&["info", PF]));
    assert!(info.contains("2 of 7 virtual functions"), "{info}");
    // A function whose configuration space cannot be read is a different case.
    tree.file("sys/devices/pci0000:00/0000:01:10.0/config", [0xff; 256]);
    let list = said(&tree.words(&["list"]));
    assert!(list.contains("powered down, or gone") && !list.contains("root"), "{list}");
    let info = said(&tree.words(&["info", VFS[0]]));
    assert!(info.contains("powered down, or gone") && !info.contains("root"), "{info}");
}

#[test]
fn a_virtual_function_of_a_user_space_driver_needs_the_token() {
    let tree = card("vfio-pci", ["vfio-pci", "vfio-pci"]);
    let bench = |words: &[&str]| refused(&tree.words(&[&["bench"], words].concat()));
    let said = bench(&[VFS[0]]);
    let expected = "error: 0000:01:10.0 is a virtual function of 0000:01:00.0, which a VFIO driver has; \
                    say --vf-token UUID: the token that 0000:01:00.0 was opened with \
                    (QEMU: -device vfio-pci,host=0000:01:00.0,vf-token=UUID)\n";
    assert_eq!(said, expected);
    // With a token, the function is opened, and so is its parent, which sets it, as far as this
    // system allows.
    for bdf in [VFS[0], PF] {
        assert!(bench(&[bdf, "--vf-token", TOKEN]).contains("it is not of this machine"));
    }
    let note = common::said(&tree.words(&["info", VFS[0]]));
    assert!(note.contains("say --vf-token UUID"), "{note}");
    // If no token is needed, a token is an error.
    let tree = card("igb", ["vfio-pci", "vfio-pci"]);
    tree.function("0000:02:00.0", "010802", &config(5, 0), "vfio-pci", "9");
    for (bdf, why) in
        [(VFS[0], "no VFIO driver has 0000:01:00.0"), ("02:00.0", "nothing to do with SR-IOV")]
    {
        let said = refused(&tree.words(&["bench", bdf, "--vf-token", TOKEN]));
        assert!(said.contains("takes no VF token") && said.contains(why), "{said}");
    }
    for words in [
        &["bench", "sim", "--vf-token", TOKEN][..],
        &["info", "sim", "--vf-token", TOKEN],
        &["bench", PF, "--vf-token", "7"],
    ] {
        assert_eq!(common::command(words).output().unwrap().status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn virtual_functions_do_not_end_without_a_word() {
    let tree = card("vfio-pci", ["igbvf", "vfio-pci"]);
    // One virtual function is a network interface that is up, the other is a guest's.
    let vf = "sys/devices/pci0000:00/0000:01:10.0";
    tree.file(&format!("{vf}/net/eth7/flags"), "0x1003\n");
    tree.link("sys/class/net/eth7", &format!("{vf}/net/eth7"));
    tree.file("proc/77/comm", "qemu-system-x86\n");
    std::fs::create_dir_all(tree.path("proc/77/fd")).unwrap();
    symlink("/dev/vfio/3", tree.path("proc/77/fd/9")).unwrap();
    tree.has_driver("mlx5_vfio_pci");
    for words in [&["unbind", PF][..], &["bind", PF, "--driver", "mlx5_vfio_pci"]] {
        let said = refused(&tree.words(words));
        let obstacles = [
            "the virtual functions of 0000:01:00.0 end with its driver: \
             0000:01:10.0 (igbvf), 0000:01:10.2 (vfio-pci): echo 0 > ",
            "the network interface eth7 is up",
            "0000:01:10.2 is in use by qemu-system-x86 (process 77)",
        ];
        for obstacle in obstacles {
            assert!(said.contains(obstacle), "{obstacle}: {said}");
        }
        assert_eq!(said.matches("or say --force").count(), 3, "{said}");
        assert_eq!(tree.read("sys/bus/pci/drivers_probe"), "");
        common::said(&tree.words(&[words, &["--force", "--dry-run"]].concat()));
    }
    // A mounted disk cannot be forced, behind a virtual function either.
    let disk = format!("{vf}/nvme/nvme0/nvme0n1");
    tree.file(&format!("{disk}/dev"), "259:0\n");
    tree.file(&format!("{disk}/queue/scheduler"), "none\n");
    tree.link("sys/class/block/nvme0n1", &disk);
    tree.file("proc/self/mountinfo", "36 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n");
    let said = refused(&tree.words(&["unbind", PF, "--force"]));
    assert!(said.contains("nvme0n1 is mounted at /data"), "{said}");
    // Without virtual functions there is no obstacle.
    for number in 0..2 {
        std::fs::remove_file(tree.path(&format!("sys/devices/pci0000:00/{PF}/virtfn{number}")))
            .unwrap();
    }
    common::said(&tree.words(&["unbind", PF, "--dry-run"]));
}
