//! `vfio-irq list`.

use crate::error::Error;
use crate::info::device;
use crate::pci::System;
use crate::pci::config::Unread;
use crate::pci::function::Function;
use crate::report::{self, Out, or_none, or_unknown, yes};
use serde::Serialize;

/// What to list.
#[derive(clap::Args)]
pub struct Options {
    /// Functions without MSI and MSI-X as well
    #[arg(long)]
    all: bool,
    /// Open functions that a VFIO driver has and nobody uses, and ask them (this resets them)
    #[arg(long)]
    open: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    functions: &'a [Function],
    notes: Vec<&'static str>,
}

const SHORT: &str =
    "?: not to be known from here; root sees more (all of configuration space, debugfs)";
const SILENT: &str = "?: a function that does not answer is powered down, or gone; \
                      `echo on > /sys/bus/pci/devices/ADDRESS/power/control` powers it up";

/// Lists them.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let mut functions = system.functions()?;
    functions.retain(|function| options.all || function.has_vectors());
    if options.open {
        functions.iter_mut().for_each(|function| ask(system, function));
    }
    let unread = |why| functions.iter().any(|function| function.unread == Some(why));
    let notes = [(Unread::Short, SHORT), (Unread::Silent, SILENT)];
    let notes: Vec<_> = notes.into_iter().filter(|(why, _)| unread(*why)).collect();
    let notes: Vec<_> = notes.into_iter().map(|(_, note)| note).collect();
    out.one(&Document { functions: &functions, notes: notes.clone() }, || {
        if functions.is_empty() {
            return "no PCI function has MSI or MSI-X (--all shows the others)\n".to_owned();
        }
        let table = report::table(COLUMNS, functions.iter().map(row));
        notes.iter().fold(table, |text, note| format!("{text}\n{note}\n"))
    })
}

/// What a function says itself takes the place of what is known of its driver.
fn ask(system: &System, function: &mut Function) {
    if let Ok(abilities) = device::abilities(system, function) {
        function.abilities = abilities;
    }
}

const COLUMNS: &[&str] = &[
    "ADDRESS", "WHAT", "ID", "DRIVER", "GROUP", ">MSI-X", ">MSI", ">IN USE", "DYNAMIC", "MASKABLE",
];

fn row(function: &Function) -> Vec<String> {
    let offered = function.offered;
    let group = function.group.as_ref().map(|group| match group.others.len() {
        0 => group.number.clone(),
        others => format!("{} (+{others})", group.number),
    });
    // Without a VFIO driver there is nothing to add or to mask.
    let able = |value| if function.vfio { yes(value) } else { "-".to_owned() };
    let in_use = match function.allocated.saturating_sub(function.in_use) {
        0 => function.in_use.to_string(),
        spare => format!("{} +{spare}", function.in_use),
    };
    vec![
        function.bdf.to_string(),
        function.what.to_owned(),
        function.id.clone(),
        or_none(function.driver.as_ref()),
        or_none(group),
        or_unknown(offered.map(|offered| offered.msix)),
        or_unknown(offered.map(|offered| offered.msi)),
        in_use,
        able(function.abilities.dynamic),
        able(function.abilities.maskable),
    ]
}
