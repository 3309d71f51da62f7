//! `vfio-irq completions`, `vfio-irq man`.

mod json;
#[cfg(test)]
mod markdown;
mod pages;

use crate::complete;
use crate::error::Error;
use crate::report::{print, quoted};
use clap::Command;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::path::PathBuf;

/// The options of `completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// The options of `man`.
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

/// Prints the script for a shell. The shell asks this program at each word, so that it offers the
/// devices of the machine.
pub fn completions(options: &Completions) -> Result<(), Error> {
    // The path of this program as it was called, so that a program outside of PATH is found.
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

/// Makes a page for the command and for each subcommand, by name.
fn pages(command: Command) -> Result<Vec<(String, String)>, Error> {
    let mut pages = Vec::new();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    collect(&command, "vfio-irq", &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, String)>) -> Result<(), Error> {
    let text = page(command, name).map_err(|error| Error::plain(error.to_string()))?;
    pages.push((name.to_owned(), text));
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        collect(part, &format!("{name}-{}", part.get_name()), pages)?;
    }
    Ok(())
}

/// Makes the page of one command.
fn page(command: &Command, name: &str) -> std::io::Result<String> {
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut text)?;
    }
    let extra = pages::of(name);
    terms("COLUMNS", extra.columns).to_writer(&mut text)?;
    json_section(extra.json, name.contains("-serve")).to_writer(&mut text)?;
    examples(extra.examples).to_writer(&mut text)?;
    terms("FILES", extra.files.iter().copied()).to_writer(&mut text)?;
    terms("ENVIRONMENT", pages::ENVIRONMENT).to_writer(&mut text)?;
    terms("EXIT STATUS", pages::STATUS).to_writer(&mut text)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut text)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Makes a section of terms and their meanings; empty without terms.
fn terms<T: Into<String>>(title: &str, terms: impl IntoIterator<Item = (T, T)>) -> Roff {
    let mut terms = terms.into_iter().peekable();
    let mut page = Roff::new();
    if terms.peek().is_some() {
        page.control("SH", [title]);
    }
    for (term, meaning) in terms {
        page.control("TP", []).text([bold(term)]).text([roman(meaning)]);
    }
    page
}

fn examples(examples: &[(&str, &str)]) -> Roff {
    let mut page = Roff::new();
    if !examples.is_empty() {
        page.control("SH", ["EXAMPLES"]);
    }
    for (command, text) in examples {
        page.control("PP", []).text([roman(*text)]);
        page.control("RS", ["4"]).text([bold(*command)]).control("RE", []);
    }
    page
}

/// Describes the JSON documents that a command prints.
fn json_section(commands: &[&str], serves: bool) -> Roff {
    let mut page = Roff::new();
    let documents = json::documents();
    let documents: Vec<_> = documents
        .into_iter()
        .filter(|document| document.commands.iter().any(|command| commands.contains(command)))
        .collect();
    if documents.is_empty() {
        return page;
    }
    let plain = |text: &str| text.replace('`', "\"");
    page.control("SH", ["JSON"]).text([roman(plain(json::COMMON))]);
    if serves {
        page.control("PP", [])
            .text([roman("serve prints one object on a line for each event, on standard output.")]);
        for (name, meaning) in json::EVENTS {
            page.control("TP", []).text([bold(name)]).text([roman(plain(meaning))]);
        }
    }
    for document in documents {
        let title = format!("{} ({}).", document.title, document.commands.join(", "));
        page.control("PP", []).text([roman(plain(&title))]);
        for field in document.fields {
            let kind = format!("{}. ", field.kind);
            page.control("TP", []).text([bold(field.path)]);
            page.text([italic(kind), roman(plain(&field.text))]);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    /// Every page has examples, and each example is a valid command line.
    #[test]
    fn examples_are_commands() {
        for (name, text) in super::pages(crate::Arguments::command()).unwrap() {
            let examples = super::pages::of(&name).examples;
            assert!(!examples.is_empty(), "{name}");
            for (command, _) in examples {
                let words = command.split(' ');
                assert!(crate::Arguments::try_parse_from(words).is_ok(), "{name}: {command}");
            }
            for section in ["EXAMPLES", "FILES", "ENVIRONMENT", "\"EXIT STATUS\""] {
                let begins = format!(".SH {section}\n");
                assert_eq!(text.matches(&begins).count(), 1, "{name}: {section}");
            }
        }
    }
}
