//! `vfio-irq info`.

pub mod device;
mod token;
mod ways;

pub use token::VfToken;

use crate::complete;
use crate::counts::Counts;
use crate::error::Error;
use crate::pci::Bdf;
use crate::pci::config::Unread;
use crate::pci::function::Function;
use crate::pci::holders::Holders;
use crate::pci::interrupts::{self, HostIrq};
use crate::pci::vfio::{self, Core};
use crate::pci::{System, class, debugfs, holders, users};
use crate::report::{self, Out, many};
use crate::target::{Target, TargetName};
use crate::watch::columns;
use clap_complete::engine::ArgValueCompleter;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;
use vfio_irq::{Capabilities, Index, Transport, sim::Simulated};

/// The options of `info`.
#[derive(clap::Args)]
pub struct Options {
    /// The device
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    target: TargetName,
    /// Do not open it, so that it is not reset: two of five indexes are known then
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    token: VfToken,
}

/// What `info --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Document {
    /// The device.
    target: String,
    /// A PCI function of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    /// The loaded vfio-pci-core, if a VFIO driver has the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<Core>,
    /// The device's answers about its interrupts; empty if it could not be asked.
    indexes: Vec<Answer>,
    /// The processes that have the function open, if a VFIO driver has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    holders: Option<Holders>,
    /// The host's interrupts of the function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    host_interrupts: Vec<HostIrq>,
    /// The counts of its vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    /// What is unknown, and what to do about it.
    notes: Vec<String>,
}

/// A device's answer about one index (VFIO_DEVICE_GET_IRQ_INFO).
#[derive(Serialize, JsonSchema)]
struct Answer {
    /// `intx`, `msi`, `msix`, `err` or `req`.
    index: &'static str,
    /// Interrupts of the index.
    count: u32,
    /// Whether the index signals eventfds.
    eventfd: bool,
    /// Whether its interrupts can be masked.
    maskable: bool,
    /// Whether a signal masks the index.
    automasked: bool,
    /// Whether its interrupts are enabled as a set.
    noresize: bool,
}

/// Returns the name of an index on the command line and in JSON.
pub fn spelling(index: Index) -> &'static str {
    match index {
        Index::Intx => "intx",
        Index::Msi => "msi",
        Index::Msix => "msix",
        Index::Err => "err",
        Index::Req => "req",
    }
}

/// Returns the name of an index in text.
pub fn name(spelling: &str) -> &str {
    match spelling {
        "intx" => "INTx",
        "msi" => "MSI",
        "msix" => "MSI-X",
        "err" => "ERR",
        "req" => "REQ",
        other => other,
    }
}

/// Prints the information.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let target = options.target.find(system)?;
    if !matches!(target, Target::Pci(_)) {
        options.token.none(&target)?;
    }
    let document = match &target {
        Target::Pci(bdf) => function(system, *bdf, options)?,
        Target::User(path) => {
            let counts = crate::serve::counts::read(path);
            let asked = device::connect(path).and_then(|device| ask(&device));
            let (indexes, notes) = match (asked, &counts) {
                (Ok(indexes), Ok(_)) => (indexes, Vec::new()),
                (Ok(indexes), Err(error)) => (indexes, vec![error.to_string()]),
                // Another process is the client of the device.
                (Err(error), Ok(_)) => (Vec::new(), vec![error.to_string()]),
                (Err(error), Err(_)) => return Err(error),
            };
            Document { counts: counts.ok(), ..empty(&target, indexes, notes) }
        }
        Target::Sim => empty(&target, ask(&Simulated::new())?, Vec::new()),
    };
    out.one(&document, || words(&document))
}

fn empty(target: &Target, indexes: Vec<Answer>, notes: Vec<String>) -> Document {
    let target = target.to_string();
    Document {
        target,
        function: None,
        core: None,
        indexes,
        holders: None,
        host_interrupts: Vec::new(),
        counts: None,
        notes,
    }
}

fn ask(device: &impl Transport) -> Result<Vec<Answer>, Error> {
    let all = [Index::Intx, Index::Msi, Index::Msix, Index::Err, Index::Req];
    let answer = |index| {
        let said = Capabilities::of(device, index)?;
        Ok(Answer {
            index: spelling(index),
            count: said.count(),
            eventfd: said.eventfd(),
            maskable: said.maskable(),
            automasked: said.automasked(),
            noresize: !said.resizable(),
        })
    };
    all.into_iter().map(answer).collect()
}

