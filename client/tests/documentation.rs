//! Every public item has an example. That the examples compile and run is what `cargo test --doc`
//! shows; here is that there are any.
//!
//! The scanner reads sources line by line as rustfmt leaves them, which is enough to see what is public:
//! items that begin with `pub `, what is in a public trait, and what is re-exported from other crates.

use std::path::{Path, PathBuf};

/// A public item.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Item {
    file: PathBuf,
    line: usize,
    text: String,
    example: bool,
}

/// Words after `pub` that name what is declared.
const KINDS: [&str; 9] =
    ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro"];
/// Words between `pub` and the kind.
const QUALIFIERS: [&str; 4] = ["const", "async", "unsafe", "extern"];
/// What a fence may say so that its code is compiled.
const COMPILED: [&str; 5] = ["", "rust", "no_run", "should_panic", "compile_fail"];

/// Whether documentation has code that is compiled.
fn has_example<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let (mut inside, mut compiled) = (false, false);
    for line in lines.map(str::trim) {
        if let Some(words) = line.strip_prefix("```") {
            inside = !inside;
            compiled = inside && words.split(',').all(|word| COMPILED.contains(&word.trim()));
        } else if compiled && !line.is_empty() && !line.starts_with('#') {
            return true;
        }
    }
    false
}

/// Whether a line declares something, after `pub ` or in a trait.
fn declares(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '"');
    let mut words = words.filter(|word| !word.is_empty() && !word.starts_with('"')).peekable();
    while let Some(word) = words.next() {
        let more =
            words.peek().is_some_and(|next| KINDS.contains(next) || QUALIFIERS.contains(next));
        match word {
            _ if QUALIFIERS.contains(&word) && more => {}
            _ => return KINDS.contains(&word),
        }
    }
    false
}

/// The public items of one file. `inner` says whether the module of a name has an example of its own.
fn scan(file: &Path, source: &str, inner: impl Fn(&str) -> bool) -> Vec<Item> {
    let (mut items, mut docs) = (Vec::new(), Vec::new());
    let mut of_trait = None;
    let mut attribute = false;
    for (at, whole) in source.lines().enumerate() {
        let (indent, line) = (whole.len() - whole.trim_start().len(), whole.trim());
        if attribute || line.starts_with("#[") {
            // One of several lines ends where rustfmt puts the bracket.
            attribute = !line.ends_with(']') && !line.contains("] //");
            continue;
        }
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc);
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if of_trait.is_some_and(|of| of == indent) && line.starts_with('}') {
            of_trait = None;
        }
        let public = line.strip_prefix("pub ");
        let member = of_trait.is_some_and(|of| indent == of + 4).then_some(line);
        let example = has_example(docs.drain(..));
        let found = match public.or(member) {
            Some(rest) if declares(rest) => Some(example),
            Some(rest) => match rest.split_once(' ') {
                Some(("mod", name)) => {
                    Some(example || inner(name.trim_end_matches([';', '{', ' '])))
                }
                Some(("use", path)) => (!is_local(path, source)).then_some(example),
                _ => None,
            },
            None => None,
        };
        let words = ["trait ", "unsafe trait "];
        let opens = |rest: &str| words.iter().any(|word| rest.starts_with(word));
        if public.is_some_and(opens) && !line.ends_with('}') {
            of_trait = Some(indent);
        }
        if let Some(example) = found {
            items.push(Item { file: file.into(), line: at + 1, text: line.into(), example });
        }
    }
    items
}

/// Whether what is re-exported is documented where it is declared: in a module of this crate.
fn is_local(path: &str, source: &str) -> bool {
    let first = path.split("::").next().unwrap_or(path);
    let declared = |line: &str| {
        let line = line.trim();
        line.strip_prefix("pub ").unwrap_or(line) == format!("mod {first};")
    };
    ["crate", "self", "super"].contains(&first) || source.lines().any(declared)
}

/// The crate's files with their texts.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

/// All public items of files with these texts.
fn all(files: &[(PathBuf, String)]) -> Vec<Item> {
    let inner = |of: &Path, name: &str| {
        let folder = of.parent().unwrap();
        let own = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        let text = files.iter().find(|(path, _)| own.contains(path)).map(|(_, text)| text);
        text.is_some_and(|text| {
            has_example(text.lines().filter_map(|line| line.strip_prefix("//!")))
        })
    };
    files.iter().flat_map(|(path, text)| scan(path, text, |name| inner(path, name))).collect()
}

#[test]
fn every_public_item_has_an_example() {
    let bare = all(&sources()).into_iter().filter(|item| !item.example);
    let bare: Vec<_> = bare
        .map(|Item { file, line, text, .. }| format!("{}:{line}: {text}", file.display()))
        .collect();
    assert!(bare.is_empty(), "public, and without an example that compiles:\n{}", bare.join("\n"));
}

/// The same sources with their fences taken away: each item must be missed.
#[test]
fn without_its_example_every_item_is_missed() {
    let whole = sources();
    let bare: Vec<_> = whole
        .iter()
        .map(|(path, text)| {
            (path.clone(), text.replace("//! ```", "//!").replace("/// ```", "///"))
        })
        .collect();
    let (whole, bare) = (all(&whole), all(&bare));
    assert_eq!(whole.len(), bare.len());
    // Were the scanner blind for functions or for what traits have, far fewer would be left.
    assert!(whole.len() > 120, "only {} public items were seen", whole.len());
    assert_eq!(bare.iter().find(|item| item.example), None);
}

#[test]
fn the_scanner_sees_what_is_public() {
    let source = r#"
mod inside;
pub mod told;
pub mod silent;
pub use inside::Local;
pub use other::Foreign;

/// ```
/// shown();
/// ```
#[derive(Debug)]
pub struct Shown;

/// Nothing.
#[cfg(any(
    feature = "a",
))]
pub struct Bare {
    /// A field is shown with its structure.
    pub field: u32,
}

/// ```text
/// not code
/// ```
pub(crate) fn private() {}

/// ```ignore
/// not_compiled();
/// ```
pub const unsafe fn ignored() {}

/// ```
/// # hidden_alone();
/// ```
pub const LIMIT: u32 = 1;

/// ```no_run
/// compiled();
/// ```
pub unsafe trait Kept {
    /// Bare.
    fn member(&self) {
        fn local() {}
    }

    /// ```
    /// shown();
    /// ```
    fn other(&self);
}

pub trait Empty {}

impl Shown {
    fn private(&self) {} // in no trait
}
"#;
    let items = scan(Path::new("x.rs"), source, |name| name == "told");
    let seen: Vec<_> = items.iter().map(|item| (item.text.as_str(), item.example)).collect();
    assert_eq!(
        seen,
        [
            ("pub mod told;", true),
            ("pub mod silent;", false),
            ("pub use other::Foreign;", false),
            ("pub struct Shown;", true),
            ("pub struct Bare {", false),
            ("pub const unsafe fn ignored() {}", false),
            ("pub const LIMIT: u32 = 1;", false),
            ("pub unsafe trait Kept {", true),
            ("fn member(&self) {", false),
            ("fn other(&self);", true),
            ("pub trait Empty {}", false),
        ]
    );
    assert_eq!(items[4].line, 18);
}
