//! The long runs. To add one, add an entry.

use crate::lab::guest::Core::{self, C, Rust};
use crate::lab::kernel::Series::{self, V7_3, V7_3Debug, V7_3Kcsan};
use crate::test::{self, Settings};

/// A long run.
pub struct Run {
    /// Its name. The page shows runs with the same name before a `/` together.
    pub name: &'static str,
    /// What it does, a sentence.
    pub what: &'static str,
    /// How.
    pub work: Work,
}

/// What runs.
pub enum Work {
    /// A row of the test table, for longer.
    Row {
        /// Part of the row's name.
        name: &'static str,
        /// The kernel.
        series: Series,
        /// The core.
        core: Core,
        /// Variables of the row's command.
        settings: Settings,
        /// The time limit.
        seconds: u64,
    },
    /// As above, for each test of the lab that has the kernel 7.3 and the core. Each is a run of its
    /// own, named after its row, since all of them take many hours.
    Suite {
        /// The kernel in place of 7.3.
        series: Series,
        /// The core.
        core: Core,
    },
    /// A command of this machine's shell. The last line that it prints has the figures.
    Here {
        /// The command line.
        command: &'static str,
    },
}

const MODEL: &str = "do what the contract's model does";
const STORMS: &str = "storms: requests";
/// For each of the row's devices.
const QUARTER_MILLION: Settings = &[("VFIO_IRQ_REQUESTS", "250000"), ("VFIO_IRQ_SEED", "1")];
/// Three devices, twenty minutes each.
const HOUR: Settings = &[("VFIO_IRQ_SECONDS", "1200"), ("VFIO_IRQ_SEED", "1")];

const fn row(name: &'static str, series: Series, core: Core, settings: Settings) -> Work {
    Work::Row { name, series, core, settings, seconds: 4 * 3600 }
}

/// Fuzzes a target. libFuzzer's last line has its count. The files that it keeps are in fuzz/corpus.
macro_rules! fuzz {
    ($target:literal, $runs:literal) => {
        Work::Here {
            command: concat!(
                "cd fuzz && cargo +nightly fuzz run -s none -O ",
                $target,
                " -- -runs=",
                $runs
            ),
        }
    };
}

/// Returns all runs, the tests of a suite one by one, by their names.
pub fn all() -> Vec<(String, &'static Run)> {
    let names = |run: &'static Run| match run.work {
        Work::Suite { core, .. } => {
            test::rows(V7_3, core).map(|row| format!("{}/{row}", run.name)).collect()
        }
        Work::Row { .. } | Work::Here { .. } => vec![run.name.to_owned()],
    };
    RUNS.iter().flat_map(|run| names(run).into_iter().map(move |name| (name, run))).collect()
}

const RUNS: &[Run] = &[
    Run {
        name: "model-linux",
        what: "Linux's core does what the contract's model does: 250,000 requests on each of 82576, edu, xHCI, NVMe and virtio-net.",
        work: row(MODEL, V7_3, C, QUARTER_MILLION),
    },
    Run {
        name: "model-rust",
        what: "The Rust core does what the contract's model does: 250,000 requests on each of the same devices.",
        work: row(MODEL, V7_3, Rust, QUARTER_MILLION),
    },
    Run {
        name: "model-simulator",
        what: "The engine on its simulator does what the contract's model does.",
        work: Work::Here {
            command: "cargo run --release -q -p vfio-irq-conformance -- differential --simulator --requests 20000000",
        },
    },
    Run {
        name: "model-vfio-user",
        what: "The NVMe controller behind a vfio-user socket does what the contract's model does.",
        work: Work::Here {
            command: "cargo build --release -q -p vfio-irq-cli -p vfio-irq-conformance && \
                rm -f target/soak.sock && \
                { target/release/vfio-irq serve nvme --socket target/soak.sock --size 1M >/dev/null 2>&1 & } && \
                sleep 1; target/release/vfio-irq-conformance differential --socket target/soak.sock --requests 100000; \
                status=$?; kill $!; exit $status",
        },
    },
    Run {
        name: "suite-kasan",
        what: "Each test of the lab under KASAN, lockdep, kmemleak.",
        work: Work::Suite { series: V7_3Debug, core: Rust },
    },
    Run {
        name: "storm-stock",
        what: "An hour of storms: requests, resets, power, processors, kill and unbind at once.",
        work: row(STORMS, V7_3, Rust, HOUR),
    },
    Run {
        name: "storm-kasan",
        what: "An hour of storms under KASAN, lockdep, kmemleak.",
        work: row("storms on a debug kernel", V7_3Debug, Rust, HOUR),
    },
    Run {
        name: "storm-kcsan",
        what: "An hour of storms under KCSAN.",
        work: row("storms under KCSAN", V7_3Kcsan, Rust, HOUR),
    },
    Run {
        name: "fuzz-message",
        what: "Any bytes as a stream of vfio-user's messages: the parser accepts or refuses each, and comes to no harm.",
        work: fuzz!("message", "1000000000"),
    },
    Run {
        name: "fuzz-session",
        what: "Any messages of a client: each gets its reply, and every descriptor is closed.",
        work: fuzz!("session", "100000000"),
    },
];
