//! `cargo xtask test`: runs cargo's tests, then the lab's, and prints one line that counts both.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use self::table::{CHECKS, Check, ROWS, Row, When};
use crate::checkout::cargo;
use crate::clients::Client;
use crate::core_module;
use crate::error::{Error, Result};
use crate::guest_programs;
use crate::lab::cache::Cache;
use crate::lab::cdev;
use crate::lab::guest::{Builder, Core};
use crate::lab::kernel::{Kernel, Series};
use crate::lab::process::follow;
use crate::lab::start::Started;
use crate::lab::variant;
use crate::vmm;

mod answers;
mod commands;
mod msrv;
mod table;

/// What to test.
#[derive(Args)]
pub struct Options {
    /// Leave cargo's tests out
    #[arg(long, conflicts_with = "no_lab")]
    no_cargo: bool,
    /// Leave out the tests that boot kernels
    #[arg(long)]
    no_lab: bool,
    /// More kernels (6.1, 6.12 and sid's): downloads and builds more
    #[arg(long)]
    long: bool,
    /// Only lab tests whose name, kernel or core (C, Rust) contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Options {
    fn selects(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|text| title.contains(text.as_str()))
    }
}

/// The numbers of passed and failed tests, and the failures' names.
#[derive(Default, Clone)]
struct Count {
    passed: usize,
    failed: usize,
    /// Names of the failed tests.
    names: Vec<String>,
    /// Names of the tests whose guest was started twice.
    started_twice: Vec<String>,
}

/// The result of a test. The value of a test that passed is its remarks: what it counted, and what
/// it could not test.
type Found = Result<Started<Vec<String>>>;

/// Variables of a row's command, by their names.
pub type Settings = &'static [(&'static str, &'static str)];

/// A row with one of its kernels and one of its cores.
pub struct Case {
    row: &'static Row,
    series: Series,
    core: Core,
    /// What differs from a test's run.
    settings: Settings,
    /// The time limit in seconds.
    seconds: u64,
}

impl Case {
    fn new(row: &'static Row, series: Series, core: Core) -> Self {
        Self { row, series, core, settings: &[], seconds: row.seconds }
    }

    /// Returns what must be built for the case.
    fn needs(&self) -> (Series, Core, bool, bool, Option<Client>) {
        (self.series, self.core, self.row.cdev, self.row.variant, self.row.client)
    }

    fn title(&self) -> String {
        format!("lab {} {:<4} {}", self.series, self.core, self.row.name)
    }
}

/// Runs the tests. The last lines name those that failed and count both.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut count = Count::default();
    if !options.no_cargo {
        count.add(cargo_tests()?);
        count.add(told("the libraries' minimum Rust", msrv::check));
    }
    if !options.no_lab {
        // A failure of the lab's set-up does not hide the other failures.
        count.add(lab_tests(options).unwrap_or_else(|error| told("the lab", || Err(error))));
    }
    if count.passed + count.failed == 0 {
        return Err(Error::other("no test was run: nothing matches what was asked for"));
    }
    count.started_twice.iter().for_each(|name| println!("started twice: {name}"));
    count.names.iter().for_each(|name| println!("FAILED: {name}"));
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Count {
    fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.names.extend(more.names);
        self.started_twice.extend(more.started_twice);
    }
}

/// Runs `cargo test --workspace` and counts its results.
fn cargo_tests() -> Result<Count> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let mut count = Count::default();
    let result = follow(command, "cargo test --workspace", |line| {
        println!("{line}");
        count.add(counted(line));
        count.names.extend(failed_name(line));
    });
    match result {
        Ok(()) => Ok(count),
        // Crates that did not compile are not counted.
        Err(Error::Failed { .. }) if count.failed == 0 => {
            Ok(Count { failed: 1, names: vec!["cargo test --workspace".to_owned()], ..count })
        }
        Err(Error::Failed { .. }) => Ok(count),
        Err(error) => Err(error),
    }
}

/// Parses the numbers in `test result: ok. 3 passed; 0 failed; …`.
fn counted(line: &str) -> Count {
    let Some(result) = line.strip_prefix("test result: ") else {
        return Count::default();
    };
    let number = |what: &str| {
        let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    Count { passed: number(" passed"), failed: number(" failed"), ..Count::default() }
}

/// Parses the name in `test NAME ... FAILED`.
fn failed_name(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.to_owned())
}

