//! The contents of the manual besides the options: columns, examples, files, the environment.

use crate::{list, metrics, watch};

/// Terms and their meanings.
pub type Terms = Vec<(String, String)>;

/// The contents of a page besides its options.
#[derive(Default)]
pub struct Extra {
    /// The columns of its table.
    pub columns: Terms,
    /// Commands and their effects.
    pub examples: &'static [(&'static str, &'static str)],
    /// Files that the command reads or writes.
    pub files: &'static [(&'static str, &'static str)],
    /// The JSON documents that it prints, by their command.
    pub json: &'static [&'static str],
}

/// The variables on every page.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "RUST_LOG",
        "What is logged: error, warn (the default), info (that of serve), debug or trace.",
    ),
    ("NO_COLOR", "No colours if it is not empty."),
    (
        "TERM",
        "A terminal that is dumb, or unset, gets plain lines: no colours, no line that changes, no screen.",
    ),
    ("TMPDIR", "Where demo, watch sim and --vf-token have a folder for a moment; /tmp if unset."),
    ("VFIO_IRQ_COMPLETE", "Set by a shell that completes a word."),
];

/// The exit statuses on every page.
pub const STATUS: [(&str, &str); 4] = [
    ("0", "All went well, or the reader of the output has read enough."),
    ("1", "Something failed. Standard error says what was wrong, and what would be right."),
    ("2", "The command line makes no sense."),
    ("128 + N", "For a shell: signal N has ended the command. serve ends with 0 at the first one."),
];

const SYSFS: (&str, &str) = ("/sys/bus/pci/devices", "PCI functions and their drivers.");
const IDS: (&str, &str) =
    ("/usr/share/misc/pci.ids, /usr/share/hwdata/pci.ids", "Names of vendors and devices.");
const INTERRUPTS: (&str, &str) = ("/proc/interrupts", "How often the host's interrupts came.");
const CORE: (&str, &str) = (
    "/sys/module/vfio_pci_core/version",
    "Begins with vfio-irq if the loaded vfio-pci-core is the Rust core, which masks and counts single vectors. \
     Linux's own has no such file. The package vfio-pci-core-rs-dkms builds the Rust core for each kernel of \
     Debian that has Rust; \"cargo xtask core\" builds it from the sources.",
);
const RULE: (&str, &str) = (
    "/etc/udev/rules.d/05-vfio-irq-BDF.rules",
    "The rule of udev that \"bind --persist\" writes, and unbind removes.",
);
const DRIVERCTL: (&str, &str) = (
    "/etc/driverctl.d/pci-BDF",
    "What they write and remove instead where driverctl is installed: the driver's name.",
);
const COUNTS: (&str, &str) = (
    "/sys/kernel/debug/vfio/BDF/interrupts",
    "What the Rust core counts of a function's vectors since their index was enabled; root reads it once \
     debugfs is mounted.",
);
const VFIO: (&str, &str) =
    ("/dev/vfio, /dev/iommu", "What devices are opened by: groups, character devices, iommufd.");
const BESIDE: (&str, &str) =
    ("PATH.counts", "The socket beside a served one, PATH, that tells what the device counts.");

