//! Every public item of every library of the workspace has an example. That the examples compile and
//! run is what `cargo test --doc` shows; here is that there are any.
//!
//! The scanner reads sources line by line as rustfmt leaves them, which is enough to see what is public:
//! items that begin with `pub `, what is in a public trait, and what is re-exported from other crates.
//! Constants that come in sets (error numbers, flags, sizes of structures) are shown by one example, on
//! the type or the module that they are in.

use std::path::{Path, PathBuf};

/// Libraries that nobody links but this workspace's own tests and tools.
const TOOLS: [&str; 1] = ["conformance"];

/// Files with items that have no example yet. Whoever finishes one takes it off the list.
const UNFINISHED: &[&str] = &[];

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
    let of_file = has_example(source.lines().filter_map(|line| line.strip_prefix("//!")));
    let mut of_trait = None;
    let mut attribute = false;
    // What the lines at hand are in: a type's methods, or a module.
    let mut home = "";
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
        if indent == 0 {
            home = home_of(line);
        }
        let public = line.strip_prefix("pub ");
        let member = of_trait.is_some_and(|of| indent == of + 4).then_some(line);
        let example = has_example(docs.drain(..));
        let found = match public.or(member) {
            Some(rest) if is_constant(rest) => {
                let inside = |indent| indent > 0 && !home.is_empty();
                Some(example || if inside(indent) { shows(source, home) } else { of_file })
            }
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

/// Whether a declaration is of a constant.
fn is_constant(rest: &str) -> bool {
    rest.strip_prefix("const ")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// The type or the module that a line at the margin opens; nothing when it opens neither.
fn home_of(line: &str) -> &str {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let name = match (line.strip_prefix("mod "), line.strip_prefix("impl")) {
        (Some(name), _) => name,
        (None, Some(rest)) if rest.starts_with('<') => {
            rest.split_once("> ").map_or("", |(_, name)| name)
        }
        (None, Some(rest)) => rest.trim_start(),
        (None, None) => "",
    };
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

/// Whether the public type or module of this name has an example.
fn shows(source: &str, name: &str) -> bool {
    let mut docs = Vec::new();
    for line in source.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc);
        } else if let Some(rest) = line.strip_prefix("pub ") {
            let mut words = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
            let kind = words.next().is_some_and(|kind| ["struct", "enum", "mod"].contains(&kind));
            if kind && words.next() == Some(name) {
                return has_example(docs.into_iter());
            }
            docs.clear();
        } else if !line.starts_with('#') && !line.starts_with("//") {
            docs.clear();
        }
    }
    false
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

/// The folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Folders of the libraries that others link, as the workspace lists its members.
fn libraries() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("\nmembers = [").expect("the workspace has members");
    let (members, _) = members.split_once(']').expect("the list of members ends");
    let members = members.split(',').map(|member| member.trim().trim_matches('"'));
    let library = |member: &&str| root().join(member).join("src/lib.rs").exists();
    let members = members.filter(|member| !member.is_empty() && !TOOLS.contains(member));
    members.filter(library).map(str::to_owned).collect()
}

/// The files of these folders with their texts.
fn sources(libraries: &[String]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = libraries.iter().map(|of| root().join(of).join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
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
    let bare = all(&sources(&libraries())).into_iter().filter(|item| !item.example);
    let unfinished = |item: &Item| UNFINISHED.iter().any(|file| item.file == Path::new(file));
    let (later, bare): (Vec<_>, Vec<_>) = bare.partition(unfinished);
    println!("{} public items of {} files have no example yet", later.len(), UNFINISHED.len());
    let bare: Vec<_> = bare
        .iter()
        .map(|Item { file, line, text, .. }| format!("{}:{line}: {text}", file.display()))
        .collect();
    assert!(bare.is_empty(), "public, and without an example that compiles:\n{}", bare.join("\n"));
    for file in UNFINISHED {
        let left = later.iter().any(|item| item.file == Path::new(file));
        assert!(left, "{file} is finished: take it off the list");
    }
}

#[test]
fn every_library_is_looked_at() {
    let libraries = libraries();
    for known in ["client", "vfio-user", "nvme", "engine"] {
        assert!(libraries.iter().any(|library| library == known), "{known} in {libraries:?}");
        let seen = all(&sources(&[known.to_owned()])).len();
        // A quarter of what there was when this was written.
        assert!(seen > 20, "only {seen} public items of {known} were seen");
    }
}

/// The same sources with their fences taken away: each item must be missed.
#[test]
fn without_its_example_every_item_is_missed() {
    let whole = sources(&libraries());
    let bare: Vec<_> = whole
        .iter()
        .map(|(path, text)| {
            (path.clone(), text.replace("//! ```", "//!").replace("/// ```", "///"))
        })
        .collect();
    let (whole, bare) = (all(&whole), all(&bare));
    assert_eq!(whole.len(), bare.len());
    // Were the scanner blind for functions or for what traits have, far fewer would be left.
    assert!(whole.len() > 400, "only {} public items were seen", whole.len());
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
    pub const OF_SHOWN: u32 = 1;
    pub const fn number() -> u32 {}
    fn private(&self) {} // in no trait
}

impl<'a> Bare<'a> {
    pub const OF_BARE: u32 = 1;
}

/// ```
/// SET;
/// ```
pub mod numbers {
    /// One of them.
    pub const SET: u32 = 1;
}

pub const ALONE: u32 = 1;
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
            ("pub const OF_SHOWN: u32 = 1;", true),
            ("pub const fn number() -> u32 {}", false),
            ("pub const OF_BARE: u32 = 1;", false),
            ("pub mod numbers {", true),
            ("pub const SET: u32 = 1;", true),
            ("pub const ALONE: u32 = 1;", false),
        ]
    );
    assert_eq!(items[4].line, 18);
    // Constants that are not in a type have the module's own example.
    let of_module = format!("//! ```\n//! ALONE;\n//! ```\n{source}");
    let items = scan(Path::new("x.rs"), &of_module, |_| false);
    assert!(items.iter().any(|item| item.text.contains("ALONE") && item.example));
    assert!(items.iter().any(|item| item.text.contains("OF_BARE") && !item.example));
}
