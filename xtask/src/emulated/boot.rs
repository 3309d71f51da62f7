//! One boot of the guest: the reports and counts of both sides.

use std::collections::BTreeMap;

use super::guest::{Guest, SHARED_MEMORY};
use super::server::{COUNTED, Server, Signals};
use super::{AREA, READS};
use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::image::Image;
use crate::lab::kernel::Series;
use crate::lab::run_dir::RunDir;
use crate::lab::start::{Started, at_most_twice};
use crate::lab::{program, root};

/// Runs in the guest.
const GUEST: &str = include_str!("guest.sh");

/// The guest's lines by their first word, and the server's counts.
pub struct Boot {
    /// The output of the guest's script.
    pub output: String,
    /// The server's counts for the whole boot.
    pub signals: Signals,
    /// The server's counts at each of the guest's marks.
    pub marks: BTreeMap<String, Signals>,
    /// QEMU's trace of MSI-X.
    pub trace: String,
    /// The log of the guest's kernel.
    pub log: String,
}

/// An interrupt as the guest saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The NVMe queue of the interrupt; 0 is the admin queue.
    pub queue: u32,
    /// The MSI-X vector.
    pub vector: u32,
    /// The number of interrupts.
    pub count: u64,
}

impl Boot {
    /// Returns the lines that begin with `word`, without the word.
    pub fn lines(&self, word: &str) -> Vec<&str> {
        let rest = |line| -> Option<&str> { str::strip_prefix(line, word)?.strip_prefix(' ') };
        self.output.lines().filter_map(rest).collect()
    }

    /// Returns the guest's view of each interrupt, from the lines that begin with `word`.
    pub fn interrupts(&self, word: &str) -> Vec<Seen> {
        let line = |line: &&str| {
            let mut words = line.split_whitespace();
            let queue = words.next()?.parse().ok()?;
            let vector = words.next()?.parse().ok()?;
            Some(Seen { queue, vector, count: words.next()?.parse().ok()? })
        };
        self.lines(word).iter().filter_map(line).collect()
    }
}

/// Boots the guest with the server's disk, twice if it does not reach its first program. `step`
/// says which boot it is. Returns the boot.
pub fn boot(
    cache: &Cache,
    series: Series,
    dir: &RunDir,
    server: &Server,
    step: &str,
) -> Result<Started<Boot>> {
    at_most_twice(|| {
        let before = server.said().len();
        let options = [&SHARED_MEMORY[..], &TRACES].concat();
        let mut guest = Guest::start(cache, series, dir, &image(cache, step)?, &options)?;
        let mut marks = BTreeMap::new();
        while let Some(line) = guest.line()? {
            if let Some(mark) = line.strip_prefix("mark ") {
                // The guest waits for the answer, so that no interrupt arrives meanwhile.
                marks.insert(mark.trim().to_owned(), server.counts()?);
                guest.answer()?;
            }
        }
        let output = guest.said.join("\n");
        let report = guest.finish()?;
        let signals = signals(&server.said_of_client(before));
        Ok(Boot { output, signals, marks, trace: report.errors, log: report.log })
    })
}

fn image(cache: &Cache, step: &str) -> Result<Image> {
    let cli = root::Kind::NvmeCli.obtain(cache)?;
    let set = |name: &str, value: String| (name.to_owned(), value);
    Ok(Image {
        modules: ["nvme", "ext4", "loop"].map(str::to_owned).to_vec(),
        command: format!("exec 2>&1\n{GUEST}"),
        files: program::files(&cli.path().join("usr/sbin/nvme"), cli.path())?,
        variables: vec![
            set("STEP", step.to_owned()),
            set("AREA", AREA.to_string()),
            set("READS", READS.to_string()),
        ],
        ..Image::default()
    })
}

/// Parses the server's line about a client that has left: `… interrupts 0:31 1:5012`.
fn signals(said: &str) -> Signals {
    let line = said.lines().rev().find(|line| line.contains(COUNTED));
    let list = line.and_then(|line| line.split_once("; interrupts")).map_or("", |(_, list)| list);
    let pair = |word: &str| {
        let (vector, count) = word.split_once(':')?;
        Some((vector.parse().ok()?, count.parse().ok()?))
    };
    list.split_whitespace().filter_map(pair).collect()
}

/// QEMU's traces of MSI-X.
const TRACES: [&str; 4] = ["-trace", "vfio_msix_early_setup", "-trace", "vfio_msix_vector_do_use"];

#[cfg(test)]
mod tests {
    use super::signals;

    #[test]
    fn the_servers_counts_are_read() {
        let said = "INFO x: this client: 3 reads of 8 blocks; interrupts 0:31 1:5012\nINFO y\n";
        let counts = signals(said);
        assert_eq!(counts.get(&0), Some(&31));
        assert_eq!(counts.get(&1), Some(&5012));
        assert!(signals("").is_empty());
    }
}
