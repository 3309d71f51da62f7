//! Writes docs/command.md, the book's chapter on the command: its contents are those of the manual
//! pages.

use super::pages;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write;

const TITLE: &str = "# The command\n\nMade from the command's own help and manual pages \
(`UPDATE_DOCS=1 cargo test -p vfio-irq-cli`). [json.md](json.md) has the fields of `--json`.\n";

/// Returns the page.
fn markdown() -> String {
    let mut command = crate::Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut text = TITLE.to_owned();
    terms(&mut text, "## Exit status", "status", pages::STATUS);
    terms(&mut text, "## Environment", "variable", pages::ENVIRONMENT);
    text += "\n## Options of every command\n";
    let global = |arg: &&Arg| arg.is_global_set();
    options(&mut text, command.get_arguments().filter(global));
    for part in command.get_subcommands() {
        section(&mut text, part, &format!("vfio-irq {}", part.get_name()));
    }
    text
}

fn section(text: &mut String, command: &Command, name: &str) {
    if command.is_hide_set() {
        return;
    }
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(text, "\n## `{name}`\n\n{}.\n\n```text\n{usage}\n```\n", about.trim_end_matches('.'))
        .expect("a string takes all");
    let own = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help";
    options(text, command.get_arguments().filter(own));
    let extra = pages::of(&name.replace(' ', "-"));
    terms(text, "### Columns", "column", extra.columns);
    terms(text, "### Files", "file", extra.files.iter().copied());
    terms(text, "### Examples", "command", extra.examples.iter().copied());
    for part in command.get_subcommands() {
        section(text, part, &format!("{name} {}", part.get_name()));
    }
}

fn options<'a>(text: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let shown = args.filter(|arg| !arg.is_hide_set()).map(|arg| {
        let help = arg.get_long_help().or(arg.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        let values: Vec<_> = values.collect();
        if !values.is_empty() && arg.get_action().takes_values() {
            help += &format!(" (default: {})", values.join(", "));
        }
        (arg.to_string(), help)
    });
    terms(text, "", "option", shown);
}

/// Writes a table of terms and their meanings; nothing without terms.
fn terms<T: Into<String>>(
    text: &mut String,
    title: &str,
    what: &str,
    terms: impl IntoIterator<Item = (T, T)>,
) {
    let mut terms = terms.into_iter().peekable();
    if terms.peek().is_none() {
        return;
    }
    if !title.is_empty() {
        *text += &format!("\n{title}\n");
    }
    *text += &format!("\n| {what} | meaning |\n|---|---|\n");
    for (term, meaning) in terms {
        let cell = |text: T| {
            let text: String = text.into();
            text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        *text += &format!("| `{}` | {} |\n", cell(term), cell(meaning));
    }
}

/// `UPDATE_DOCS=1 cargo test -p vfio-irq-cli` writes the page.
#[test]
fn the_page_is_what_the_manual_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command.md");
    let made = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == made, "UPDATE_DOCS=1 writes docs/command.md anew");
}
