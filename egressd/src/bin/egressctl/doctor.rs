//! `egressctl doctor`: what this kernel and host give.

use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::datapath::probe::{self, Finding, Level, Report, State};
use std::{
    io::{self, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Try what this kernel and host give, and say what is not covered, why, and how to get it
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 agents can be sealed, 1 they cannot, 2 it could not be tried")]
pub struct Doctor {}

impl Doctor {
    pub fn act(&self, format: Format) -> anyhow::Result<ExitCode> {
        let report = probe::examine(&daemon());
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &report)?,
            Format::Text => print(&mut out, Colour::of(&stdout()), &report)?,
        }
        // Sealed is what agents get where nothing else is said, and needs all that the other needs.
        Ok(if report.sealed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

const LEVELS: [(Level, &str); 5] = [
    (Level::Kernel, "Kernel"),
    (Level::Hooks, "Programs on the cgroup of agents"),
    (Level::Network, "Network"),
    (Level::Host, "Around agents"),
    (Level::Proof, "All of it together"),
];

fn print(out: &mut impl Write, colour: Colour, report: &Report) -> io::Result<()> {
    let mut columns = Columns::new(["  degraded", "", "", ""]);
    let rows: Vec<_> = report.findings.iter().map(|finding| (finding, row(finding, colour))).collect();
    for (_, row) in &rows {
        columns.fit(row);
    }
    for (level, title) in LEVELS {
        writeln!(out, "{}", colour.heading(title))?;
        for (finding, row) in rows.iter().filter(|(finding, _)| finding.level == level) {
            writeln!(out, "{}", columns.line(row))?;
            if let Some(remedy) = &finding.remedy {
                writeln!(out, "{:12}{}", "", colour.hint(&format!("-> {}", sanitise(remedy))))?;
            }
        }
    }
    writeln!(out, "{}", colour.heading("Boundaries"))?;
    boundary(out, colour, "sealed", &report.sealed)?;
    boundary(out, colour, "cgroup", &report.cgroup)
}

fn row(finding: &Finding, colour: Colour) -> [Cell; 4] {
    let state = match finding.state {
        State::Ok => Cell::painted("  ok", |text| colour.allowed(text)),
        State::Degraded => Cell::painted("  degraded", |text| colour.hint(text)),
        State::Missing => Cell::painted("  MISSING", |text| colour.denied(text)),
    };
    let protects = Cell::plain(&format!("for {}", finding.protects));
    [state, Cell::plain(&finding.name), protects, Cell::plain(&finding.found)]
}

fn boundary(out: &mut impl Write, colour: Colour, name: &str, in_the_way: &[String]) -> io::Result<()> {
    if in_the_way.is_empty() {
        return writeln!(out, "  {name}  {}", colour.allowed("available"));
    }
    writeln!(out, "  {name}  {}", colour.denied("NOT AVAILABLE"))?;
    in_the_way.iter().try_for_each(|reason| writeln!(out, "{:12}{}", "", sanitise(reason)))
}

/// Ours, else wherever PATH has it.
fn daemon() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("egressd")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("egressd"))
}
