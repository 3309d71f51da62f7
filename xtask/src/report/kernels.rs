//! What is counted inside kernels: guest instructions, with the core in C and the core in Rust.

use std::time::Duration;

use serde_json::Value;

use super::{Part, plot};
use crate::error::{Error, Result};
use crate::guest_programs;
use crate::instructions::{self, ratio};
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Core};
use crate::lab::kernel::Series;

/// Measures each request on both cores.
pub fn instructions(cache: &Cache) -> Result<Vec<Part>> {
    let [c, rust] =
        [Core::C, Core::Rust].map(|core| instructions::measure(cache, Series::V7_3, core));
    let (c, rust) = (c?, rust?);
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for mine in &rust {
        let theirs = c.iter().find(|figure| figure.operation == mine.operation);
        let [theirs, mine_least] = [theirs.and_then(|figure| figure.least), mine.least];
        let shown = |least: Option<u64>| least.map_or("refused".to_owned(), |n| n.to_string());
        let times = ratio(theirs, mine_least).unwrap_or_default();
        rows.push(vec![mine.operation.clone(), shown(theirs), shown(mine_least), times]);
        if let (Some(theirs @ 1..), Some(least)) = (theirs, mine_least) {
            bars.push((mine.operation.clone(), 100.0 * real(least) / real(theirs)));
        }
    }
    let columns = ["operation", "C", "Rust", "C : Rust"].map(str::to_owned).to_vec();
    bars.reverse();
    let picture = plot::shares("The Rust core's instructions, as a share of the C core's", &bars)?;
    Ok(vec![Part::Table { columns, rows }, Part::Picture(picture)])
}

/// The most vectors of a device need processors for as many interrupts: x86 has about two hundred
/// for each.
const CPUS: u32 = 12;

const COMMAND: &str = "ulimit -n 8192; exec vfio-irq-conformance scaling --bdf $BIND 2>&1";

/// A cost: the operation, the number of active vectors, the instructions.
type Cost = (String, u64, u64);

/// Measures requests beside more and more active vectors, on both cores.
pub fn scaling(cache: &Cache) -> Result<Vec<Part>> {
    let cores = [Core::C, Core::Rust];
    let [c, rust] = cores.map(|core| costs(cache, core));
    let (c, rust) = (c?, rust?);
    let mut parts = Vec::new();
    for operation in ["retarget", "detach", "attach_again"] {
        let of = |costs: &[Cost]| -> Vec<(f64, f64)> {
            let these = costs.iter().filter(|(op, ..)| op == operation);
            these.map(|&(_, active, least)| (real(active), real(least))).collect()
        };
        let lines = [("C".to_owned(), of(&c)), ("Rust".to_owned(), of(&rust))];
        parts.push(Part::Picture(plot::lines(operation, &lines)?));
    }
    let columns = ["operation", "active vectors", "C", "Rust"].map(str::to_owned).to_vec();
    let row = |(operation, active, least): &Cost| {
        let theirs = c.iter().find(|(op, beside, _)| op == operation && beside == active);
        let theirs = theirs.map_or("not reached".to_owned(), |(.., least)| least.to_string());
        vec![operation.clone(), active.to_string(), theirs, least.to_string()]
    };
    let mut rows: Vec<Vec<String>> = rust.iter().map(row).collect();
    rows.sort_by(|one, other| other[0].cmp(&one[0]));
    parts.push(Part::Table { columns, rows });
    Ok(parts)
}

fn costs(cache: &Cache, core: Core) -> Result<Vec<Cost>> {
    let mut builder = Builder::new(Series::V7_3, core);
    builder.devices = vec![Kind::Nvme2048];
    builder.cpus = CPUS;
    builder.icount = true;
    builder.timeout = Duration::from_secs(900);
    builder.image.put = vec![guest_programs::build()?];
    builder.image.command = COMMAND.to_owned();
    let outcome = builder.run(cache)?;
    outcome.check(|_| false)?;
    let cost = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        Some((value["op"].as_str()?.to_owned(), value["active"].as_u64()?, value["min"].as_u64()?))
    };
    let costs: Vec<Cost> = outcome.output.lines().filter_map(cost).collect();
    match costs.is_empty() {
        true => Err(Error::other(format!("nothing was measured: {}", outcome.output))),
        false => Ok(costs),
    }
}

/// Counts are far below the numbers that f64 cannot have.
fn real(count: u64) -> f64 {
    count as f64
}