/// Returns the contents of a page besides its options.
pub fn of(page: &str) -> Extra {
    match page {
        "vfio-irq" => Extra {
            examples: &[
                (
                    "vfio-irq demo",
                    "Show what dynamic MSI-X is good for, on an emulated controller.",
                ),
                ("vfio-irq list", "List the functions of this machine."),
                ("vfio-irq bind 0000:01:00.0", "Hand one to user space."),
            ],
            files: &[SYSFS, IDS, INTERRUPTS, CORE, COUNTS, VFIO, BESIDE],
            json: &["a failure"],
            ..Extra::default()
        },
        "vfio-irq-list" => Extra {
            columns: terms(&list::COLUMNS),
            examples: &[
                ("vfio-irq list", "Functions that have MSI or MSI-X."),
                ("vfio-irq list --all --json", "All functions, for a program."),
            ],
            files: &[SYSFS, IDS, INTERRUPTS, CORE],
            json: &["list"],
        },
        "vfio-irq-info" => Extra {
            columns: watch_columns(),
            examples: &[
                (
                    "vfio-irq info 01:00.0",
                    "All that is known of a function; it is opened, which resets it.",
                ),
                ("vfio-irq info nvme0 --no-open", "The function of a device, which is left alone."),
                (
                    "vfio-irq info vfio-user:/tmp/disk.sock",
                    "A device that another process emulates.",
                ),
            ],
            files: &[SYSFS, IDS, INTERRUPTS, CORE, COUNTS, VFIO, BESIDE],
            json: &["info"],
        },
        "vfio-irq-bind" => Extra {
            examples: &[
                (
                    "vfio-irq bind 0000:01:00.0 --dry-run",
                    "What would be done, and what is in the way.",
                ),
                ("vfio-irq bind eth0", "By the name of an interface."),
                ("vfio-irq bind nvme0 --persist", "Now, and whenever the machine boots."),
            ],
            files: &[SYSFS, ("/sys/bus/pci/drivers", "The drivers that are loaded."), RULE, DRIVERCTL],
            json: &["bind"],
            ..Extra::default()
        },
        "vfio-irq-unbind" => Extra {
            examples: &[(
                "vfio-irq unbind 0000:01:00.0",
                "Give the function back to its own driver.",
            )],
            files: &[
                SYSFS,
                ("/lib/modules/RELEASE/modules.alias", "Which modules are for a function."),
                RULE,
                DRIVERCTL,
            ],
            json: &["unbind"],
            ..Extra::default()
        },
        "vfio-irq-watch" => Extra {
            columns: watch_columns(),
            examples: &[
                ("vfio-irq watch sim", "A device made up here, to see what it looks like."),
                (
                    "vfio-irq watch 0000:01:00.0",
                    "A function, live. ? explains the columns, q ends it.",
                ),
                (
                    "vfio-irq watch vfio-user:/tmp/disk.sock --json --count 10",
                    "Ten looks, for a program.",
                ),
            ],
            files: &[INTERRUPTS, COUNTS, BESIDE],
            json: &["watch"],
        },
        "vfio-irq-bench" => Extra {
            columns: terms(&[
                ("REQUEST", "The request that is measured."),
                ("MIN", "The least that it took, in microseconds."),
                ("MEDIAN", "Half of the requests took no longer."),
                ("P99", "All but one of a hundred took no longer."),
            ]),
            examples: &[
                ("vfio-irq bench sim", "What this library itself costs."),
                ("vfio-irq bench 0000:01:00.0 --rounds 1000", "A function that a VFIO driver has."),
                (
                    "vfio-irq bench 01:10.0 --vf-token 14d63f20-8445-11ea-8900-1f9ce7d5650d",
                    "A virtual function whose physical function VFIO has.",
                ),
            ],
            files: &[VFIO],
            json: &["bench"],
        },
        "vfio-irq-metrics" => Extra {
            columns: metrics::COUNTERS
                .iter()
                .map(|(name, help)| (format!("{name}_total"), format!("{help}.")))
                .chain(terms(&[
                    ("vfio_irq_operations_total", "Requests to the device, and what they did."),
                    ("vfio_irq_vectors", "Vectors by their state."),
                    ("vfio_irq_device", "1 for each device, with its driver and its active index."),
                    (
                        "device, vector",
                        "Labels: the device as the command line names it, the number of the vector; \
                         gone for vectors that no longer exist.",
                    ),
                ]))
                .collect(),
            examples: &[
                ("vfio-irq metrics", "Every function that a VFIO driver has."),
                (
                    "vfio-irq metrics --output /var/lib/prometheus/node-exporter/vfio-irq.prom",
                    "For the node exporter's textfile collector, from a timer.",
                ),
                ("vfio-irq metrics vfio-user:/tmp/disk.sock", "A served device."),
            ],
            files: &[INTERRUPTS, COUNTS, BESIDE],
            json: &[],
        },
        "vfio-irq-conform" => Extra {
            columns: terms(&[
                ("RULE", "The rule of CONTRACT.md that the case proves: V-06."),
                (
                    "RESULT",
                    "ok, BROKEN, or n/a if the device or the driver has nothing to try it on.",
                ),
                ("CASE", "The name of the case."),
                ("WHY", "What the case proves; why it is broken or does not apply."),
            ]),
            examples: &[
                ("vfio-irq conform 0000:01:00.0", "A function that a VFIO driver has, any driver."),
                (
                    "vfio-irq conform vfio-user:/tmp/disk.sock --profile full",
                    "A device of any vfio-user server, with the rules beyond Linux.",
                ),
                ("vfio-irq conform sim --tap", "The Test Anything Protocol, for a test harness."),
            ],
            files: &[VFIO],
            json: &["conform"],
        },
        "vfio-irq-demo" => Extra {
            columns: terms(&[
                ("METHOD", "How vectors were added."),
                ("QUEUES", "How many queues there were in the end."),
                ("RAISED", "Interrupts that the device raised: one for each completion."),
                ("DELIVERED", "Interrupts that reached their eventfd."),
                ("LOST", "Interrupts that did not."),
                ("STALLS", "Completions whose interrupt did not come for a second."),
                ("LONGEST GAP", "The longest time from one completion of a queue to its next."),
                ("LONGEST ADD", "The longest time that it took to add a queue."),
            ]),
            examples: &[
                ("vfio-irq demo", "Both methods, and a picture of them."),
                ("vfio-irq demo --queues 4 --picture -", "The picture on standard output."),
                (
                    "vfio-irq demo --device 0000:01:00.0",
                    "A real NVMe disk that a VFIO driver has; it is only read.",
                ),
            ],
            files: &[VFIO, ("vfio-irq-demo.svg", "The picture, if --picture names no other file.")],
            json: &["demo"],
        },
        "vfio-irq-serve" | "vfio-irq-serve-nvme" => Extra {
            examples: &[
                (
                    "vfio-irq serve nvme --socket /tmp/disk.sock --size 64M",
                    "A disk in memory. The first lines are QEMU's arguments.",
                ),
                (
                    "vfio-irq serve nvme --socket a.sock --file a.img --socket b.sock --file b.img",
                    "Two disks in files.",
                ),
                (
                    "vfio-irq serve nvme --socket /run/disk.sock --size 1G --socket-group kvm",
                    "For the members of a group.",
                ),
            ],
            files: &[("PATH", "The socket, gone when the server ends."), BESIDE],
            json: &["PATH.counts"],
            ..Extra::default()
        },
        "vfio-irq-completions" => Extra {
            examples: &[(
                "vfio-irq completions bash",
                "What bash reads: source <(vfio-irq completions bash)",
            )],
            files: &[("~/.bashrc, ~/.zshrc, ~/.config/fish/config.fish", "Where shells read it.")],
            ..Extra::default()
        },
        "vfio-irq-man" => Extra {
            examples: &[
                ("vfio-irq man --out /usr/local/share/man/man1", "Install the pages."),
                ("vfio-irq man vfio-irq-watch", "Print a page, for man -l -."),
            ],
            files: &[("/usr/local/share/man/man1", "Where man looks for pages.")],
            ..Extra::default()
        },
        _ => Extra::default(),
    }
}

fn terms(pairs: &[(&str, &str)]) -> Terms {
    let plain =
        |(name, text): &(&str, &str)| (name.trim_start_matches('>').to_owned(), (*text).to_owned());
    pairs.iter().map(plain).collect()
}

fn watch_columns() -> Terms {
    let column =
        |column: &watch::columns::Column| (column.name.to_owned(), column.meaning.to_owned());
    watch::columns::COLUMNS.iter().map(column).collect()
}
