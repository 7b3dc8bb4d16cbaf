//! `egressctl leaks`: what agents can have let out through names.

use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::{
    control::{
        Client,
        protocol::{AgentLeaks, ApproveLeaks, LeakLevel, LeaksRequest, ZoneLeaks},
    },
    policy::Pattern,
};
use std::{
    io::{self, Write, stdout},
    process::ExitCode,
};

/// Show what agents can have let out through names, and what looks like a leak
///
/// A name below a wildcard is seen by whoever runs its zone, so every such name is charged, in bits, to
/// a budget of the zone and to one of the agent. What a rule spells out costs nothing.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 also where there are none, 2 it could not be done")]
pub struct Leaks {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    Approve(Approve),
}

/// Lift what flags did to an agent: frozen names, limited rates, quarantine
///
/// What was let out stays counted. Look at the names first: `egressctl tail --all --agent AGENT`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is lifted, 2 it is not")]
struct Approve {
    /// Name of the agent
    #[arg(value_name = "AGENT")]
    agent: String,

    /// Only of this zone or wildcard; its quarantine stays [default: all of it]
    #[arg(value_name = "ZONE")]
    zone: Option<String>,
}

impl Leaks {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        match self.act {
            Some(Act::Approve(approve)) => approve.act(client, format),
            None => {
                let leaks = client.leaks(&LeaksRequest { agent: self.agent })?;
                let mut out = stdout().lock();
                match format {
                    Format::Json => leaks.iter().try_for_each(|agent| json(&mut out, agent))?,
                    Format::Text if leaks.is_empty() => writeln!(out, "no agent runs")?,
                    Format::Text => {
                        let colour = Colour::of(&stdout());
                        leaks.iter().try_for_each(|agent| print(&mut out, colour, agent))?;
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Approve {
    fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { agent, zone } = self;
        let zone = zone.map(|zone| Pattern::parse(&zone)).transpose()?;
        let request = ApproveLeaks { agent, zone: zone.map(|zone| zone.name().to_string()) };
        client.approve_leaks(&request)?;
        let mut out = stdout().lock();
        match (format, &request.zone) {
            (Format::Json, _) => json(&mut out, &request)?,
            (Format::Text, Some(zone)) => writeln!(out, "approved `{zone}` for `{}`", request.agent)?,
            (Format::Text, None) => writeln!(out, "approved `{}`", request.agent)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, colour: Colour, leaks: &AgentLeaks) -> io::Result<()> {
    let agent = sanitise(&leaks.agent);
    match leaks.quarantined {
        true => writeln!(
            out,
            "{}  {}: only names that rules spell out are looked up",
            colour.heading(&agent),
            colour.denied("QUARANTINED")
        )?,
        false => writeln!(out, "{}", colour.heading(&agent))?,
    }
    let total = level_cells("all wildcards", leaks.total, colour, Cell::plain(""), Cell::plain(""));
    let rows: Vec<_> = leaks.accounts.iter().map(|account| (account, row(account, colour))).collect();
    let mut columns = Columns::new([""; 6]);
    rows.iter().map(|(_, row)| row).chain([&total]).for_each(|row| columns.fit(row));
    for (account, row) in &rows {
        writeln!(out, "  {}", columns.line(row))?;
        print_flags(out, colour, account)?;
    }
    writeln!(out, "  {}", columns.line(&total))?;
    for denied in &leaks.denied {
        let zone = sanitise(&denied.zone);
        let looks = if denied.flagged { colour.warned(": they look like a tunnel") } else { String::new() };
        writeln!(out, "  denied, so that nothing left: {} of {zone}{looks}", names(denied.names))?;
    }
    print_advice(out, colour, leaks)
}

fn print_flags(out: &mut impl Write, colour: Colour, account: &ZoneLeaks) -> io::Result<()> {
    for flag in &account.flags {
        let word = colour.warned(&format!("{} {}", sanitise(&flag.id), sanitise(&flag.flag)));
        let (at, action) = (crate::tail::clock(flag.at), sanitise(&flag.action));
        writeln!(out, "    {word} at {at}, {action}: {}", sanitise(&flag.explanation))?;
        writeln!(out, "      {}", sanitise(&flag.evidence))?;
    }
    Ok(())
}

fn print_advice(out: &mut impl Write, colour: Colour, leaks: &AgentLeaks) -> io::Result<()> {
    let agent = &leaks.agent;
    let is_held = |account: &&ZoneLeaks| account.frozen || account.rate_limited;
    let held: Vec<&ZoneLeaks> = leaks.accounts.iter().filter(is_held).collect();
    if held.is_empty() && !leaks.quarantined {
        return Ok(());
    }
    writeln!(out, "  if these names are what the agent is for:")?;
    for account in held {
        let advice = format!("egressctl leaks approve {agent} {}", account.zone);
        writeln!(out, "    {}", colour.hint(&sanitise(&advice)))?;
    }
    if leaks.quarantined {
        writeln!(out, "    {}", colour.hint(&sanitise(&format!("egressctl leaks approve {agent}"))))?;
    }
    writeln!(out, "  a rule that spells a name out costs nothing, and is never held up")
}

fn row(account: &ZoneLeaks, colour: Colour) -> [Cell; 6] {
    let ZoneLeaks { names_this_hour, names_today, .. } = account;
    let this_hour = names(u64::from(*names_this_hour));
    let names = Cell::plain(&format!("{this_hour} this hour, {names_today} today"));
    level_cells(&account.zone, account.level, colour, names, state(account, colour))
}

fn level_cells(name: &str, level: LeakLevel, colour: Colour, names: Cell, state: Cell) -> [Cell; 6] {
    let LeakLevel { used_bits, capacity_bits, hourly_bits } = level;
    [
        Cell::plain(name),
        Cell::painted(&bar(level), |text| match tenths(level) {
            0..5 => colour.allowed(text),
            5..9 => colour.warned(text),
            _ => colour.denied(text),
        }),
        Cell::plain(&format!("{used_bits} of {capacity_bits} bits")),
        Cell::plain(&format!("{hourly_bits}/h back")),
        names,
        state,
    ]
}

fn state(account: &ZoneLeaks, colour: Colour) -> Cell {
    let refused = (account.refused > 0).then(|| format!("{} refused", account.refused));
    let known = names(u64::from(account.known_names));
    let frozen = account.frozen.then(|| format!("FROZEN to {known} seen before"));
    let limited = account.rate_limited.then(|| "RATE LIMITED".to_owned());
    let words: Vec<String> = [frozen, limited, refused].into_iter().flatten().collect();
    Cell::painted(&words.join(", "), |text| colour.denied(text))
}

fn names(number: u64) -> String {
    if number == 1 { "1 name".to_owned() } else { format!("{number} names") }
}

/// What is used up, as a bar: the first mark stands for anything at all, the last for all of it.
fn bar(level: LeakLevel) -> String {
    let filled = tenths(level);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

fn tenths(LeakLevel { used_bits, capacity_bits, .. }: LeakLevel) -> usize {
    let (used, capacity) = (u64::from(used_bits), u64::from(capacity_bits));
    let whole = (used * WIDTH as u64).checked_div(capacity).unwrap_or(WIDTH as u64);
    usize::try_from(whole).unwrap_or(WIDTH).clamp(usize::from(used > 0), WIDTH)
}

/// Marks of a full bar.
const WIDTH: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_only_where_nothing_is_used_and_full_only_where_all_is() {
        for (used, capacity, expected) in [
            (0, 8192, "[----------]"),
            (1, 8192, "[#---------]"),
            (4096, 8192, "[#####-----]"),
            (8191, 8192, "[#########-]"),
            (8192, 8192, "[##########]"),
            (u32::MAX, 1, "[##########]"),
            (0, 0, "[##########]"),
        ] {
            let level = LeakLevel { used_bits: used, capacity_bits: capacity, hourly_bits: 0 };
            assert_eq!(bar(level), expected, "{used} of {capacity}");
        }
    }
}
