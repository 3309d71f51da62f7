//! `vfio-irq list`.

use crate::error::Error;
use crate::info::device;
use crate::pci::at_boot::{self, AtBoot};
use crate::pci::config::Unread;
use crate::pci::function::{Function, Member};
use crate::pci::vfio::{self, Core};
use crate::pci::{System, holders, users};
use crate::report::{self, Out, or_none, or_unknown, yes};
use schemars::JsonSchema;
use serde::Serialize;

/// The options of `list`.
#[derive(clap::Args)]
pub struct Options {
    /// Functions without MSI and MSI-X as well
    #[arg(long)]
    all: bool,
    /// Open functions of a VFIO driver that have no user, and ask them (this resets them)
    #[arg(long)]
    open: bool,
}

/// What `list --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Document {
    /// The loaded vfio-pci-core; `None` without a VFIO PCI driver.
    core: Option<Core>,
    /// Functions, by address.
    functions: Vec<Listed>,
    /// What is unknown, and why.
    notes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    #[serde(flatten)]
    function: Function,
    /// The users of the function: processes, or disks and network interfaces of this machine.
    used_by: Vec<String>,
    /// What binds the function when the machine boots (`bind --persist`, or driverctl).
    at_boot: Option<AtBoot>,
}

const SHORT: &str = "?: not to be known from here; root sees all of configuration space";
const SILENT: &str = "?: a function that does not answer is powered down, or gone; \
                      `echo on > /sys/bus/pci/devices/ADDRESS/power/control` powers it up";

/// The columns and their meanings.
pub const COLUMNS: [(&str, &str); 8] = [
    ("ADDRESS", "The address of the function: domain, bus, device, function."),
    ("WHAT", "What the function is, by its class code."),
    ("DRIVER", "The driver that has it; - for none."),
    (">MSI-X", "Vectors of MSI-X that it has; ? where configuration space cannot be read."),
    (">MSI", "Vectors of MSI that it has."),
    (">IN USE", "Interrupts with a handler, and after a plus sign those that are only allocated."),
    ("DYN", "Vectors can be added while others are in use; - without a VFIO driver."),
    ("MASK", "Single vectors can be masked; - without a VFIO driver."),
];

/// Lists the functions.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let mut functions = system.functions()?;
    functions.retain(|function| options.all || function.has_vectors());
    if options.open {
        functions.iter_mut().for_each(|function| ask(system, function));
    }
    let unread = |why| functions.iter().any(|function| function.unread == Some(why));
    let notes = [(Unread::Short, SHORT), (Unread::Silent, SILENT)].into_iter();
    let notes = notes.filter(|(why, _)| unread(*why)).map(|(_, note)| note.to_owned()).collect();
    let listed = |function: Function| Listed {
        used_by: used_by(system, &function),
        at_boot: at_boot::of(system, function.bdf),
        function,
    };
    let functions = functions.into_iter().map(listed).collect();
    let document = Document { core: Core::read(system), functions, notes };
    out.one(&document, || words(&document, report::width()))
}

/// Replaces the abilities known from the driver by the device's own answer.
fn ask(system: &System, function: &mut Function) {
    if let Ok(abilities) = device::abilities(system, function) {
        function.abilities = abilities;
    }
}

/// Returns the names of a function's users.
pub fn used_by(system: &System, function: &Function) -> Vec<String> {
    if function.vfio {
        let holders = holders::of(system, function).processes;
        return holders.iter().map(ToString::to_string).collect();
    }
    users::names(system, function.bdf)
}

/// Spaces between two columns.
const GAP: usize = 2;
/// The least width of the column that describes a function.
const LEAST: usize = 8;
/// The column that is cut if the table is too wide.
const WHAT: usize = 1;

fn words(document: &Document, width: Option<usize>) -> String {
    if document.functions.is_empty() {
        return "no PCI function has MSI or MSI-X (--all shows the others)\n".to_owned();
    }
    let mut rows: Vec<Vec<String>> = document.functions.iter().map(row).collect();
    if let Some(width) = width {
        fit(&mut rows, width);
    }
    let table = report::table(&COLUMNS.map(|(name, _)| name), rows);
    let mut lines = table.lines();
    let mut text = lines.next().map(|names| format!("{names}\n")).unwrap_or_default();
    for (line, listed) in lines.zip(&document.functions) {
        text += &format!("{line}\n{}", report::wrapped(&more(listed), width, 4));
    }
    let legend =
        "DYN: vectors can be added while others are in use. MASK: single vectors can be masked.";
    let core = format!("vfio-pci-core: {}", vfio::words(document.core.as_ref()));
    let notes = [legend, &core].into_iter().chain(document.notes.iter().map(String::as_str));
    notes.fold(text, |text, note| format!("{text}\n{}", report::wrapped(note, width, 0)))
}

/// Cuts the descriptions of functions so that the table fits.
fn fit(rows: &mut [Vec<String>], width: usize) {
    let longest = |column: usize, rows: &[Vec<String>]| {
        let name = COLUMNS.get(column).map_or(0, |(name, _)| name.trim_start_matches('>').len());
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(name)
    };
    let all: usize = (0..COLUMNS.len()).map(|column| longest(column, rows)).sum();
    let all = all + GAP * (COLUMNS.len() - 1);
    let most = longest(WHAT, rows).saturating_sub(all.saturating_sub(width)).max(LEAST);
    for what in rows.iter_mut().filter_map(|row| row.get_mut(WHAT)) {
        if what.chars().count() > most {
            *what = what.chars().take(most - 1).chain(['…']).collect();
        }
    }
}

fn row(listed: &Listed) -> Vec<String> {
    let function = &listed.function;
    let offered = function.offered;
    // Without a VFIO driver, vectors can be neither added nor masked.
    let able = |value| if function.vfio { yes(value) } else { "-".to_owned() };
    let in_use = match function.allocated.saturating_sub(function.in_use) {
        0 => function.in_use.to_string(),
        spare => format!("{} +{spare}", function.in_use),
    };
    vec![
        function.bdf.to_string(),
        function.what.to_owned(),
        or_none(function.driver.as_ref()),
        or_unknown(offered.map(|offered| offered.msix)),
        or_unknown(offered.map(|offered| offered.msi)),
        in_use,
        able(function.abilities.dynamic),
        able(function.abilities.maskable),
    ]
}

/// Formats the line below a function: its name, its group, its users.
fn more(listed: &Listed) -> String {
    let function = &listed.function;
    let mut parts = vec![match &function.name {
        Some(name) => format!("{name} [{}]", function.id),
        None => format!("[{}]", function.id),
    }];
    parts.extend(function.sriov.as_ref().map(|sriov| sriov.words()));
    parts.push(match &function.group {
        None => "no IOMMU group".to_owned(),
        Some(group) if group.others.is_empty() => format!("group {}", group.number),
        Some(group) => {
            let member = |Member { bdf, .. }: &Member| bdf.to_string();
            let others: Vec<String> = group.others.iter().map(member).collect();
            format!("group {} with {}", group.number, others.join(", "))
        }
    });
    if !listed.used_by.is_empty() {
        parts.push(format!("used by {}", listed.used_by.join("; ")));
    }
    let at_boot = listed.at_boot.iter().map(|file| match &file.driver {
        Some(driver) => format!("{driver} at boot"),
        None => format!("{} names no driver", file.file.display()),
    });
    parts.extend(at_boot);
    parts.join(", ")
}
