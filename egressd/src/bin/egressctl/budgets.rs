//! `egressctl budgets`: what agents and rules may use up, and have.

use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::control::{
    Client,
    protocol::{AgentBudgets, BudgetState, BudgetsRequest, Used},
};
use std::{
    io::{self, Write, stdout},
    process::ExitCode,
};

/// Show what agents and rules may use up, and how much is left
///
/// Of an agent and of each rule with `max_bytes`, `max_connections`, `rate` or an end. Bytes are those that the
/// agent sent, as payload of TCP and UDP; what was used stays used for as long as the agent runs.
///
/// Exit codes: 0 shown, 2 it could not be.
#[derive(Debug, clap::Args)]
pub struct Budgets {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl Budgets {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let budgets = client.budgets(&BudgetsRequest { agent: self.agent })?;
        let mut out = stdout().lock();
        match format {
            Format::Json => budgets.iter().try_for_each(|agent| json(&mut out, agent))?,
            Format::Text if budgets.is_empty() => writeln!(out, "no agent runs")?,
            Format::Text => {
                let colour = Colour::of(&stdout());
                budgets.iter().try_for_each(|agent| print(&mut out, colour, agent))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(
    out: &mut impl Write,
    colour: Colour,
    AgentBudgets { agent, budgets }: &AgentBudgets,
) -> io::Result<()> {
    writeln!(out, "{}", colour.heading(&sanitise(agent)))?;
    if budgets.is_empty() {
        return writeln!(out, "  nothing is bounded");
    }
    let rows: Vec<_> = budgets.iter().flat_map(|budget| rows(budget, colour)).collect();
    let mut columns = Columns::new([""; 5]);
    rows.iter().for_each(|row| columns.fit(row));
    rows.iter().try_for_each(|row| writeln!(out, "  {}", columns.line(row)))
}

/// What is left, as a part of an explanation.
pub fn explained(budgets: &[BudgetState]) -> Vec<String> {
    let told = |budget: &BudgetState| {
        let whose = if budget.rule.is_some() { "this rule" } else { "all flows of the agent" };
        let line = |[_, amount, left]: [Cell; 3]| match left.text() {
            "" => format!("{} (of {whose})", amount.text()),
            left => format!("{}, {left} (of {whose})", amount.text()),
        };
        lines(budget, Colour::Off).into_iter().map(line).collect::<Vec<_>>()
    };
    let told: Vec<String> = budgets.iter().flat_map(told).collect();
    if told.is_empty() { vec!["nothing is bounded".to_owned()] } else { told }
}

/// A line for each bound of a budget.
fn rows(budget: &BudgetState, colour: Colour) -> Vec<[Cell; 5]> {
    let mut told = lines(budget, colour).into_iter();
    let first = told.next().map(|[bar, amount, left]| {
        let subject = budget.subject.as_deref().unwrap_or("all flows");
        [Cell::plain(subject), Cell::plain(budget.rule.as_deref().unwrap_or_default()), bar, amount, left]
    });
    let rest = told.map(|[bar, amount, left]| [Cell::plain(""), Cell::plain(""), bar, amount, left]);
    first.into_iter().chain(rest).collect()
}

/// Of each bound: what is used as a bar and in numbers, and what is left.
fn lines(budget: &BudgetState, colour: Colour) -> Vec<[Cell; 3]> {
    let BudgetState { bytes, connections, rate, ends_in, .. } = budget;
    let plain = |amount: String| [Cell::plain(""), Cell::plain(&amount), Cell::plain("")];
    let count = |count| format!("{count} connections");
    let mut lines = Vec::new();
    lines.extend(bound(bytes, size, size, colour));
    lines.extend(bound(connections, |used| used.to_string(), count, colour));
    if let Some(rate) = rate {
        lines.push(plain(format!("{} connections so far, {rate} at most", connections.used)));
    }
    if let Some(seconds) = ends_in {
        lines.push(plain(format!("{} so far, ends in {}", size(bytes.used), duration(*seconds))));
    }
    lines
}

/// None where there is no bound.
fn bound(
    used: &Used,
    number: impl Fn(u64) -> String,
    amount: impl Fn(u64) -> String,
    colour: Colour,
) -> Option<[Cell; 3]> {
    let Used { used, most: Some(most), left: Some(left) } = *used else { return None };
    let filled = filled(used, most);
    let bar = format!("[{}{}]", "#".repeat(filled), "-".repeat(WIDTH - filled));
    let paint = |text: &str| match filled {
        0..5 => colour.allowed(text),
        5..8 => colour.warned(text),
        _ => colour.denied(text),
    };
    let numbers = format!("{} of {}", number(used), amount(most));
    Some([Cell::painted(&bar, paint), Cell::plain(&numbers), Cell::plain(&format!("{} left", number(left)))])
}

/// Marks of a bar: the first stands for anything at all, the last for all of it.
fn filled(used: u64, most: u64) -> usize {
    let tenths = (u128::from(used) * WIDTH as u128).checked_div(u128::from(most)).unwrap_or(WIDTH as u128);
    usize::try_from(tenths).unwrap_or(WIDTH).clamp(usize::from(used > 0), WIDTH)
}

/// Marks of a full bar.
const WIDTH: usize = 10;

/// By the thousand, as policy files have it, to a tenth.
pub fn size(octets: u64) -> String {
    let unit = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match unit.into_iter().find(|(_, unit)| octets >= *unit) {
        Some((word, unit)) if octets % unit < unit / 10 => format!("{} {word}", octets / unit),
        Some((word, unit)) => format!("{}.{} {word}", octets / unit, octets % unit * 10 / unit),
        None => format!("{octets} B"),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_only_where_nothing_is_used_and_full_only_where_all_is() {
        let cases = [(0, 100, 0), (1, 100, 1), (50, 100, 5), (99, 100, 9), (100, 100, 10), (7, 0, 10)];
        for (used, most, marks) in cases {
            assert_eq!(filled(used, most), marks, "{used} of {most}");
        }
        assert_eq!(filled(u64::MAX, u64::MAX), WIDTH);
    }

    #[test]
    fn sizes_are_told_by_the_thousand() {
        let sizes = [0, 999, 1000, 1550, 10_000_000, 10_123_456, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1 kB", "1.5 kB", "10 MB", "10.1 MB", "18446744073.7 GB"]);
    }
}
