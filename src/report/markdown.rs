//! A report as Markdown (CommonMark with GitHub's tables and task lists).

use super::{Block, Document};
use std::fmt::Write;

/// Sets the report.
pub fn markdown(document: &Document) -> String {
    let mut out = format!("# {}\n", plain(&document.title));
    for section in &document.sections {
        let _ = write!(out, "\n## {}\n", section.title);
        for block in &section.blocks {
            out.push('\n');
            set(&mut out, block);
        }
    }
    out
}

fn set(out: &mut String, block: &Block) {
    match block {
        Block::Text(text) => line(out, &plain(text)),
        Block::Facts(facts) => {
            for (name, value) in facts {
                line(out, &format!("- **{name}:** {}", plain(value)));
            }
        }
        Block::List(items) => {
            items.iter().for_each(|item| line(out, &format!("- {}", plain(item))))
        }
        Block::Tasks(tasks) => {
            for (done, task) in tasks {
                let mark = if *done { 'x' } else { ' ' };
                line(out, &format!("- [{mark}] {}", plain(task)));
            }
        }
        Block::Table(header, rows) => {
            line(out, &format!("| {} |", header.join(" | ")));
            line(out, &format!("|{}", " --- |".repeat(header.len())));
            for row in rows {
                let cells: Vec<String> = row.iter().map(|cell| plain(cell)).collect();
                line(out, &format!("| {} |", cells.join(" | ")));
            }
        }
        Block::Chart { title, lines, .. } => {
            line(out, &format!("{}:\n\n```text", plain(title)));
            lines.iter().for_each(|text| line(out, &text.replace('`', "'")));
            line(out, "```");
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Text of others on one line, with what Markdown would take for its own escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {}
            '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '|' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
