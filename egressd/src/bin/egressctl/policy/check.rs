//! `egressctl policy check`: whether files are policies, and what is odd about them.

use super::source::load_each;
use crate::output::{Colour, Format, json, sanitise};
use egressd::authoring::{Finding, Lint, Severity, lint};
use std::{
    io::{self, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Check policy files: their syntax, what they mean, and what is hardly meant
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Check {
    /// Policy files, allowlists, or folders with such
    #[arg(value_name = "FILE", required_unless_present = "lints")]
    files: Vec<PathBuf>,

    /// Exit with 1 from this severity on
    #[arg(long, value_name = "SEVERITY", default_value = "warning", value_parser = severity())]
    deny: Severity,

    /// Say nothing of this; may be given several times
    #[arg(long, value_name = "LINT", value_parser = lints())]
    allow: Vec<Lint>,

    /// List what is looked for
    #[arg(long)]
    lints: bool,
}

const EXIT_CODES: &str = "Exit codes:
  0  nothing was found, or nothing as severe as `--deny` says
  1  something was
  2  the files do not compile, or could not be read";

impl Check {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        if self.lints {
            list(&mut stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = jiff::Timestamp::now();
        let mut found: Vec<Finding> =
            load_each(&self.files)?.iter().flat_map(|policies| lint(policies, now)).collect();
        found.retain(|finding| !self.allow.contains(&finding.lint));
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &found)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &found)?,
        }
        let is_severe = found.iter().any(|finding| finding.severity >= self.deny);
        Ok(if is_severe { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(out: &mut impl Write, colour: Colour, found: &[Finding]) -> io::Result<()> {
    for Finding { severity, lint, place, text, help } in found {
        let word = match severity {
            Severity::Warning => colour.warned(severity.as_str()),
            Severity::Note => colour.hint(severity.as_str()),
        };
        writeln!(out, "{}: {word}: {} [{lint}]", sanitise(&place.to_string()), sanitise(text))?;
        writeln!(out, "  help: {}", sanitise(help))?;
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Warning), count(Severity::Note)) {
        (0, 0) => writeln!(out, "nothing was found"),
        (warnings, notes) => writeln!(out, "{warnings} warning(s), {notes} note(s)"),
    }
}

fn list(out: &mut impl Write) -> io::Result<()> {
    for lint in Lint::ALL {
        writeln!(out, "{:<20} {:<8} {}", lint.as_str(), lint.severity().as_str(), lint.explanation())?;
    }
    Ok(())
}

fn severity() -> impl clap::builder::TypedValueParser<Value = Severity> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(Severity::ALL.map(Severity::as_str)).try_map(|word| {
        Severity::ALL.into_iter().find(|known| known.as_str() == word).ok_or("unknown severity")
    })
}

fn lints() -> impl clap::builder::TypedValueParser<Value = Lint> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(Lint::ALL.iter().map(|lint| lint.as_str()))
        .try_map(|word| Lint::ALL.iter().copied().find(|known| known.as_str() == word).ok_or("unknown lint"))
}
