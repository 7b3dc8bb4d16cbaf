//! What goes to the terminal: aligned, coloured where somebody looks, and never obeyed by it.

use anstyle::{AnsiColor, Style};
use egressd::audit::is_unprintable;
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// `text` without anything that a terminal would obey: agents choose what stands in records.
pub fn sanitise(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unprintable(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

/// The same line by line, for texts of several lines, such as diagnostics.
pub fn sanitise_lines(text: &str) -> String {
    text.lines().map(sanitise).collect::<Vec<_>>().join("\n")
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    On,
    Off,
}

impl Colour {
    /// On for a terminal, unless `NO_COLOR` (no-color.org) or `TERM` says otherwise.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb { Self::On } else { Self::Off }
    }

    pub fn denied(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default(), text)
    }

    pub fn allowed(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    pub fn warned(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    pub fn hint(self, text: &str) -> String {
        self.paint(AnsiColor::Cyan.on_default(), text)
    }

    pub fn heading(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn paint(self, style: Style, text: &str) -> String {
        match self {
            // Padding stays outside, lest an underlined heading runs on.
            Self::On if !text.is_empty() => format!("{style}{text}{style:#}"),
            Self::On | Self::Off => text.to_owned(),
        }
    }
}

/// Columns whose widths grow with what was shown, so that lines that come one by one align, too.
#[derive(Debug)]
pub struct Columns<const N: usize> {
    widths: [usize; N],
}

impl<const N: usize> Columns<N> {
    /// Columns that start as wide as `titles`.
    pub fn new(titles: [&str; N]) -> Self {
        Self { widths: titles.map(width) }
    }

    /// Makes the columns wide enough for `row`, as far as [`WIDEST`].
    pub fn fit(&mut self, row: &[Cell; N]) {
        for (column, cell) in self.widths.iter_mut().zip(row) {
            *column = (*column).max(width(&cell.text).min(WIDEST));
        }
    }

    /// `row` as one line without its newline; the last cell is not padded.
    pub fn line(&mut self, row: &[Cell; N]) -> String {
        self.fit(row);
        let mut line = String::new();
        for (index, (cell, column)) in row.iter().zip(self.widths).enumerate() {
            line.push_str(&cell.painted);
            if index + 1 < N {
                let padding = column.saturating_sub(width(&cell.text)) + GUTTER;
                // Writing to a String does not fail.
                let _ = write!(line, "{:padding$}", "");
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// One field of a line: as it is measured, and as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    painted: String,
}

impl Cell {
    pub fn plain(text: &str) -> Self {
        let text = sanitise(text).into_owned();
        Self { painted: text.clone(), text }
    }

    /// As it is measured: without colour.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A cell that `paint` colours.
    pub fn painted(text: &str, paint: impl FnOnce(&str) -> String) -> Self {
        let text = sanitise(text).into_owned();
        Self { painted: paint(&text), text }
    }
}

/// Writes a table with its heading.
pub fn table<const N: usize>(
    out: &mut impl Write,
    colour: Colour,
    titles: [&str; N],
    rows: &[[Cell; N]],
) -> io::Result<()> {
    let mut columns = Columns::new(titles);
    for row in rows {
        columns.fit(row);
    }
    let heading = titles.map(|title| Cell::painted(title, |title| colour.heading(title)));
    for row in std::iter::once(&heading).chain(rows) {
        writeln!(out, "{}", columns.line(row))?;
    }
    Ok(())
}

/// Writes `value` as one line of JSON.
pub fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    out.write_all(&egressd::audit::encode_line(value))
}

/// Says on stderr what went wrong.
pub fn complain(error: &anyhow::Error) {
    let colour = Colour::of(&io::stderr());
    // Where stderr is closed, nobody is left to tell.
    let _ =
        writeln!(io::stderr(), "{} {}", colour.denied("egressctl:"), sanitise_lines(&format!("{error:#}")));
}

/// Whether `error` says that nobody reads our output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A column grows no further; a longer cell pushes the rest of its own line aside.
const WIDEST: usize = 56;
const GUTTER: usize = 2;

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_the_last_is_not_padded() {
        let mut out = Vec::new();
        let row = |name, number| [Cell::plain(name), Cell::plain(number)];
        table(&mut out, Colour::Off, ["NAME", "N"], &[row("a", "1"), row("é-longer", "22")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME      N\na         1\né-longer  22\n");
    }

    #[test]
    fn a_column_remembers_the_widest_cell_that_it_showed() {
        let mut columns = Columns::new(["A", "B"]);
        columns.line(&[Cell::plain("wide"), Cell::plain("")]);
        assert_eq!(columns.line(&[Cell::plain("x"), Cell::plain("y")]), "x     y");
    }

    #[test]
    fn colour_does_not_change_the_alignment() {
        let red = Cell::painted("x", |text| Colour::On.denied(text));
        assert_eq!(Columns::new(["AA", "B"]).line(&[red, Cell::plain("y")]), "\u{1b}[31mx\u{1b}[0m   y");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(sanitise("a\u{1b}[2J\r\n\u{9b}\u{202e}é"), "a\\u{1b}[2J\\r\\n\\u{9b}\\u{202e}é");
        assert_eq!(sanitise_lines("a\n\tb\u{7}"), "a\n\\tb\\u{7}");
    }
}
