//! Finds the users of a disk: file systems, swap space, RAIDs and mapped devices, programs.

use super::System;
use crate::error::{Error, Obstacle};
use rustix::fs::{Mode, OFlags, open};
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Finds everything that would break if these disks were removed.
pub fn of_disks<'d>(system: &System, disks: impl Iterator<Item = &'d str>) -> Vec<Obstacle> {
    let disks: BTreeSet<String> = disks.map(head).collect();
    let mut found = Vec::new();
    for disk in &disks {
        block(system, disk, disk, &mut BTreeSet::new(), &mut found);
    }
    found
}

/// Finds everything that would break if another program wrote to this file or block device.
///
/// # Errors
///
/// If the file does not exist.
pub fn of_file(system: &System, path: &Path) -> Result<Vec<Obstacle>, Error> {
    let failed = |error| Error::file("open", path, &error);
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let meta = std::fs::metadata(&path).map_err(failed)?;
    let mut found = Vec::new();
    if let Some(process) = locked(&path) {
        let text = path.display();
        found.push(Obstacle {
            what: format!("{text} is in use by {process}, which has locked it"),
            remedy: format!("end that program first (fuser -v {text} names it)"),
            forceable: false,
        });
    }
    let Some(name) = block_name(system, &path, &meta) else {
        file(system, &path, &mut found);
        return Ok(found);
    };
    block(system, &name, &name, &mut BTreeSet::new(), &mut found);
    if let Some(disk) = disk_of_part(system, &name) {
        own(system, &disk, &disk, &mut found);
    }
    Ok(found)
}

/// Formats the use of each disk: `nvme0n1 at /, swap`.
pub fn uses<'d>(system: &System, disks: impl Iterator<Item = &'d str>) -> Vec<String> {
    let disks: BTreeSet<String> = disks.map(head).collect();
    let words = |disk: &String| {
        let (mut places, mut seen) = (Vec::new(), BTreeSet::new());
        let mut rest = vec![disk.clone()];
        while let Some(name) = rest.pop().filter(|name| seen.insert(name.clone())) {
            let at = Path::new("sys/class/block").join(&name);
            places.extend(mounts(system, &name, system.text(at.join("dev")).as_deref()));
            places.extend(is_swap(system, &name).then(|| "swap".to_owned()));
            let is_part = |part: &String| system.has(at.join(part).join("partition"));
            rest.extend(system.names(&at).into_iter().filter(is_part));
            rest.extend(system.names(at.join("holders")));
        }
        places.sort_unstable();
        places.dedup();
        if places.is_empty() { disk.clone() } else { format!("{disk} at {}", places.join(", ")) }
    };
    disks.iter().map(words).collect()
}

/// Returns the name of a block device; `None` for another file.
fn block_name(system: &System, path: &Path, meta: &Metadata) -> Option<String> {
    if meta.file_type().is_block_device() {
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        return super::link(&system.path(format!("sys/dev/block/{major}:{minor}")));
    }
    // A system made of files has regular files in place of block devices.
    let name = path.strip_prefix(system.path("dev")).ok().filter(|_| !system.is_real())?;
    let name = name.to_str().filter(|name| system.has(Path::new("sys/class/block").join(name)))?;
    Some(name.to_owned())
}

/// Returns the disk of a partition.
fn disk_of_part(system: &System, name: &str) -> Option<String> {
    let at = Path::new("sys/class/block").join(name);
    let at = std::fs::canonicalize(system.path(at)).ok()?;
    at.join("partition").exists().then(|| at.parent()?.file_name()?.to_str().map(str::to_owned))?
}

/// Checks whether a file is swap space, or behind a loop device.
fn file(system: &System, path: &Path, found: &mut Vec<Obstacle>) {
    let text = path.display();
    let mut obstacle = |what: String, remedy: String| {
        found.push(Obstacle { what, remedy, forceable: false });
    };
    if swaps(system).iter().any(|swap| Path::new(swap) == path) {
        obstacle(format!("{text} is swap space"), format!("swapoff {text}"));
    }
    for name in system.names("sys/class/block") {
        let file = Path::new("sys/class/block").join(&name).join("loop/backing_file");
        let backing = system.text(file).map(PathBuf::from);
        if backing.and_then(|backing| std::fs::canonicalize(backing).ok()).as_deref() != Some(path)
        {
            continue;
        }
        let what = format!("the block device {name} is made from {text}");
        obstacle(what, format!("losetup -d /dev/{name}"));
        let mut above = Vec::new();
        block(system, &name, &name, &mut BTreeSet::new(), &mut above);
        above.into_iter().for_each(|user| obstacle(user.what, user.remedy));
    }
}

/// Returns the holder of a lock on a file (fcntl), as QEMU takes on its images. flock locks are not
/// visible here.
fn locked(path: &Path) -> Option<String> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::empty()).ok()?;
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
    Some(match lock.pid {
        Some(pid) => format!("process {pid}"),
        None => "another program".to_owned(),
    })
}

/// Returns the disk in use: an NVMe path (`nvme0c1n1`) is one of several to the disk `nvme0n1`.
fn head(name: &str) -> String {
    let path = name.strip_prefix("nvme").and_then(|rest| {
        let (subsystem, rest) = rest.split_once('c')?;
        let (_, namespace) = rest.split_once('n')?;
        Some(format!("nvme{subsystem}n{namespace}"))
    });
    path.unwrap_or_else(|| name.to_owned())
}

/// Checks a disk, its partitions, and the devices built on them.
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
    let at = Path::new("sys/class/block").join(name);
    own(system, disk, name, found);
    let holders = system.names(at.join("holders"));
    holders.iter().for_each(|holder| block(system, disk, holder, seen, found));
    for part in system.names(&at) {
        if system.has(at.join(&part).join("partition")) {
            block(system, disk, &part, seen, found);
        }
    }
}

/// Checks a block device itself.
fn own(system: &System, disk: &str, name: &str, found: &mut Vec<Obstacle>) {
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
}

/// Returns where a block device is mounted.
fn mounts(system: &System, name: &str, number: Option<&str>) -> Vec<String> {
    let text = system.text("proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(2);
        let device = front.next()?;
        let place = front.nth(1)?;
        // A file system over several disks has its own device number; its source names one of the
        // disks.
        let source = back.split(' ').nth(1)?;
        let it = Some(device) == number || source.strip_prefix("/dev/") == Some(name);
        it.then(|| place.replace("\\040", " "))
    };
    text.lines().filter_map(place).collect()
}

fn is_swap(system: &System, name: &str) -> bool {
    swaps(system).iter().any(|file| file.strip_prefix("/dev/") == Some(name))
}

/// Returns the files and block devices that are swap space.
fn swaps(system: &System) -> Vec<String> {
    let text = system.text("proc/swaps").unwrap_or_default();
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.map(|name| name.replace("\\040", " ")).collect()
}

/// Returns true if a block device is open with O_EXCL, as file systems open it.
fn is_claimed(system: &System, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = open(system.path(format!("dev/{name}")), flags, Mode::empty());
    opened.err() == Some(rustix::io::Errno::BUSY)
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
