//! `vfio-irq completions`, `vfio-irq man`.

use crate::complete;
use crate::error::Error;
use crate::report::{print, quoted};
use clap::Command;
use std::path::PathBuf;

/// For which shell.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Where to.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Man {
    /// Write every page into this directory, which is made if need be
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Print one page instead: vfio-irq, vfio-irq-list, …
    #[arg(value_name = "PAGE")]
    page: Option<String>,
}

/// Prints what a shell reads. The shell asks this program at each word, so that it offers the devices that
/// are there.
pub fn completions(options: &Completions) -> Result<(), Error> {
    // As it was called, so that a program outside of PATH is found.
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|called| called.components().count() > 1);
    let called = called.and_then(|called| std::path::absolute(called).ok());
    let program = called.map_or("vfio-irq".to_owned(), |path| quoted(&path.to_string_lossy()));
    let text = complete::registration(&options.shell.to_string(), &program);
    print(&text.map_err(|error| Error::plain(format!("nothing completes in this shell: {error}")))?)
}

/// Writes all pages, or prints one.
pub fn man(command: Command, options: &Man) -> Result<(), Error> {
    let pages = pages(command)?;
    if let Some(wanted) = &options.page {
        let wanted = wanted.trim_end_matches(".1");
        let Some((_, page)) = pages.iter().find(|(name, _)| name == wanted) else {
            let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
            let remedy = format!("these are: {}", names.join(", "));
            return Err(Error::new(format!("there is no page {wanted}"), remedy));
        };
        return print(page);
    }
    let Some(directory) = &options.out else { return Ok(()) };
    let made = std::fs::create_dir_all(directory);
    made.map_err(|error| Error::file("make", directory, &error))?;
    for (name, page) in pages {
        let file = directory.join(name + ".1");
        std::fs::write(&file, page).map_err(|error| Error::file("write", &file, &error))?;
    }
    Ok(())
}

/// A page for the command and for each of its parts, by name.
fn pages(command: Command) -> Result<Vec<(String, String)>, Error> {
    let mut pages = Vec::new();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    collect(&command, "vfio-irq", &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, String)>) -> Result<(), Error> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    man.render(&mut page).map_err(|error| Error::plain(error.to_string()))?;
    pages.push((name.to_owned(), String::from_utf8_lossy(&page).into_owned()));
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        collect(part, &format!("{name}-{}", part.get_name()), pages)?;
    }
    Ok(())
}
