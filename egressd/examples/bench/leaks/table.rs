//! Aligned columns.

use std::fmt;

/// Rows of texts under a title; numbers are aligned at their ends by the caller's choice.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub title: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// What is said below.
    pub notes: Vec<String>,
}

impl Table {
    pub fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), ..Self::default() }
    }

    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let head: Vec<String> = self.head.iter().map(|&text| text.to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(|text| text.chars().count()).max()
        };
        let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
        for line in lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(text, width)| aligned(text, *width)).collect();
            writeln!(f, "  {}", cells.join("  ").trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

/// Numbers to the right, words to the left.
fn aligned(text: &str, width: usize) -> String {
    if text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(char::is_alphabetic) {
        format!("{text:>width$}")
    } else {
        format!("{text:<width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let mut table = Table::new("streams", &["stream", "octets", "flag"]);
        table.push(["hex".to_owned(), "16".to_owned(), "E2".to_owned()]);
        table.push(["gaps-1m".to_owned(), "4096".to_owned(), "-".to_owned()]);
        let expected = "streams\n  stream   octets  flag\n  hex          16  E2\n  gaps-1m    4096  -\n";
        assert_eq!(table.to_string(), expected);
    }
}