/// Returns the cases that `options` selects.
fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for row in ROWS.iter().filter(|row| options.long || row.when == When::Always) {
        for &series in row.kernels {
            cases.extend(row.cores.iter().map(|&core| Case::new(row, series, core)));
        }
    }
    cases.retain(|case| options.selects(&case.title()));
    cases
}

/// Returns the names of the rows that run always and have a kernel and a core.
pub fn rows(series: Series, core: Core) -> impl Iterator<Item = &'static str> {
    let has = move |row: &&Row| row.kernels.contains(&series) && row.cores.contains(&core);
    ROWS.iter().filter(|row| row.when == When::Always).filter(has).map(|row| row.name)
}

/// Runs a row of the table by itself, with other settings and another time limit. Returns the
/// kernel's release and the remarks.
pub fn run_row(
    name: &str,
    series: Series,
    core: Core,
    settings: Settings,
    seconds: u64,
) -> Result<(String, Vec<String>)> {
    let row = ROWS.iter().find(|row| row.name == name);
    let row = row.or_else(|| ROWS.iter().find(|row| row.name.contains(name)));
    let row = row.ok_or_else(|| Error::other(format!("no row is called {name}")))?;
    let cache = Cache::open()?;
    let case = Case { row, series, core, settings, seconds };
    let programs = guest_programs::build_all()?;
    let built = prepare(&cache, &case)?;
    let found = run_case(&cache, &case, &programs, built)?;
    Ok((Kernel::obtain(&cache, series)?.release, found.value))
}

fn lab_tests(options: &Options) -> Result<Count> {
    let cache = Cache::open()?;
    let cases = cases(options);
    let programs = if cases.is_empty() { Vec::new() } else { guest_programs::build_all()? };
    // All slow work is done once, before the guests, so that guests started side by side only read.
    let mut ready: HashMap<_, std::result::Result<Built, String>> = HashMap::new();
    for case in &cases {
        // If a kernel is unavailable, or a module does not build, only its own cases fail.
        let built = || prepare(&cache, case).map_err(|e| e.to_string());
        ready.entry(case.needs()).or_insert_with(built);
    }
    let mut count = side_by_side(&cases, |case| {
        let built = ready.get(&case.needs()).cloned().unwrap_or_else(|| Ok(Built::default()));
        run_case(&cache, case, &programs, built.map_err(Error::Other)?)
    });
    let wanted = |check: &&Check| options.long || check.when == When::Always;
    for check in CHECKS.iter().filter(wanted).filter(|check| options.selects(check.title)) {
        count.add(told(check.title, || (check.check)(&cache, options.long)));
    }
    Ok(count)
}

/// The files that were built for a case.
#[derive(Clone, Default)]
struct Built {
    /// This project's module, if the case uses it.
    module: Option<PathBuf>,
    /// All modules of VFIO, if they are not the kernel's own.
    vfio: Vec<PathBuf>,
    /// The variant driver.
    variant: Option<PathBuf>,
    /// The programs of a client from another project.
    programs: Vec<PathBuf>,
}

/// Gets the kernel and builds the modules that it lacks. Returns the files.
fn prepare(cache: &Cache, case: &Case) -> Result<Built> {
    Kernel::obtain(cache, case.series)?;
    let mut built = Built::default();
    if case.row.cdev {
        built.vfio = cdev::build(cache, case.series, case.core)?;
    } else if case.core == Core::Rust {
        built.module = Some(core_module::build(cache, case.series)?);
    }
    if case.row.variant {
        built.variant = Some(variant::build(cache, case.series)?);
    }
    if let Some(client) = case.row.client {
        built.programs = client.programs(cache, case.series)?;
    }
    Ok(built)
}

/// Runs the cases, as many at once as the machine has processors (a guest keeps one busy).
fn side_by_side(cases: &[Case], run: impl Fn(&Case) -> Found + Sync) -> Count {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Count::default());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let count = told(&case.title(), || run(case));
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(count);
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test and prints how it ended. Returns its count.
fn told(title: &str, test: impl FnOnce() -> Found) -> Count {
    let start = Instant::now();
    let found = test();
    let seconds = start.elapsed().as_secs();
    // One write for each test, so that lines of two tests do not mix.
    match found {
        Ok(Started { value: remarks, twice }) => {
            let remarks: String = remarks.iter().map(|line| format!("    {line}\n")).collect();
            print!("{title} … ok ({seconds} s)\n{remarks}");
            let twice = twice.then(|| title.to_owned());
            Count { passed: 1, started_twice: twice.into_iter().collect(), ..Count::default() }
        }
        Err(why) => {
            println!("{title} … FAILED ({seconds} s)\n{why}");
            Count { failed: 1, names: vec![title.to_owned()], ..Count::default() }
        }
    }
}

