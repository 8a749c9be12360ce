//! What read-outs share: tables, and colours where a terminal wants them.

use super::Failure;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Why printing ended early.
pub enum Stop {
    /// Nobody reads any more (`stanch incidents events | head`): no failure.
    Unread,
    /// The command failed.
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Unread,
            _ => Stop::Failed(Failure::Fault(format!("cannot write the output: {error}"))),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// Prints to standard output, buffered. A reader that goes away ends it quietly.
pub fn print(write: impl FnOnce(&mut dyn Write) -> Result<(), Stop>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) | Err(Stop::Unread) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Text of others (an application's words, a tampered log) on one line and without control
/// characters, so that it cannot steer a terminal.
pub fn clean(text: &str) -> String {
    let clean = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(clean).collect()
}

/// A colour of the terminal's own palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Lost, broken.
    Red,
    /// Look at it.
    Yellow,
    /// All is well.
    Green,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or the terminal is
    /// `dumb`.
    pub fn of_stdout() -> Paint {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Paint(
            io::stdout().is_terminal()
                && set("NO_COLOR").is_none()
                && set("TERM").is_some_and(|term| term != "dumb"),
        )
    }

    /// The text in this colour.
    pub fn text(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Green => 32,
            Colour::Bold => 1,
            Colour::Dim => 2,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// One field of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
    right: bool,
}

impl Cell {
    /// A word or a sentence, cleaned.
    pub fn text(text: impl AsRef<str>) -> Cell {
        Cell { text: clean(text.as_ref()), colour: None, right: false }
    }

    /// A figure, aligned to the right; `-` where it is not known.
    pub fn figure(figure: Option<impl ToString>) -> Cell {
        let text = figure.map_or("-".into(), |figure| figure.to_string());
        Cell { text, colour: None, right: true }
    }

    /// The same in a colour.
    pub fn coloured(self, colour: Option<Colour>) -> Cell {
        Cell { colour, ..self }
    }
}

/// Rows under a heading, columns as wide as they need to be. The last column is neither filled nor
/// cut.
#[derive(Clone, Debug)]
pub struct Table {
    heading: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(heading: &'static [&'static str]) -> Table {
        Table { heading, rows: Vec::new() }
    }

    /// Adds a row, a cell a column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Writes it.
    pub fn write(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let mut heading: Vec<Cell> = self
            .heading
            .iter()
            .map(|title| Cell::text(title).coloured(Some(Colour::Bold)))
            .collect();
        for (column, cell) in heading.iter_mut().enumerate() {
            cell.right = self.rows.first().and_then(|row| row.get(column)).is_some_and(|c| c.right);
        }
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        for line in lines() {
            for (column, cell) in line.iter().enumerate() {
                let last = column + 1 == line.len();
                let fill = widths.get(column).unwrap_or(&0) - cell.text.chars().count();
                let text = match cell.colour {
                    Some(colour) => paint.text(colour, &cell.text),
                    None => cell.text.clone(),
                };
                match (cell.right, last) {
                    (true, _) => write!(out, "{:fill$}{text}", "")?,
                    (false, true) => write!(out, "{text}")?,
                    (false, false) => write!(out, "{text}{:fill$}", "")?,
                }
                out.write_all(if last { b"\n" } else { b"  " })?;
            }
        }
        Ok(())
    }
}

/// The text in lines of at most `width` columns, cut between words; a longer word stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// Columns of the names of figures.
const NAMES: usize = 18;

/// A line in bold.
pub fn heading(out: &mut dyn Write, paint: Paint, text: &str) -> Result<(), Stop> {
    Ok(writeln!(out, "{}", paint.text(Colour::Bold, text))?)
}

/// A text in lines of a terminal, set in.
pub fn paragraph(out: &mut dyn Write, text: &str) -> Result<(), Stop> {
    for line in wrap(text, 78) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// A figure with its name; one that is not known was not seen.
pub fn row(out: &mut dyn Write, name: &str, value: Option<String>) -> Result<(), Stop> {
    let value = value.unwrap_or_else(|| "not seen".to_owned());
    for (index, line) in wrap(&value, 78 - NAMES).into_iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        writeln!(out, "  {name:<NAMES$}{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_with_and_without_colours() {
        let mut table = Table::new(&["SLOT", "KIND", "REASON"]);
        table.row(vec![Cell::figure(Some(1)), Cell::text("leak"), Cell::text("grows\x1b[2J\n")]);
        let dim = Cell::text("é").coloured(Some(Colour::Dim));
        table.row(vec![Cell::figure(None::<u32>), dim, Cell::text("a longer one")]);
        let written = |paint| {
            let mut out = Vec::new();
            table.write(&mut out, Paint(paint)).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(false),
            "SLOT  KIND  REASON\n   1  leak  grows\u{fffd}[2J \n   -  é     a longer one\n"
        );
        assert!(written(true).contains("\x1b[2mé\x1b[0m     a"), "{}", written(true));
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("a longword b", 4), ["a", "longword", "b"]);
        assert!(wrap(" ", 4).is_empty());
    }
}
