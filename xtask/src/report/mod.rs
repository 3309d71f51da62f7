//! `cargo xtask report`: measures everything that this project compares, in one run, and writes one
//! page of HTML with tables and plots.

use std::path::PathBuf;
use std::process::ExitCode;

use fs_err as fs;

use crate::error::{Error, Result};
use crate::lab::cache::Cache;

mod disks;
mod here;
mod kernels;
mod page;
mod plot;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// The page
    #[arg(long, value_name = "FILE", default_value = "target/report.html")]
    out: PathBuf,
    /// Only sections whose title contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// A comparison.
struct Section {
    title: &'static str,
    /// What is compared, on what, how often.
    about: &'static str,
    /// The command that measures it alone.
    command: &'static str,
    measure: fn(&Cache) -> Result<Vec<Part>>,
}

/// A part of a section's results.
enum Part {
    Table {
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// A picture: SVG.
    Picture(String),
    /// What a program printed.
    Output(String),
}

const SECTIONS: &[Section] = &[
    Section {
        title: "Requests: Linux's core and the Rust core",
        about: "Guest instructions of one SET_IRQS, and from a register write to its signalled eventfd, on Debian's \
                kernel 7.3 with QEMU's NVMe and edu. A boot for each core, which counts instructions and so repeats \
                exactly. The least of 300 (of 40 where vectors are allocated).",
        command: "cargo xtask lab bench",
        measure: kernels::instructions,
    },
    Section {
        title: "Requests beside other active vectors",
        about: "Guest instructions of a request for one vector while 1 to 2048 vectors of MSI-X are active, on Debian's \
                kernel 7.3 with QEMU's NVMe of 2048 vectors and 12 processors. A boot for each core. The least of 300 \
                (of 40 for detaching and attaching).",
        command: "cargo xtask report --only beside",
        measure: kernels::scaling,
    },
    Section {
        title: "Adding queues: what is lost",
        about: "24 queues of an emulated NVMe controller, added one after the other under load, a tenth of a second \
                between two. Each way once, on this machine. Lengths of gaps depend on what else it does.",
        command: "cargo run --release -- demo",
        measure: here::demo,
    },
    Section {
        title: "vfio-user: round trips",
        about: "Microseconds of a request over a socket: this project's server to a client that polls and to one that \
                sleeps, rust-vmm's server, and a bare ping-pong of bytes. In turn, in one run, on this machine.",
        command: "cargo bench -p vfio-irq-user --bench round_trip",
        measure: here::round_trips,
    },
    Section {
        title: "vfio-user: raising an interrupt",
        about: "Nanoseconds of a raise and of a bare write to an eventfd, in turn, in one run, on this machine.",
        command: "cargo bench -p vfio-irq-user --bench raise",
        measure: here::raises,
    },
    Section {
        title: "KVM: routes of a guest's vectors",
        about: "2048 vectors brought up one by one, with routes in batches and with one ioctl for each. In turn, in one \
                run, on this machine's KVM.",
        command: "cargo bench -p vfio-irq --features kvm --bench kvm_routes",
        measure: here::routes,
    },
    Section {
        title: "The emulated disk in a guest",
        about: "fio in one guest, whose processors are emulated as well: a disk of vfio-irq serve nvme beside QEMU's \
                own NVMe, each on a file of this machine. In turn, three times, five seconds each; the median.",
        command: "cargo xtask report --only disk",
        measure: disks::measure,
    },
];

/// Measures and writes the page. A section that cannot be measured says why, and the exit status is 1.
pub fn run(options: &Options) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let mut results = Vec::new();
    let mut code = ExitCode::SUCCESS;
    let chosen: Vec<&Section> =
        SECTIONS.iter().filter(|section| section.title.contains(&options.only)).collect();
    if chosen.is_empty() {
        let titles: Vec<&str> = SECTIONS.iter().map(|section| section.title).collect();
        let (only, titles) = (&options.only, titles.join("\n  "));
        return Err(Error::other(format!("no section is called {only}. These are:\n  {titles}")));
    }
    for section in chosen {
        eprintln!("report: {} …", section.title);
        let measured = (section.measure)(&cache);
        if let Err(error) = &measured {
            eprintln!("report: {}: {error}", section.title);
            code = ExitCode::FAILURE;
        }
        results.push((section, measured));
    }
    if let Some(dir) = options.out.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&options.out, page::html(&results, &here::facts()))?;
    println!("{}", options.out.display());
    Ok(code)
}
