//! What this machine itself uses a function for.

use super::{System, function::directory, names};
use crate::error::Obstacle;
use crate::target::Bdf;
use std::collections::BTreeSet;
use std::path::Path;

/// Everything that would break if the function were taken away.
pub fn of(system: &System, bdf: Bdf) -> Vec<Obstacle> {
    let here = directory(bdf);
    let directory = system.path(&here);
    let (mut disks, mut cards) = (BTreeSet::new(), BTreeSet::new());
    // The link is followed once; everything below it is inside.
    let at = std::fs::canonicalize(&directory).unwrap_or(directory);
    walk(&at, 12, &mut disks, &mut cards);
    let disks: BTreeSet<String> = disks.iter().map(|name| head(name)).collect();
    let mut found = Vec::new();
    for disk in &disks {
        let mut seen = BTreeSet::new();
        block(system, disk, disk, &mut seen, &mut found);
    }
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

/// Finds disks and network interfaces below a device.
fn walk(at: &Path, depth: usize, disks: &mut BTreeSet<String>, cards: &mut BTreeSet<String>) {
    for name in names(at) {
        let below = at.join(&name);
        let real = std::fs::symlink_metadata(&below).is_ok_and(|meta| meta.is_dir());
        match name.as_str() {
            _ if !real => {}
            "block" => disks.extend(names(&below)),
            "net" => cards.extend(names(&below)),
            _ => {
                // NVMe keeps its namespaces in the controller's own directory.
                if below.join("queue").is_dir() {
                    disks.insert(name);
                } else if depth > 0 {
                    walk(&below, depth - 1, disks, cards);
                }
            }
        }
    }
}

/// The disk that is used: an NVMe path (`nvme0c1n1`) is one of several to the disk `nvme0n1`.
fn head(name: &str) -> String {
    let path = name.strip_prefix("nvme").and_then(|rest| {
        let (subsystem, rest) = rest.split_once('c')?;
        let (_, namespace) = rest.split_once('n')?;
        Some(format!("nvme{subsystem}n{namespace}"))
    });
    path.unwrap_or_else(|| name.to_owned())
}

/// Looks at a disk, its partitions, and what is built on them.
fn block(
    system: &System,
    disk: &str,
    name: &str,
    seen: &mut BTreeSet<String>,
    found: &mut Vec<Obstacle>,
) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let on = if name == disk { disk.to_owned() } else { format!("{name} on {disk}") };
    let at = Path::new("sys/class/block").join(name);
    let mut obstacle = |what: String, remedy: String| {
        found.push(Obstacle { what, remedy, forceable: false });
    };
    let mut used = false;
    for place in mounts(system, name, system.text(at.join("dev")).as_deref()) {
        let remedy = match place.as_str() {
            "/" => "this machine runs from it: choose another device".to_owned(),
            _ => format!("umount {place}"),
        };
        obstacle(format!("{on} is mounted at {place}"), remedy);
        used = true;
    }
    if is_swap(system, name) {
        obstacle(format!("{on} is swap space"), format!("swapoff /dev/{name}"));
        used = true;
    }
    let holders = system.names(at.join("holders"));
    for holder in &holders {
        let kind = match holder {
            name if name.starts_with("md") => "the RAID",
            name if name.starts_with("dm-") => "the mapped device",
            _ => "the device",
        };
        let take_apart = "take it apart first (mdadm --stop, vgchange -an, cryptsetup close)";
        obstacle(format!("{kind} {holder} is built on {on}"), take_apart.to_owned());
        used = true;
    }
    if !used && is_claimed(system, name) {
        obstacle(format!("{on} is in use"), "end what uses it (a file system, ZFS, a RAID)".into());
    }
    holders.iter().for_each(|holder| block(system, disk, holder, seen, found));
    for part in system.names(&at) {
        if system.has(at.join(&part).join("partition")) {
            block(system, disk, &part, seen, found);
        }
    }
}

/// Where a block device is mounted.
fn mounts(system: &System, name: &str, number: Option<&str>) -> Vec<String> {
    let text = system.text("proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(2);
        let device = front.next()?;
        let place = front.nth(1)?;
        // A file system over several disks has a number of its own; its source names one of them.
        let source = back.split(' ').nth(1)?;
        let it = Some(device) == number || source.strip_prefix("/dev/") == Some(name);
        it.then(|| place.replace("\\040", " "))
    };
    text.lines().filter_map(place).collect()
}

fn is_swap(system: &System, name: &str) -> bool {
    let text = system.text("proc/swaps").unwrap_or_default();
    let mut names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.any(|file| file.strip_prefix("/dev/") == Some(name))
}

/// Whether somebody in the kernel has a block device for themselves, whoever it is.
fn is_claimed(system: &System, name: &str) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = open(system.path(format!("dev/{name}")), flags, Mode::empty());
    opened.err() == Some(rustix::io::Errno::BUSY)
}

/// A network interface that is up.
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

/// Whether there are routes through an interface, which is so once it has an address.
fn has_address(system: &System, card: &str) -> bool {
    let four = system.text("proc/net/route").unwrap_or_default();
    let six = system.text("proc/net/if_inet6").unwrap_or_default();
    four.lines().any(|line| line.split_whitespace().next() == Some(card))
        || six.lines().any(|line| line.split_whitespace().last() == Some(card))
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn a_path_leads_to_its_disk() {
        assert_eq!(head("nvme0c3n1"), "nvme0n1");
        assert_eq!(head("nvme0n1"), "nvme0n1");
        assert_eq!(head("sda"), "sda");
    }
}
