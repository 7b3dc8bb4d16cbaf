//! `egressctl grants`: what people allowed for a time.

use crate::{
    output::{Cell, Colour, Format, json, table},
    tail::{clock, operator},
};
use egressd::{
    audit::Time,
    control::{
        Client,
        protocol::{GrantsRequest, HumanGrant},
    },
};
use std::{
    io::{Write, stdout},
    process::ExitCode,
    time::Duration,
};

/// List what people allowed agents for a time
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 also where there are none, 2 it could not be asked")]
pub struct Grants {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl Grants {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let grants = client.grants(&GrantsRequest { agent: self.agent })?;
        let mut out = stdout().lock();
        match format {
            Format::Json => grants.iter().try_for_each(|grant| json(&mut out, grant))?,
            Format::Text if grants.is_empty() => writeln!(out, "nothing is allowed beside the policies")?,
            Format::Text => {
                let now = Time::now();
                let rows: Vec<_> = grants.iter().map(|grant| row(grant, now)).collect();
                table(&mut out, Colour::of(&stdout()), TITLES, &rows)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const TITLES: [&str; 8] = ["ID", "AGENT", "DESTINATION", "PROTOCOL", "LEFT", "BOUNDS", "BY", "REASON"];

fn row(grant: &HumanGrant, now: Time) -> [Cell; 8] {
    let since = format!("{} at {}", operator(&grant.by), clock(grant.since));
    let bounds: Vec<String> = bounds(grant).collect();
    let bounds = if bounds.is_empty() { "-".to_owned() } else { bounds.join(", ") };
    [
        Cell::plain(&grant.id.to_string()),
        Cell::plain(&grant.agent),
        Cell::plain(&destination(grant)),
        Cell::plain(&grant.protocol),
        Cell::plain(&left(grant.until, now)),
        Cell::plain(&bounds),
        Cell::plain(&since),
        Cell::plain(grant.reason.as_deref().unwrap_or("-")),
    ]
}

/// As in `api.example.com:443`.
pub fn destination(grant: &HumanGrant) -> String {
    let ports: Vec<String> = grant.ports.iter().map(ToString::to_string).collect();
    let host = &grant.destination;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("{host}:{}", ports.join(","))
}

/// What bounds it beside its time, as in `3 uses`, and what is left of that, as in `1 of 3 uses`.
pub fn bounds(grant: &HumanGrant) -> impl Iterator<Item = String> {
    let plural = |count: u64, left: Option<u64>, word: &str| {
        let word = if count == 1 { word.to_owned() } else { format!("{word}s") };
        match left.filter(|left| *left != count) {
            Some(left) => format!("{left} of {count} {word}"),
            None => format!("{count} {word}"),
        }
    };
    let uses = grant.uses.map(|uses| plural(uses, grant.uses_left, "use"));
    uses.into_iter().chain(grant.bytes.map(|bytes| plural(bytes, grant.bytes_left, "byte")))
}

/// The time from `now` to `until` in its two largest units, as in `1h 5m`.
fn left(until: Time, now: Time) -> String {
    let rest = until.timestamp().duration_since(now.timestamp());
    let seconds = Duration::try_from(rest).unwrap_or_default().as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut shown: Vec<String> = Vec::new();
    for (unit, length) in units {
        let count = rest / length;
        rest %= length;
        if shown.len() < 2 && (count > 0 || (unit == "s" && shown.is_empty())) {
            shown.push(format!("{count}{unit}"));
        }
    }
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_two_units() {
        let at = |second: i64| jiff::Timestamp::from_second(second).map(Time::from).expect("a time");
        for (seconds, expected) in [
            (0, "0s"),
            (-5, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (3600, "1h"),
            (3905, "1h 5m"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(left(at(1000 + seconds), at(1000)), expected, "{seconds}");
        }
    }
}
