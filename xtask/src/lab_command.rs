//! `cargo xtask lab`: one guest from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::error::{Error, Result};
use crate::instructions;
use crate::lab::cache::Cache;
use crate::lab::device;
use crate::lab::guest::{Builder, Core};
use crate::lab::kernel::Series;
use crate::lab::shell::quote;

/// What the lab does besides running one command.
#[derive(Subcommand)]
enum Other {
    /// Count the instructions of each operation with the core in C and the core in Rust, a boot each
    Bench {
        /// The kernel's series
        #[arg(long, value_enum, default_value = "7.3")]
        kernel: Series,
    },
}

/// What a guest on the command line can be told.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// The kernel's series
    #[arg(long, value_enum, default_value = "7.3")]
    kernel: Series,
    /// The vfio-pci-core to load, under Linux's own driver vfio-pci
    #[arg(long, value_enum, default_value = "c")]
    core: Core,
    /// A device to give the guest and hand to vfio-pci; may be repeated.
    /// The guest's VFIO_IRQ_NVME, VFIO_IRQ_EDU, … hold the addresses (a second one: VFIO_IRQ_NVME2)
    #[arg(long = "device", value_enum, value_name = "KIND")]
    devices: Vec<device::Kind>,
    /// Count instructions instead of time, so that runs repeat exactly
    #[arg(long)]
    icount: bool,
    /// Virtual processors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory in MiB (default: 1024, with --root 3072)
    #[arg(long, value_parser = clap::value_parser!(u32).range(256..=65536))]
    memory: Option<u32>,
    /// Run the command in a Debian root (shared read-only, changes forgotten)
    #[arg(long)]
    root: bool,
    /// Give a person a shell in the guest; leave it with `exit`
    #[arg(long, conflicts_with = "command")]
    shell: bool,
    /// Let the guest run KVM guests of its own
    #[arg(long)]
    nested: bool,
    /// Back each NVMe disk with a file of that many MiB (default: a disk that reads as zeroes)
    #[arg(long, value_name = "MIB")]
    disk: Option<u64>,
    /// Stop the guest after that many seconds
    #[arg(long, default_value_t = 300, value_name = "SECS")]
    timeout: u64,
    /// Put an executable into the guest's PATH, with the libraries it is linked with; may be repeated
    #[arg(long, value_name = "FILE")]
    put: Vec<PathBuf>,
    /// Load a module of the kernel (a name) or of your own (a path) once the devices are bound; may be repeated
    #[arg(long = "module", value_name = "MODULE")]
    modules: Vec<String>,
    /// Set a module's parameter, as MODULE.PARAMETER=VALUE (vfio-pci.enable_sriov=1); may be repeated
    #[arg(long = "module-param", value_name = "SETTING")]
    parameters: Vec<String>,
    /// Add to the kernel's command line; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Remove everything the lab keeps in its cache, and do nothing else
    #[arg(long)]
    clean: bool,
    /// The command to run in the guest
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the guest. Returns the exit status of its command.
pub fn run(options: Options) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if let Some(Other::Bench { kernel }) = options.other {
        return instructions::run(&cache, kernel);
    }
    if options.clean {
        let kept = cache.clean()?;
        if !kept.is_empty() {
            return Err(Error::other(format!(
                "in use by another process and not removed: {}",
                kept.join(", ")
            )));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if options.command.is_empty() && !options.shell {
        return Err(Error::other("give a command for the guest after `--`, or --shell"));
    }
    let builder = builder(options);
    let outcome = builder.run(&cache)?;
    eprintln!(
        "lab: kernel's console: {} ({:.1} s)",
        outcome.console.display(),
        outcome.took.as_secs_f32()
    );
    Ok(ExitCode::from(outcome.status))
}

fn builder(options: Options) -> Builder {
    let mut builder = Builder::new(options.kernel, options.core);
    builder.devices = options.devices;
    builder.icount = options.icount;
    builder.cpus = options.cpus;
    builder.memory = options.memory.unwrap_or(if options.root { 3072 } else { 1024 });
    builder.root = options.root;
    builder.nested = options.nested;
    builder.disk = options.disk;
    builder.append = options.append;
    builder.echo = true;
    builder.shell = options.shell;
    // An interactive session may take all day.
    let seconds = if options.shell { 86_400 } else { options.timeout };
    builder.timeout = Duration::from_secs(seconds);
    builder.image.put = options.put;
    builder.image.modules_after = options.modules;
    builder.image.parameters = options.parameters;
    builder.image.command = if options.shell {
        "echo \"devices of $VFIO_IRQ_DRIVER: $BIND (leave with exit)\"; exec sh -i\n".to_owned()
    } else {
        let words: Vec<String> = options.command.iter().map(|word| quote(word)).collect();
        // A single word with spaces is a line for the shell, as with ssh.
        let line =
            if options.command.len() == 1 { options.command[0].clone() } else { words.join(" ") };
        format!("{line}\n")
    };
    builder
}
