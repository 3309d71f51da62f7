//! The disk of `vfio-irq serve nvme` beside QEMU's own NVMe, in one guest.

use std::collections::{BTreeMap, BTreeSet};

use fs_err::File;
use serde_json::Value;

use super::Part;
use crate::emulated::guest::{Guest, SHARED_MEMORY};
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

/// QEMU's own NVMe.
const OWN: [&str; 4] = [
    "-drive",
    "file=/lab/run/disk1,if=none,id=own,format=raw,cache=writeback",
    "-device",
    "nvme,serial=own,drive=own,max_ioqpairs=64,msix_qsize=65",
];

/// How often the guest measures each job on each disk.
const ROUNDS: usize = 3;

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
        variables: vec![("ROUNDS".to_owned(), ROUNDS.to_string())],
        files: program::files(&fio.path().join("usr/bin/fio"), fio.path())?,
        ..Image::default()
    };
    let mut guest =
        Guest::start(cache, Series::V7_3, &dir, &image, &[&SHARED_MEMORY[..], &OWN].concat())?;
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
    // The median of three.
    let middle = |mut all: [f64; ROUNDS]| {
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    };
    let of = |job: &str, disk: &str| -> Result<(f64, f64)> {
        let found = rounds.get(&(job.to_owned(), disk.to_owned()));
        let found = found.and_then(|found| <[(f64, f64); ROUNDS]>::try_from(found.as_slice()).ok());
        let found = found.ok_or_else(|| {
            Error::other(format!("{job}, {disk}: not {ROUNDS} rounds were measured"))
        })?;
        Ok((middle(found.map(|round| round.0)), middle(found.map(|round| round.1)) / 1000.0))
    };
    let jobs: BTreeSet<&String> = rounds.keys().map(|(job, _)| job).collect();
    if jobs.is_empty() {
        return Err(Error::other("the guest measured nothing"));
    }
    let row = |job: &String| -> Result<Vec<String>> {
        let ((own, slow), (served, fast)) = (of(job, "own")?, of(job, "served")?);
        let ratio = format!("{:.2}", served / own);
        let numbers = [own, served, slow, fast].map(|number| format!("{number:.0}"));
        let [own, served, slow, fast] = numbers;
        Ok(vec![job.clone(), own, served, ratio, slow, fast])
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
    Ok(vec![Part::Table { columns, rows: jobs.into_iter().map(row).collect::<Result<_>>()? }])
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
