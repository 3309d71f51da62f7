//! The report, as text and as JSON.

use crate::cpus::Pair;
use crate::memory::Memory;
use crate::raises::Raises;
use crate::stats::Spread;
use crate::wire::Block;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt;

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Processors of client and servers; `None` if the system chose.
    pub cpus: Option<(usize, usize)>,
    /// Round trips, with a client that polls for replies and with one that sleeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Vec<Block>>,
    /// Interrupts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raises: Option<Raises>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

impl Report {
    /// Creates an empty report.
    pub fn new(cpus: Option<Pair>) -> Self {
        let cpus = cpus.map(|pair| (pair.client, pair.server));
        Self { cpus, wire: None, raises: None, memory: None }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpus {
            Some((client, server)) => {
                writeln!(f, "The client runs on processor {client}, the servers on {server}.")?;
            }
            None => writeln!(f, "Client and servers run where the system puts them.")?,
        }
        for block in self.wire.iter().flatten() {
            write_block(f, block)?;
        }
        if let Some(raises) = &self.raises {
            write_raises(f, raises)?;
        }
        if let Some(memory) = &self.memory {
            write_memory(f, memory)?;
        }
        Ok(())
    }
}

fn write_block(f: &mut fmt::Formatter<'_>, block: &Block) -> fmt::Result {
    let (rounds, batch) = (block.rounds, block.batch);
    let client = match block.client_spin_us {
        0 => "a client that sleeps until the reply is there".to_owned(),
        spin => format!("a client that looks for the reply for {spin} µs before it sleeps"),
    };
    writeln!(f, "\nRound trips in µs, {client}; {rounds} rounds of {batch}:")?;
    let columns = [
        "",
        ">polling",
        ">sleeping",
        ">rust-vmm",
        ">ping-pong",
        ">polled",
        "polling/rust-vmm",
        "goal",
        "polling/polled ping-pong",
        "sleeping/ping-pong",
        "goal",
    ];
    let rows = block.rows.iter().map(|row| {
        vec![
            row.message.name().to_owned(),
            format!("{:.2}", row.polling_us.median),
            format!("{:.2}", row.sleeping_us.median),
            format!("{:.2}", row.peer_us.median),
            format!("{:.2}", row.ping_us.median),
            format!("{:.2}", row.polled_ping_us.median),
            ratio(row.polling_to_peer),
            row.polling_goal.map_or_else(|| "-".to_owned(), |goal| goal.to_string()),
            ratio(row.polling_to_ping),
            ratio(row.sleeping_to_ping),
            row.sleeping_goal.to_string(),
        ]
    });
    writeln!(f, "{}", table(&columns, rows))
}

fn write_raises(f: &mut fmt::Formatter<'_>, raises: &Raises) -> fmt::Result {
    let (batches, batch) = (raises.batches, raises.batch);
    writeln!(f, "\nInterrupts of one thread; {batches} batches of {batch}:")?;
    let columns = [">raised a second", ">a raise, ns", ">a bare write, ns", "ratio", "goal"];
    let row = vec![
        format!("{:.0}", raises.per_second),
        format!("{:.1}", raises.raise_ns.median),
        format!("{:.1}", raises.write_ns.median),
        ratio(raises.ratio),
        raises.goal.to_string(),
    ];
    writeln!(f, "{}", table(&columns, [row]))
}

fn write_memory(f: &mut fmt::Formatter<'_>, memory: &Memory) -> fmt::Result {
    let (devices, vectors) = (memory.devices, memory.vectors);
    writeln!(f, "\nMemory of {devices} devices in one process, nothing attached:")?;
    let row = |what: String, kib: f64, threads: f64, goal: String| {
        vec![what, format!("{kib:.1}"), format!("{threads:.1}"), goal]
    };
    let rows = [
        row(
            format!("a device of {vectors} vectors"),
            memory.idle_kib,
            memory.idle_threads,
            memory.goal.to_string(),
        ),
        row("its client, both sides of it".into(), memory.client_kib, 1.0, String::new()),
        row(
            "an NVMe controller of 1023 queues".into(),
            memory.nvme_kib,
            memory.nvme_threads,
            String::new(),
        ),
    ];
    writeln!(f, "{}", table(&["", ">KiB more", ">threads more", "goal"], rows))
}

/// Formats a ratio and the range of eight of ten rounds.
fn ratio(spread: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", spread.median, spread.low, spread.high)
}

/// Formats a table without lines. Aligns columns whose name begins with `>` to the right.
fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
    rows.into_iter().for_each(|row| _ = table.add_row(row));
    for (number, name) in columns.iter().enumerate() {
        let right = name.starts_with('>');
        let alignment = if right { CellAlignment::Right } else { CellAlignment::Left };
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(alignment);
            column.set_padding((0, 2));
        }
    }
    table.trim_fmt()
}