fn run_case(cache: &Cache, case: &Case, programs: &[PathBuf], built: Built) -> Found {
    let mut builder = Builder::new(case.series, case.core);
    builder.devices = case.row.devices.to_vec();
    builder.disk = case.row.disk;
    builder.cpus = case.row.cpus;
    builder.module = built.module;
    builder.vfio = built.vfio;
    let variant = built.variant.iter().map(|path| path.display().to_string());
    builder.image.modules_after = variant.collect();
    builder.image.parameters = case.row.parameters.iter().map(|text| (*text).to_owned()).collect();
    builder.append = case.row.append.iter().map(|text| (*text).to_owned()).collect();
    builder.timeout = Duration::from_secs(case.seconds);
    // A guest does not load programs that it does not run.
    let named = |program: &&PathBuf| names(case.row.command, program);
    let all = programs.iter().chain(&built.programs);
    builder.image.put = all.filter(named).cloned().collect();
    if let Some(client) = case.row.client {
        client.equip(&mut builder);
    }
    if case.row.vmm {
        vmm::equip(&mut builder, cache)?;
    }
    let set = |(name, value): &(&str, &str)| format!("export {name}={value}\n");
    let settings: String = case.settings.iter().map(set).collect();
    builder.image.command = format!("exec 2>&1\n{settings}{}\n", case.row.command);
    let outcome = builder.run(cache)?;
    outcome.check(|line| {
        case.row.client.is_some_and(|client| client.provokes(line))
            || case.row.provoked.iter().any(|part| line.contains(part))
    })?;
    Ok(Started { value: remarks(&outcome.output), twice: outcome.started_twice })
}

/// Returns the remarks of the guest's command about a test that passed.
fn remarks(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_prefix("remark: ")).map(str::to_owned).collect()
}

/// Returns true if a line for the shell has a program's name as a word.
fn names(command: &str, program: &Path) -> bool {
    let mut words = command.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    program.file_name().is_some_and(|name| words.any(|word| name == word))
}

#[cfg(test)]
mod tests {
    use super::{Case, Core, Error, ROWS, Series, Started};
    use super::{counted, failed_name, names, remarks, side_by_side};
    use std::path::Path;

    #[test]
    fn a_program_is_known_by_its_whole_name() {
        let command = "vfio-irq-conformance cases; x=$(vfio-irq list)";
        assert!(names(command, Path::new("/a/vfio-irq")));
        assert!(names(command, Path::new("/a/vfio-irq-conformance")));
        assert!(!names(command, Path::new("/a/vfio-irq-client")));
        assert!(!names("vfio-irq-conformance cases", Path::new("/a/vfio-irq")));
    }

    #[test]
    fn cargos_own_count_is_read() {
        let count =
            counted("test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((count.passed, count.failed), (12, 3));
        assert_eq!(counted("running 3 tests").passed, 0);
        let failed = failed_name("test queue::is_full ... FAILED");
        assert_eq!(failed.as_deref(), Some("queue::is_full"));
        assert_eq!(failed_name("test queue::is_full ... ok"), None);
    }

    #[test]
    fn what_was_not_tested_is_said() {
        let output = "ok\nremark: not applicable: x y\nno remark: z\n";
        assert_eq!(remarks(output), ["not applicable: x y"]);
    }

    #[test]
    fn what_failed_and_what_was_started_twice_is_counted_and_named() {
        let case = |core| Case::new(&ROWS[0], Series::V7_3, core);
        let cases = [case(Core::C), case(Core::Rust)];
        let count = side_by_side(&cases, |case| match case.core {
            Core::C => Ok(Started { value: Vec::new(), twice: true }),
            Core::Rust => Err(Error::other("why")),
        });
        assert_eq!((count.passed, count.failed), (1, 1));
        assert_eq!(count.names, [cases[1].title()]);
        assert_eq!(count.started_twice, [cases[0].title()]);
    }
}
