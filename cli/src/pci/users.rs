//! Finds this machine's own uses of a function.

use super::{System, blocks};
use crate::error::Obstacle;
use crate::pci::Bdf;
use std::collections::BTreeSet;
use std::path::Path;

/// Finds everything that would break if the function were removed.
pub fn of(system: &System, bdf: Bdf) -> Vec<Obstacle> {
    let here = bdf.directory();
    let directory = system.path(&here);
    let (mut disks, mut cards) = (BTreeSet::new(), BTreeSet::new());
    // The link is followed once; everything below it is in that directory.
    let at = std::fs::canonicalize(&directory).unwrap_or(directory);
    walk(&at, 12, &mut disks, &mut cards);
    let mut found = blocks::of_disks(system, disks.iter().map(String::as_str));
    found.extend(cards.iter().filter_map(|card| network(system, card)));
    if system.text(here.join("boot_vga")).as_deref() == Some("1") {
        found.push(Obstacle {
            what: "the machine's console is on this graphics card".to_owned(),
            remedy: "have another one".to_owned(),
            forceable: true,
        });
    }
    found
}

/// Returns the disks and network interfaces of a function: `nvme0n1 at /, swap`, `eth0`.
pub fn names(system: &System, bdf: Bdf) -> Vec<String> {
    let (mut disks, mut cards) = (BTreeSet::new(), BTreeSet::new());
    let at = std::fs::canonicalize(system.path(bdf.directory())).unwrap_or_default();
    walk(&at, 12, &mut disks, &mut cards);
    let mut all = blocks::uses(system, disks.iter().map(String::as_str));
    all.extend(cards);
    all
}

/// Finds disks and network interfaces below a device.
fn walk(at: &Path, depth: usize, disks: &mut BTreeSet<String>, cards: &mut BTreeSet<String>) {
    for name in super::names(at) {
        let below = at.join(&name);
        let real = std::fs::symlink_metadata(&below).is_ok_and(|meta| meta.is_dir());
        match name.as_str() {
            _ if !real => {}
            "block" => disks.extend(super::names(&below)),
            "net" => cards.extend(super::names(&below)),
            _ => {
                // NVMe has its namespaces in the controller's own directory.
                if below.join("queue").is_dir() {
                    disks.insert(name);
                } else if depth > 0 {
                    walk(&below, depth - 1, disks, cards);
                }
            }
        }
    }
}

/// Returns the obstacle if a network interface is up.
fn network(system: &System, card: &str) -> Option<Obstacle> {
    let at = Path::new("sys/class/net").join(card);
    let flags = system.text(at.join("flags"))?;
    let up = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()? & 1 != 0;
    let master = super::link(&system.path(at.join("master")));
    let what = match master {
        Some(master) => format!("the network interface {card} is part of {master}"),
        None if up && has_address(system, card) => {
            format!("the network interface {card} is up and has addresses")
        }
        None if up => format!("the network interface {card} is up"),
        None => return None,
    };
    let remedy = format!("ip link set {card} down, once nothing needs it");
    Some(Obstacle { what, remedy, forceable: true })
}

/// Returns true if an interface has routes, which it has once it has an address.
fn has_address(system: &System, card: &str) -> bool {
    let four = system.text("proc/net/route").unwrap_or_default();
    let six = system.text("proc/net/if_inet6").unwrap_or_default();
    four.lines().any(|line| line.split_whitespace().next() == Some(card))
        || six.lines().any(|line| line.split_whitespace().last() == Some(card))
}
