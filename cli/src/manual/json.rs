//! Describes the JSON documents, from the types that are printed.

use crate::{bench, bind, conform, counts, demo, error, info, list, watch};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

/// A field of a document.
pub struct Field {
    /// The path: `functions[].bdf`.
    pub path: String,
    /// The type: `string or null`.
    pub kind: String,
    /// The meaning.
    pub text: String,
}

/// A document and its fields.
pub struct Document {
    /// The commands that print the document.
    pub commands: &'static [&'static str],
    /// The title.
    pub title: &'static str,
    /// The fields of the document, in order.
    pub fields: Vec<Field>,
}

/// The fields at the start of every document.
pub const COMMON: &str = "Every document, every line of `watch` and every event of `serve` is an object with \
`schema`, the number of this description (1), and `time`, the system's clock in UTC as RFC 3339 writes it. If \
a change breaks readers, `schema` is incremented; new fields do not increment it. Names are those of \
VFIO_DEVICE_SET_IRQS and of the command line: `msix`, `retargets`, `release-all`. Counts are numbers. \
Identifiers in hexadecimal (`bdf`, `id`) are strings. `null` means unknown.";

/// The events that `serve --json` prints.
pub const EVENTS: [(&str, &str); 4] = [
    ("level", "`info`, `warn`, `error`, `debug` or `trace`."),
    (
        "event",
        "The event as a sentence. The first is `an NVMe controller waits for its client`, with `path`, `serial`, `bytes`, `queues`, `qemu` (arguments for QEMU) and `watch` (a command). `a client has come` and `the client is gone` have `path` and `pid`, `stopping` has `signal`, and `in all` has `path` and the controller's counts.",
    ),
    ("lost", "Number of events before this one that could not be written."),
    ("…", "Other fields of the event. Counts are numbers."),
];

/// Describes all documents.
pub fn documents() -> Vec<Document> {
    vec![
        document::<list::Document>(&["list"], "One object"),
        document::<info::Document>(&["info"], "One object"),
        document::<bind::Document<'_>>(&["bind", "unbind"], "One object"),
        document::<watch::Snapshot>(&["watch"], "One object on a line for each reading"),
        document::<counts::Counts>(
            &["PATH.counts"],
            "Each connection to the socket beside a served one reads one object on a line",
        ),
        document::<bench::Document>(&["bench"], "One object"),
        document::<conform::Document>(&["conform"], "One object"),
        document::<demo::Document<'_>>(&["demo"], "One object"),
        document::<error::Error>(
            &["a failure"],
            "Every command prints a failure on standard error, as one object on a line",
        ),
    ]
}

fn document<T: JsonSchema>(commands: &'static [&'static str], title: &'static str) -> Document {
    let schema: Schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    let root = schema.as_value();
    let mut fields = Vec::new();
    walk(root, root, "", &mut fields);
    Document { commands, title, fields }
}

/// Resolves a reference.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let target = schema["$ref"].as_str().and_then(|at| root.pointer(at.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// Returns the alternatives without `null`.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let all = ["anyOf", "oneOf"].into_iter().filter_map(|name| schema[name].as_array());
    all.flatten().filter(|one| one["type"] != "null")
}

fn walk(root: &Value, schema: &Value, path: &str, fields: &mut Vec<Field>) {
    let schema = resolved(root, schema);
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    for (name, property) in properties {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let target = resolved(root, property);
        let described = [property, target].into_iter().find_map(|at| at["description"].as_str());
        let missing = if required(name) { "" } else { ", or missing" };
        let known = fields.iter_mut().find(|known| known.path == below);
        // The tag of alternatives has a different value in each.
        match (known, property["const"].as_str()) {
            (Some(known), Some(tag)) => known.text += &format!(" or `{tag}`"),
            (Some(_), None) => {}
            (None, tag) => fields.push(Field {
                path: below.clone(),
                kind: kind(root, property) + missing,
                text: tag.map_or_else(|| plain(described), |tag| format!("`{tag}`")),
            }),
        }
        walk(root, property, &below, fields);
    }
    if schema["items"].is_object() {
        walk(root, &schema["items"], &format!("{path}[]"), fields);
    }
    if schema["additionalProperties"].is_object() {
        walk(root, &schema["additionalProperties"], &format!("{path}.NAME"), fields);
    }
    alternatives(schema).for_each(|one| walk(root, one, path, fields));
}

/// Formats a description as one line, in terms of JSON.
fn plain(described: Option<&str>) -> String {
    described.unwrap_or_default().replace('\n', " ").replace("`None`", "`null`")
}

/// Returns the name of a value's type.
fn kind(root: &Value, schema: &Value) -> String {
    let here = resolved(root, schema);
    let mut kinds: Vec<String> = Vec::new();
    let mut add = |kind: String| {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    };
    let plain = |name: &str| match name {
        "array" => format!("array of {}", plural(&kind(root, &here["items"]))),
        "object" if here["additionalProperties"].is_object() => {
            format!("object of {}", plural(&kind(root, &here["additionalProperties"])))
        }
        other => other.to_owned(),
    };
    match &here["type"] {
        Value::String(name) => add(plain(name)),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.filter(|name| *name != "null").for_each(|name| add(plain(name)));
        }
        _ => {}
    }
    alternatives(here).for_each(|one| add(kind(root, one)));
    if here.get("const").is_some() && kinds.is_empty() {
        kinds.push("string".to_owned());
    }
    let is_null = |at: &Value| {
        at["type"] == "null"
            || at["type"].as_array().is_some_and(|all| all.iter().any(|one| one == "null"))
    };
    let any_null = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|name| here[name].as_array())
        .flatten()
        .any(is_null);
    if is_null(here) || any_null {
        kinds.push("null".to_owned());
    }
    kinds.join(" or ")
}

fn plural(kind: &str) -> String {
    match kind.split_once(" or ") {
        Some((one, rest)) => format!("{} or {rest}", plural(one)),
        None => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMON, EVENTS, Field, documents};

    /// Generates docs/json.md.
    fn markdown() -> String {
        let mut text = "# JSON\n\nThe documents that `vfio-irq --json` prints. This page is generated from the printed types:\n`UPDATE_DOCS=1 cargo test -p vfio-irq-cli` writes it. The test compares it with the output of\nthe commands.\n\n".to_owned();
        text += &crate::report::wrapped(COMMON, Some(90), 0);
        for document in documents() {
            let names: Vec<String> =
                document.commands.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let heading = if document.commands == ["a failure"] { "A failure" } else { &names };
            text += &format!(
                "\n## {heading}\n\n{}.\n\n| field | type | meaning |\n|---|---|---|\n",
                document.title
            );
            for Field { path, kind, text: meaning } in document.fields {
                text += &format!("| `{path}` | {kind} | {meaning} |\n");
            }
        }
        text += "\n## `serve`\n\nOne object on a line for each event, on standard output.\n\n| field | meaning |\n|---|---|\n";
        for (name, meaning) in EVENTS {
            text += &format!("| `{name}` | {meaning} |\n");
        }
        text
    }

    /// `UPDATE_DOCS=1 cargo test -p vfio-irq-cli` writes the page.
    #[test]
    fn the_page_is_what_is_printed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md");
        let made = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == made,
            "UPDATE_DOCS=1 writes docs/json.md anew"
        );
        for document in documents() {
            for field in document.fields {
                let names = [field.path.as_str(), field.kind.as_str(), field.text.as_str()];
                assert!(names.iter().all(|name| !name.is_empty()), "{names:?} is not described");
            }
        }
    }
}
