//! `egressctl policy diff`: what two policies decide differently.

use super::source::Loaded;
use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::authoring::{Change, Difference, diff};
use std::{
    io::{self, Write, stdout},
    process::ExitCode,
};

/// Say what becomes allowed or denied between two policies, by meaning
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Diff {
    /// Policy file, folder with such, or `REVISION:PATH` of the git repository that we are in (`HEAD:./x` from here)
    #[arg(value_name = "OLD")]
    old: String,

    /// The same
    #[arg(value_name = "NEW")]
    new: String,
}

const EXIT_CODES: &str = "Exit codes:
  0  both mean the same
  1  they differ
  2  one does not compile, or could not be read";

impl Diff {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        let (old, new) = (Loaded::of(&self.old)?, Loaded::of(&self.new)?);
        let rename = |rule: String| new.place(&old.place(&rule));
        let found: Vec<Difference> = diff(&old.policies, &new.policies, jiff::Timestamp::now())
            .into_iter()
            .map(|line| Difference { rule: line.rule.map(rename), ..line })
            .collect();
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &found)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &found)?,
        }
        Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(out: &mut impl Write, colour: Colour, found: &[Difference]) -> io::Result<()> {
    if found.is_empty() {
        return writeln!(out, "they mean the same");
    }
    for of_agent in found.chunk_by(|one, other| one.agent == other.agent) {
        if let Some(first) = of_agent.first() {
            writeln!(out, "{}", colour.heading(&format!("agent {}", sanitise(&first.agent))))?;
        }
        let rows: Vec<[Cell; 3]> = of_agent.iter().map(|line| row(colour, line)).collect();
        let mut columns = Columns::new(["", "", ""]);
        rows.iter().for_each(|row| columns.fit(row));
        for (line, row) in of_agent.iter().zip(&rows) {
            writeln!(out, "  {}", columns.line(row))?;
            for term in &line.terms {
                writeln!(out, "      {}", sanitise(term))?;
            }
        }
    }
    let count = |change| found.iter().filter(|line| line.change == change).count();
    let [allowed, denied, changed] = [Change::Allowed, Change::Denied, Change::Changed].map(count);
    writeln!(out, "{allowed} allowed, {denied} denied, {changed} changed")
}

fn row(colour: Colour, line: &Difference) -> [Cell; 3] {
    let what = format!("{} {}", line.change.sign(), line.place);
    let paint = |text: &str| match line.change {
        Change::Allowed => colour.allowed(text),
        Change::Denied => colour.denied(text),
        Change::Changed => colour.warned(text),
    };
    let openings = line.openings.iter().map(|(port, protocol)| format!("{port}/{protocol}"));
    let openings: Vec<String> = openings.collect();
    let rule = line.rule.as_deref().unwrap_or_default();
    [Cell::painted(&what, paint), Cell::plain(&openings.join(" ")), Cell::plain(rule)]
}
