//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Part, Section};
use crate::error::Result;

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}\
h1,h2{font-weight:600}h2{margin-top:2.5em;border-bottom:1px solid #ddd}table{border-collapse:collapse;margin:1em 0}\
th,td{padding:.2em .9em;border-bottom:1px solid #e4e4e4;text-align:right}th:first-child,td:first-child{text-align:left}\
pre,code{background:#f5f5f5}pre{padding:.8em;overflow-x:auto;font-size:14px}svg{max-width:100%;height:auto}\
.about{color:#555}.lost{color:#a00}";

/// Writes the page of all sections, with facts about the machine.
pub fn html(results: &[(&Section, Result<Vec<Part>>)], facts: &[(String, String)]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "vfio-irq: measured" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "vfio-irq: measured" }
                p {
                    "One run of " code { "cargo xtask report" } ". Kernels run in QEMU, which emulates their processors \
                    and devices: instructions are exact, and times are those of emulation."
                }
                table { @for (name, value) in facts { tr { td { (name) } td { (value) } } } }
                @for (section, measured) in results { (part_of_page(section, measured)) }
            }
        }
    };
    page.into_string()
}

fn part_of_page(section: &Section, measured: &Result<Vec<Part>>) -> Markup {
    html! {
        h2 { (section.title) }
        p.about { (section.about) }
        pre { "$ " (section.command) }
        @match measured {
            Ok(parts) => @for part in parts { (shown(part)) },
            Err(error) => p.lost { "Not measured: " (error) },
        }
    }
}

fn shown(part: &Part) -> Markup {
    match part {
        Part::Table { columns, rows } => html! {
            table {
                tr { @for column in columns { th { (column) } } }
                @for row in rows { tr { @for cell in row { td { (cell) } } } }
            }
        },
        Part::Picture(svg) => PreEscaped(svg.clone()),
        Part::Output(text) => html! { pre { (text) } },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Part, SECTIONS};
    use super::html;
    use crate::error::Error;

    #[test]
    fn a_page_shows_what_was_measured_and_says_what_was_not() {
        let table = Part::Table { columns: vec!["a".into()], rows: vec![vec!["<1>".into()]] };
        let results =
            [(&SECTIONS[0], Ok(vec![table])), (&SECTIONS[1], Err(Error::other("no & device")))];
        let page = html(&results, &[("kernel".into(), "7.3".into())]);
        for part in
            ["<td>&lt;1&gt;</td>", "Not measured: no &amp; device", "$ cargo xtask lab bench"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
