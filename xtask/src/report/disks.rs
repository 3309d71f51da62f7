//! The disk of `vfio-irq serve nvme` beside QEMU's own NVMe, in one guest.

use std::collections::BTreeMap;

use fs_err::File;
use serde_json::Value;

use super::Part;
use crate::emulated::guest::Guest;
use crate::emulated::server::Server;
use crate::error::{Error, Result};
use crate::guest_programs;
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::image::Image;
use crate::lab::kernel::Series;
use crate::lab::run_dir::RunDir;
use crate::lab::{program, root};

const GUEST: &str = include_str!("disks.sh");

/// Bytes of each disk.
const DISK: u64 = 64 << 20;

/// The guest's memory, which the server maps, and QEMU's own NVMe.
const OPTIONS: [&str; 11] = [
    "-m",
    "1G",
    "-object",
    "memory-backend-memfd,id=mem,size=1G,share=on",
    "-machine",
    "memory-backend=mem",
    "-no-reboot",
    "-drive",
    "file=/lab/run/disk1,if=none,id=own,format=raw,cache=writeback",
    "-device",
    "nvme,serial=own,drive=own,max_ioqpairs=64,msix_qsize=65",
];

/// What fio found in each round: operations a second, and the median latency in nanoseconds.
type Rounds = BTreeMap<(String, String), Vec<(f64, f64)>>;

/// Boots the guest and measures both disks in turn.
pub fn measure(cache: &Cache) -> Result<Vec<Part>> {
    let dir = RunDir::create(cache)?;
    let [served, own] = ["disk0", "disk1"].map(|name| dir.path().join(name));
    for disk in [&served, &own] {
        File::create(disk)?.set_len(DISK)?;
    }
    let server = Server::start(&guest_programs::build_command()?, dir.path(), &served)?;
    let fio = root::Kind::Fio.obtain(cache)?;
    let image = Image {
        modules: vec!["nvme".to_owned()],
        command: format!("exec 2>&1\n{GUEST}"),
        files: program::files(&fio.path().join("usr/bin/fio"), fio.path())?,
        ..Image::default()
    };
    let mut guest = Guest::start(cache, Series::V7_3, &dir, &image, &OPTIONS)?;
    let mut rounds = Rounds::new();
    while let Some(line) = guest.line()? {
        let Some((disk, json)) = line.strip_prefix("fio ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let (job, figures) = figures(json)
            .ok_or_else(|| Error::other(format!("fio printed another format: {json}")))?;
        rounds.entry((job, disk.to_owned())).or_default().push(figures);
    }
    guest.finish()?;
    server.stop()?;
    for disk in [&served, &own] {
        remove_tree(disk)?;
    }
    table(&rounds)
}

/// Reads the name of fio's job, its operations a second, and its median latency.
fn figures(json: &str) -> Option<(String, (f64, f64))> {
    let value: Value = serde_json::from_str(json).ok()?;
    let job = value["jobs"].get(0)?;
    let of = |kind: &str| {
        let iops = job[kind]["iops"].as_f64().filter(|iops| *iops > 0.0)?;
        Some((iops, job[kind]["clat_ns"]["percentile"]["50.000000"].as_f64()?))
    };
    Some((job["jobname"].as_str()?.to_owned(), of("read").or_else(|| of("write"))?))
}

fn table(rounds: &Rounds) -> Result<Vec<Part>> {
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let of = |job: &str, disk: &str| {
        let found = rounds.get(&(job.to_owned(), disk.to_owned())).cloned().unwrap_or_default();
        let (iops, latency): (Vec<f64>, Vec<f64>) = found.into_iter().unzip();
        (median(iops), median(latency) / 1000.0)
    };
    let jobs: Vec<&String> =
        rounds.keys().filter(|(_, disk)| disk == "own").map(|(job, _)| job).collect();
    if jobs.is_empty() {
        return Err(Error::other("the guest measured nothing"));
    }
    let row = |job: &String| {
        let ((own, slow), (served, fast)) = (of(job, "own"), of(job, "served"));
        let share = if own > 0.0 { format!("{:.2}", served / own) } else { String::new() };
        vec![
            job.clone(),
            format!("{own:.0}"),
            format!("{served:.0}"),
            share,
            format!("{slow:.0}"),
            format!("{fast:.0}"),
        ]
    };
    let columns = [
        "job",
        "QEMU's NVMe, operations/s",
        "vfio-irq's",
        "ratio",
        "QEMU's, median µs",
        "vfio-irq's",
    ];
    let columns = columns.map(str::to_owned).to_vec();
    Ok(vec![Part::Table { columns, rows: jobs.into_iter().map(row).collect() }])
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn fios_figures_are_read() {
        let json = r#"{"jobs": [{"jobname": "a b", "read": {"iops": 0.0},
            "write": {"iops": 12.5, "clat_ns": {"percentile": {"50.000000": 300}}}}]}"#;
        assert_eq!(figures(json), Some(("a b".to_owned(), (12.5, 300.0))));
        assert_eq!(figures("{}"), None);
    }
}
