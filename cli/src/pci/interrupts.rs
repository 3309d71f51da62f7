//! `/proc/interrupts`.

use super::System;
use crate::pci::Bdf;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// An interrupt of the host that belongs to a PCI function.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct HostIrq {
    /// The number of the interrupt in Linux.
    pub irq: u32,
    /// `msi` or `msix`.
    pub index: String,
    /// The vector of the device; its position among the others if the system does not report it.
    pub vector: u32,
    /// Interrupts so far, on all processors.
    pub signals: u64,
    /// The handler; `null` if the interrupt is allocated only.
    pub handler: Option<String>,
}

/// A line of `/proc/interrupts`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Line {
    count: u64,
    /// The number of the interrupt in its interrupt chip.
    number: Option<u32>,
    /// Whether that number is the device's own.
    own: bool,
    handler: String,
}

/// Returns the MSI and MSI-X interrupts of a function, in the order of its vectors.
pub fn of(system: &System, bdf: Bdf) -> Vec<HostIrq> {
    let directory = Path::new("sys/bus/pci/devices").join(bdf.to_string()).join("msi_irqs");
    let irqs = system.names(&directory);
    if irqs.is_empty() {
        return Vec::new();
    }
    let lines = read(&system.text("proc/interrupts").unwrap_or_default());
    let mut numbers: Vec<u32> = irqs.iter().filter_map(|irq| irq.parse().ok()).collect();
    numbers.sort_unstable();
    // A function uses either MSI or MSI-X, so that one file of the thousands answers for all.
    let first = numbers.first().map(u32::to_string).unwrap_or_default();
    let index = system.text(directory.join(first)).unwrap_or_default();
    let host = |(place, irq): (u32, u32)| {
        let line = lines.get(&irq);
        HostIrq {
            irq,
            index: index.clone(),
            vector: line.and_then(Line::vector).unwrap_or(place),
            signals: line.map_or(0, |line| line.count),
            handler: line.map(|line| line.handler.clone()),
        }
    };
    let mut all: Vec<HostIrq> = (0..).zip(numbers).map(host).collect();
    all.sort_by_key(|host| (host.vector, host.irq));
    all
}

impl Line {
    /// Returns the device's vector, if the line contains it.
    fn vector(&self) -> Option<u32> {
        // VFIO's names: vfio-msix[3](0000:01:00.0).
        let named = self.handler.strip_prefix("vfio-msi").and_then(|rest| {
            let (_, rest) = rest.split_once('[')?;
            rest.split_once(']')?.0.parse().ok()
        });
        named.or(self.number.filter(|_| self.own))
    }
}

/// Parses the lines by the number of the interrupt. Interrupts without a handler are not in the
/// file.
fn read(text: &str) -> HashMap<u32, Line> {
    let mut lines = text.lines();
    let processors = lines.next().unwrap_or_default().split_whitespace().count();
    let line = |line: &str| {
        let (irq, rest) = line.split_once(':')?;
        let mut words = rest.split_whitespace();
        let counts = words.by_ref().take(processors).map_while(|word| word.parse::<u64>().ok());
        let count = counts.sum();
        let (chip, kind) = (words.next()?, words.next()?);
        let digits = kind.split(|c: char| !c.is_ascii_digit()).next()?;
        // A chip of the device itself is named after the device, and counts the device's vectors.
        let own = chip.contains("PCI-MSI") && chip.contains(':');
        let handler = words.collect::<Vec<_>>().join(" ");
        Some((irq.trim().parse().ok()?, Line { count, number: digits.parse().ok(), own, handler }))
    };
    lines.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn lines_are_read_on_kernels_old_and_new() {
        let text = "            CPU0       CPU1
   4:         10          5   IO-APIC   4-edge      ttyS0
  27:         12          1  IR-PCI-MSIX-0000:00:04.0    7-edge      vfio-msix[3](0000:00:04.0)
  28:          0         12  IR-PCI-MSIX-0000:00:05.0    1-edge      nvme0q1
  29:          1          0  IR-PCI-MSI 2097153-edge      eth0-rx-1, eth0-tx-1
 NMI:          0          0   Non-maskable interrupts
";
        let lines = read(text);
        let seen = |irq| lines.get(&irq).map(|line| (line.count, line.vector()));
        assert_eq!(seen(4), Some((15, None)));
        assert_eq!(seen(27), Some((13, Some(3))));
        assert_eq!(seen(28), Some((12, Some(1))));
        assert_eq!(seen(29), Some((1, None)));
        assert_eq!(lines[&29].handler, "eth0-rx-1, eth0-tx-1");
        assert!(read("").is_empty());
    }
}
