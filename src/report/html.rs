//! A report as one HTML file that needs nothing else: style and pictures are in it, and no script.

use super::{Block, Document};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// Sets the report.
pub fn html(document: &Document) -> String {
    let title = plain(&document.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    for section in &document.sections {
        let _ = write!(out, "<section>\n<h2>{}</h2>\n", section.title);
        section.blocks.iter().for_each(|block| set(&mut out, block));
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn set(out: &mut String, block: &Block) {
    let each = |items: &mut dyn Iterator<Item = String>| items.collect::<String>();
    let _ = match block {
        Block::Text(text) => writeln!(out, "<p>{}</p>", plain(text)),
        Block::Facts(facts) => {
            let row = |(name, value): &(&str, String)| {
                format!("<dt>{name}</dt><dd>{}</dd>\n", plain(value))
            };
            writeln!(out, "<dl>\n{}</dl>", each(&mut facts.iter().map(row)))
        }
        Block::List(items) => {
            let row = |item: &String| format!("<li>{}</li>\n", plain(item));
            writeln!(out, "<ul>\n{}</ul>", each(&mut items.iter().map(row)))
        }
        Block::Tasks(tasks) => {
            let row = |(done, task): &(bool, String)| {
                let mark = if *done { " class=\"done\"" } else { "" };
                format!("<li{mark}>{}</li>\n", plain(task))
            };
            writeln!(out, "<ul class=\"tasks\">\n{}</ul>", each(&mut tasks.iter().map(row)))
        }
        Block::Table(header, rows) => {
            let head = each(&mut header.iter().map(|cell| format!("<th>{cell}</th>")));
            let row = |row: &Vec<String>| {
                let cells = each(&mut row.iter().map(|cell| format!("<td>{}</td>", plain(cell))));
                format!("<tr>{cells}</tr>\n")
            };
            let body = each(&mut rows.iter().map(row));
            writeln!(
                out,
                "<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
            )
        }
        Block::Chart { title, svg, .. } => {
            writeln!(out, "<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>", plain(title))
        }
    };
}

/// Text of others, with what HTML and SVG would take for their own escaped.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