fn function(system: &System, bdf: Bdf, options: &Options) -> Result<Document, Error> {
    let function = system.function(bdf)?;
    let mut notes = Vec::new();
    let core = Core::read(system).filter(|_| function.vfio);
    let holders = function.vfio.then(|| holders::of(system, &function));
    notes.extend(function.unread.map(|why| match why {
        Unread::Short => "configuration space shows its first 64 bytes only: run this as root for the vectors that the function has".to_owned(),
        Unread::Silent => format!("configuration space does not answer: the function is powered down, or gone; `echo on > /sys/bus/pci/devices/{bdf}/power/control` powers it up"),
    }));
    // Read before the device is opened, because opening resets it.
    let host_interrupts = interrupts::of(system, bdf);
    let counts = counts(system, &function, core.as_ref(), &mut notes);
    let indexes = if options.no_open {
        notes.push("the indexes were not asked for (--no-open)".to_owned());
        Vec::new()
    } else {
        let asked =
            device::open(system, &function, &options.token).and_then(|opened| ask(&opened.device));
        asked.unwrap_or_else(|error| {
            // A bridge is never handed to user space, so nothing is missing.
            if !class::is_bridge(function.class) {
                notes.push(error.to_string());
            }
            Vec::new()
        })
    };
    if core == Some(Core::C) {
        notes.push(format!("this core masks no vectors and counts none; {}", vfio::REPLACE));
    }
    if !function.vfio {
        notes.extend(users::of(system, bdf).iter().map(|user| format!("in use: {}", user.what)));
    }
    let target = bdf.to_string();
    Ok(Document {
        target,
        function: Some(function),
        core,
        indexes,
        holders,
        host_interrupts,
        counts,
        notes,
    })
}

/// Reads the core's own counts. Adds a note if the core could have counts and has none.
fn counts(
    system: &System,
    function: &Function,
    core: Option<&Core>,
    notes: &mut Vec<String>,
) -> Option<Counts> {
    core.filter(|core| core.is_rust())?;
    let driver = function.driver.clone().unwrap_or_default();
    match debugfs::read(system, function.bdf) {
        Ok(counts) => Some(Counts { device: "counts".to_owned(), driver, ..counts }),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "mount -t debugfs debugfs /sys/kernel/debug",
                _ => "run this as root",
            };
            let file = debugfs::file(function.bdf);
            notes.push(format!("no counts of single vectors: /{file}: {error}; {remedy}"));
            None
        }
    }
}

fn words(document: &Document) -> String {
    let mut text = format!("{}\n", document.target);
    let mut line = |name: &str, value: String| _ = writeln!(text, "  {name:<12} {value}");
    if let Some(function) = &document.function {
        line("device", format!("{} [{}]", function.what, function.id));
        if let Some(name) = &function.name {
            line("name", name.clone());
        }
        line("driver", report::or_none(function.driver.as_ref()));
        if let Some(core) = &document.core {
            line("core", core.to_string());
        }
        line(
            "IOMMU group",
            function.group.as_ref().map_or("none".to_owned(), |group| {
                let member = |m: &crate::pci::function::Member| {
                    format!("{} ({})", m.bdf, m.driver.as_deref().unwrap_or("no driver"))
                };
                let others: Vec<_> = group.others.iter().map(member).collect();
                match others.is_empty() {
                    true => format!("{}, alone", group.number),
                    false => format!("{}, with {}", group.number, others.join(", ")),
                }
            }),
        );
        if let Some(sriov) = &function.sriov {
            line("SR-IOV", sriov.words());
        }
        if let Some(offered) = function.offered {
            line(
                "offers",
                format!("{} of MSI-X, {} of MSI", many(offered.msix.into(), "vector"), offered.msi),
            );
        }
        let (used, all) = (function.in_use, function.allocated);
        line("host", format!("{} allocated, {used} in use", many(all.into(), "interrupt")));
        if function.vfio && document.indexes.is_empty() {
            let able = function.abilities;
            line(
                "vectors",
                format!(
                    "added at any time: {}, maskable: {} (from {})",
                    report::yes(able.dynamic),
                    report::yes(able.maskable),
                    able.source
                ),
            );
        }
    }
    if let Some(holders) = &document.holders {
        let doubt = if holders.complete { "" } else { " as far as can be seen; root sees all" };
        line(
            "open in",
            match holders.processes.is_empty() {
                true => format!("no process{doubt}"),
                false => holders.words(),
            },
        );
    }
    if !document.indexes.is_empty() {
        text += "\n";
        text += &report::table(
            &["INDEX", ">COUNT", "WHAT IT CAN DO"],
            document.indexes.iter().map(index_row),
        );
    }
    if let Some(counts) = &document.counts {
        text += "\n";
        text += &columns::plain(counts, None);
    } else if !document.host_interrupts.is_empty() {
        text += "\n";
        text += &report::table(
            &[">VECTOR", ">IRQ", ">COUNT", "HANDLER"],
            document.host_interrupts.iter().map(host_row),
        );
    }
    for note in &document.notes {
        text += &format!("\nnote: {note}");
    }
    if document.notes.is_empty() { text } else { text + "\n" }
}

fn index_row(answer: &Answer) -> Vec<String> {
    let words = [
        (answer.eventfd, "signals eventfds"),
        (answer.maskable, "maskable"),
        (answer.automasked, "masks itself when it signals"),
        (answer.noresize, "enabled as a set (NORESIZE)"),
        (answer.count > 1 && !answer.noresize, "vectors added at any time"),
    ];
    let said: Vec<&str> = words.into_iter().filter(|(yes, _)| *yes).map(|(_, word)| word).collect();
    let said = if answer.count == 0 { "not there".to_owned() } else { said.join(", ") };
    vec![name(answer.index).to_owned(), answer.count.to_string(), said]
}

fn host_row(irq: &HostIrq) -> Vec<String> {
    let handler = irq.handler.clone().unwrap_or_else(|| "- (allocated only)".to_owned());
    vec![irq.vector.to_string(), irq.irq.to_string(), irq.signals.to_string(), handler]
}
