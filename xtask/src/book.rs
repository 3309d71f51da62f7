//! `cargo xtask book`: makes the book from docs/, and reads the commands of its quick starts, which
//! tests run as they stand there.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::checkout::{cargo, checkout};
use crate::error::{Error, Result, all_right};
use crate::lab::cache::Cache;
use crate::lab::process::{Step, capture, follow};
use crate::lab::start::Started;

/// The version of mdBook. Debian's has neither its scripts nor its fonts.
const MDBOOK: &str = "0.5.4";

/// Makes the book. Returns the path of its first page.
pub fn build(cache: &Cache) -> Result<PathBuf> {
    let made = cache.obtain("mdbook", MDBOOK, |dir| {
        let _step = Step::start("Building mdBook (two minutes)", None);
        let mut cargo = cargo();
        // A directory outside of the checkout, whose settings of cargo are not for this.
        cargo.current_dir(dir).args(["install", "mdbook", "--locked", "--version", MDBOOK]);
        cargo.args(["--no-default-features", "--features", "search", "--root"]).arg(dir);
        capture(cargo, "building mdBook with cargo")?;
        Ok(vec![format!("mdbook {MDBOOK}")])
    })?;
    let mut mdbook = Command::new(made.path().join("bin/mdbook"));
    mdbook.arg("build").arg(checkout().join("docs"));
    let mut complaints = Vec::new();
    follow(mdbook, "making the book with mdbook", |line| {
        if line.contains("WARN") || line.contains("ERROR") {
            complaints.push(line.to_owned());
        }
    })?;
    all_right(complaints)?;
    Ok(checkout().join("target/book/index.html"))
}

/// Makes the book, all of whose links must lead somewhere.
pub fn check(cache: &Cache) -> Result<Started<Vec<String>>> {
    let first = build(cache)?;
    let dir = first.parent().unwrap_or(Path::new("."));
    let mut broken = Vec::new();
    let mut pages = 0;
    for page in fs::read_dir(dir)?.flatten().map(|entry| entry.path()) {
        if page.extension().is_some_and(|end| end == "html") {
            pages += 1;
            let text = fs::read_to_string(&page)?;
            let lost = links(&text).filter(|link| !dir.join(link).exists());
            broken.extend(lost.map(|link| format!("{} leads to {link}", page.display())));
        }
    }
    all_right(broken)?;
    Ok(Started { value: vec![format!("{pages} pages")], twice: false })
}

/// Returns the files of this book to which a page has links.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let parts = page.split(r#"href=""#).skip(1).chain(page.split(r#"src=""#).skip(1));
    let targets = parts.filter_map(|part| part.split('"').next()?.split('#').next());
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Returns the commands of the quick starts' block `name`: a code block with the words `sh,NAME`.
pub fn commands(name: &str) -> Result<String> {
    let mut found = Vec::new();
    for page in fs::read_dir(checkout().join("docs"))?.flatten().map(|entry| entry.path()) {
        if page.extension().is_some_and(|end| end == "md") {
            found.extend(block(&fs::read_to_string(&page)?, name));
        }
    }
    match <[String; 1]>::try_from(found) {
        Ok([block]) => Ok(block),
        Err(found) => Err(Error::other(format!(
            "docs/ has {} code blocks `sh,{name}`, and one is needed",
            found.len()
        ))),
    }
}

fn block(page: &str, name: &str) -> Option<String> {
    let start = format!("```sh,{name}\n");
    let (_, rest) = page.split_once(&start)?;
    Some(rest.split_once("```")?.0.to_owned())
}

/// Replaces each `{{NAME}}` of a script by the commands of that block.
pub fn expand(script: &str) -> Result<String> {
    let mut parts = script.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part
            .split_once("}}")
            .ok_or_else(|| Error::other(format!("a script has {{{{ without }}}}: {part}")))?;
        text += &commands(name)?;
        text += rest;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{block, expand, links};

    #[test]
    fn the_commands_of_a_block_are_those_between_the_fences() {
        let page = "a\n```sh\nb\n```\n```sh,run\nc \\\n  d\ne\n```\n```sh,run2\nf\n```\n";
        assert_eq!(block(page, "run").as_deref(), Some("c \\\n  d\ne\n"));
        assert_eq!(block(page, "ru"), None);
        assert!(expand("x {{no-such-block}}").is_err());
        assert!(expand("{{qemu-bind}}").unwrap().contains("modprobe vfio-pci\n"));
    }

    #[test]
    fn links_to_other_books_do_not_count() {
        let page = r##"<a href="a.html#b"> <a href="#c"> <a href="https://d"> <img src="e.svg">"##;
        assert_eq!(links(page).collect::<Vec<_>>(), ["a.html", "e.svg"]);
    }
}
