//! Completes a word of the command line in a shell: with the functions and sockets of the machine.

use crate::pci::{System, users, vfio};
use crate::target::USER;
use clap::CommandFactory;
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// The variable in which a shell that completes names itself.
const VARIABLE: &str = "VFIO_IRQ_COMPLETE";

/// Answers a shell that completes. Returns false if no shell asks.
///
/// # Errors
///
/// If no answer can be made.
pub fn answer() -> clap::error::Result<bool> {
    let shells: &[&dyn EnvCompleter] = &SHELLS;
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(crate::Arguments::command)
        .var(VARIABLE)
        .shells(Shells(shells))
        .try_complete(std::env::args_os(), directory.as_deref())
}

const SHELLS: [&dyn EnvCompleter; 5] = [
    &Bash,
    &clap_complete::env::Elvish,
    &clap_complete::env::Fish,
    &clap_complete::env::Powershell,
    &clap_complete::env::Zsh,
];

/// Returns the script that makes a shell ask this command for completions.
///
/// # Errors
///
/// If the shell is unknown.
pub fn registration(shell: &str, command: &str) -> io::Result<String> {
    let mut text = Vec::new();
    let shells: &[&dyn EnvCompleter] = &SHELLS;
    let shell = Shells(shells).completer(shell).ok_or(io::ErrorKind::Unsupported)?.name();
    let shell = SHELLS.iter().find(|known| known.name() == shell);
    let shell = shell.ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(VARIABLE, "vfio-irq", "vfio-irq", command, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Bash. It splits words at colons, so an address would be five words. Bash's words are not used
/// here.
struct Bash;

const BASH: &str = r#"_vfio_irq() {
    local words line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[-1]}
    mapfile -t COMPREPLY < <(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        VARIABLE=bash COMMAND -- "${words[@]}" 2>/dev/null)
    # Bash replaces what is behind the last colon.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local before=${current%"${current##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
    [[ ${COMPREPLY-} == *[=/:] ]] && compopt -o nospace
    return 0
}
complete -o bashdefault -o nosort -F _vfio_irq BINARY
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        variable: &str,
        _: &str,
        binary: &str,
        command: &str,
        text: &mut dyn io::Write,
    ) -> io::Result<()> {
        let script = BASH.replace("VARIABLE", variable).replace("BINARY", binary);
        text.write_all(script.replace("COMMAND", command).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        text: &mut dyn io::Write,
    ) -> io::Result<()> {
        clap_complete::env::Bash.write_complete(command, words, directory, text)
    }
}

/// Offers PCI functions, by their addresses and by the names of their devices.
pub fn functions(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str() else { return Vec::new() };
    let system = System::at(&crate::root());
    let mut all = Vec::new();
    for function in system.functions().unwrap_or_default() {
        let name = function.name.as_deref().unwrap_or(function.what);
        let driver = function.driver.as_deref().unwrap_or("no driver");
        let help = format!("{name} ({driver})");
        let full = function.bdf.to_string();
        // In the form in which the word was begun: 01:00.0 is short for 0000:01:00.0.
        let short = full
            .strip_prefix("0000:")
            .filter(|short| !begun.is_empty() && short.starts_with(begun));
        let names = users::names(&system, function.bdf);
        let names = names.iter().filter_map(|name| name.split(' ').next()).map(str::to_owned);
        // A name is offered only after it is begun, so that an empty word offers each function
        // once.
        let names = names.filter(|name| !begun.is_empty() && name.starts_with(begun));
        let full = full.starts_with(begun).then(|| full.clone());
        all.extend(
            full.into_iter()
                .chain(short.map(str::to_owned))
                .chain(names)
                .map(|value| CompletionCandidate::new(value).help(Some(help.clone().into()))),
        );
    }
    all
}

/// Offers PCI functions, served sockets, and `sim`.
pub fn targets(begun: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = functions(begun);
    let Some(begun) = begun.to_str() else { return all };
    let system = System::at(&crate::root());
    let sockets = sockets(&system).into_iter().map(|path| format!("{USER}{path}"));
    let sockets = sockets.filter(|name| name.starts_with(begun));
    all.extend(sockets.map(|name| {
        CompletionCandidate::new(name).help(Some("a device that `vfio-irq serve` emulates".into()))
    }));
    if "sim".starts_with(begun) {
        all.push(CompletionCandidate::new("sim").help(Some("a device made up here".into())));
    }
    all
}

/// Offers the VFIO PCI drivers that are loaded.
pub fn drivers(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str() else { return Vec::new() };
    let names = vfio::drivers(&System::at(&crate::root()));
    names.into_iter().filter(|name| name.starts_with(begun)).map(CompletionCandidate::new).collect()
}

/// Finds sockets that have a `.counts` socket beside them, as those of `vfio-irq serve` have.
fn sockets(system: &System) -> Vec<String> {
    let text = system.text("proc/net/unix").unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.split_whitespace().nth(7));
    let all: BTreeSet<&str> = paths.filter(|path| path.starts_with('/')).collect();
    let served = all.iter().filter(|path| all.contains(format!("{path}.counts").as_str()));
    served.map(|path| (*path).to_owned()).collect()
}
