//! One record as one line.

use crate::output::{Cell, Colour, Columns, Format, json, sanitise};
use egressd::audit::{
    Gap, LostAt, Record, RecordedAlert, RecordedChange, RecordedDestination, RecordedOperator,
    SCHEMA_VERSION, Time, Verdict,
};
use jiff::{Zoned, tz::TimeZone};
use serde::Serialize;
use std::io::{self, IsTerminal, Write, stderr, stdout};

/// Shows records on stdout, and what is to be said about them on stderr; in JSON all on stdout.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    colour: Colour,
    columns: Columns<8>,
    header: Header,
    daemon: Daemon,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        let header = if stdout().is_terminal() { Header::Due } else { Header::Done };
        Self {
            format,
            colour: Colour::of(&stdout()),
            columns: Columns::new(TITLES),
            header,
            daemon: Daemon::Unknown,
        }
    }

    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match self.format {
            Format::Json => json(&mut stdout(), record),
            Format::Text => self.row(&cells(record, self.colour)),
        }
    }

    pub fn alert(&mut self, alert: &RecordedAlert) -> io::Result<()> {
        match self.format {
            Format::Json => json(&mut stdout(), alert),
            Format::Text => self.row(&alert_cells(alert, self.colour)),
        }
    }

    pub fn change(&mut self, change: &RecordedChange) -> io::Result<()> {
        match self.format {
            Format::Json => json(&mut stdout(), change),
            Format::Text => self.row(&change_cells(change, self.colour)),
        }
    }

    fn row(&mut self, cells: &[Cell; 8]) -> io::Result<()> {
        if std::mem::replace(&mut self.header, Header::Done) == Header::Due {
            self.columns.fit(cells);
            let titles = TITLES.map(|title| Cell::painted(title, |title| self.colour.heading(title)));
            writeln!(stdout(), "{}", self.columns.line(&titles))?;
        }
        writeln!(stdout(), "{}", self.columns.line(cells))
    }

    pub fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        let lost = gap.lost;
        match (self.format, gap.at) {
            (Format::Json, _) => json(&mut stdout(), gap),
            (Format::Text, LostAt::Queue) => note(&format!("{lost} events came too fast to be recorded")),
            (Format::Text, LostAt::Flood) => {
                let agent = sanitise(gap.agent.as_deref().unwrap_or("-"));
                note(&format!("{lost} events of agent {agent} are beyond its share of records"))
            }
            (Format::Text, LostAt::Log) => note(&format!("{lost} lines could not be written to the log")),
            (Format::Text, LostAt::Torn) => note(&format!("{lost} line at the end of the log was torn")),
        }
    }

    pub fn missed(&mut self, missed: u64) -> io::Result<()> {
        #[derive(Serialize)]
        struct Missed {
            v: u32,
            missed: u64,
        }
        match self.format {
            Format::Json => json(&mut stdout(), &Missed { v: SCHEMA_VERSION, missed }),
            Format::Text => note(&format!("missed {missed} events")),
        }
    }

    pub fn found_daemon(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.daemon, Daemon::Here) {
            Daemon::Gone => note("the daemon is back"),
            Daemon::Here | Daemon::Unknown => Ok(()),
        }
    }

    pub fn lost_daemon(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.daemon, Daemon::Gone) {
            Daemon::Here => note("the daemon went away: waiting for it to come back"),
            Daemon::Gone | Daemon::Unknown => Ok(()),
        }
    }

    pub fn numbering_began_anew(&mut self) -> io::Result<()> {
        note("the daemon counts its records anew: how many were missed is not known")
    }
}

/// `time` as the clock on the wall shows it, with the date where that is not today's.
pub fn clock(time: Time) -> String {
    wall_clock(&time.timestamp().to_zoned(TimeZone::system()), &Zoned::now())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Due,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Unknown,
    Here,
    Gone,
}

const TITLES: [&str; 8] = [
    "TIME",
    "AGENT",
    "PROCESS",
    "DESTINATION",
    "PORT",
    "PROTOCOL",
    "REASON",
    "RULE, OR THE ONE THAT WOULD ALLOW IT",
];

fn cells(record: &Record, colour: Colour) -> [Cell; 8] {
    let process = record.process.as_ref();
    let port = record.destination.port.map_or("-".to_owned(), |port| port.to_string());
    [
        Cell::plain(&clock(record.time)),
        Cell::plain(&record.agent),
        Cell::plain(
            &process.map_or("-".to_owned(), |process| format!("{}[{}]", process.name(), process.pid)),
        ),
        Cell::plain(&destination(&record.destination)),
        Cell::plain(&port),
        Cell::plain(&record.protocol),
        judgement(record, colour),
        rule(record, colour),
    ]
}

/// What was seen stands where a record has its rule.
fn alert_cells(alert: &RecordedAlert, colour: Colour) -> [Cell; 8] {
    let RecordedAlert { flag, flag_id, action, zone, .. } = alert;
    [
        Cell::plain(&clock(alert.time)),
        Cell::plain(&alert.agent),
        Cell::plain("-"),
        Cell::plain(zone.as_deref().unwrap_or("-")),
        Cell::plain("-"),
        Cell::plain(if alert.is_about_names() { "dns" } else { "-" }),
        Cell::painted(&format!("ALERT {flag_id} {flag}"), |text| colour.warned(text)),
        Cell::painted(&format!("{action}: {}", alert.evidence), |text| colour.warned(text)),
    ]
}

/// Who did it stands where a record has its process, and why where it has its rule.
fn change_cells(change: &RecordedChange, colour: Colour) -> [Cell; 8] {
    let RecordedChange { change: act, grant, by, why, .. } = change;
    let ports: Vec<String> = change.ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { "-".to_owned() } else { ports.join(",") };
    let until = change.until.map(|until| format!("until {}", clock(until)));
    let terms = [
        until,
        change.uses.map(|uses| format!("{uses} uses")),
        change.bytes.map(|bytes| format!("{bytes} bytes")),
        why.clone(),
        change.detail.clone(),
    ];
    let terms: Vec<String> = terms.into_iter().flatten().collect();
    let act = match (grant, act.as_ref()) {
        (Some(grant), act) => format!("GRANT {grant} {act}"),
        (None, "replaced") => "POLICY replaced".to_owned(),
        (None, act) => format!("APPROVAL {act}"),
    };
    [
        Cell::plain(&clock(change.time)),
        Cell::plain(change.agent.as_deref().unwrap_or("-")),
        Cell::plain(&by.as_ref().map_or("-".to_owned(), operator)),
        Cell::plain(&change.destination),
        Cell::plain(&ports),
        Cell::plain(change.protocol.as_deref().unwrap_or("-")),
        Cell::painted(&act, |text| colour.warned(text)),
        Cell::plain(&terms.join(", ")),
    ]
}

/// Who asked for a change, as in `uid 0 (login 1000)`.
pub fn operator(operator: &RecordedOperator) -> String {
    let login = operator.login_uid.filter(|login| *login != operator.uid);
    let login = login.map(|login| format!(" (login {login})")).unwrap_or_default();
    format!("uid {}{login}", operator.uid)
}

/// The name and the address, as far as either is known.
pub fn destination(destination: &RecordedDestination) -> String {
    match (&destination.name, destination.address) {
        (Some(name), Some(address)) => format!("{name} ({address})"),
        (Some(name), None) => name.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "-".to_owned(),
    }
}

fn judgement(record: &Record, colour: Colour) -> Cell {
    let word = match (record.verdict, &record.observed) {
        (Verdict::Allow, Some(reason)) => format!("observed: {reason}"),
        (Verdict::Allow, None) => "allowed".to_owned(),
        (Verdict::Deny, _) => record.reason.as_deref().unwrap_or("denied").to_owned(),
    };
    let text = if record.count > 1 { format!("{word} x{}", record.count) } else { word };
    Cell::painted(&text, |text| match (record.verdict, &record.observed) {
        (Verdict::Allow, Some(_)) => colour.warned(text),
        (Verdict::Allow, None) => colour.allowed(text),
        (Verdict::Deny, _) => colour.denied(text),
    })
}

fn rule(record: &Record, colour: Colour) -> Cell {
    match (&record.rule, &record.remedy) {
        (Some(rule), Some(remedy)) => Cell::plain(&format!("{rule}; would allow it: {remedy}")),
        (Some(rule), None) => Cell::plain(rule),
        (None, Some(remedy)) => Cell::painted(remedy, |remedy| colour.hint(remedy)),
        (None, None) => Cell::plain(record.detail.as_deref().unwrap_or("-")),
    }
}

fn wall_clock(time: &Zoned, now: &Zoned) -> String {
    let form = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(form).to_string()
}

fn note(text: &str) -> io::Result<()> {
    writeln!(stderr(), "-- {text} --")
}

#[cfg(test)]
mod tests {
    use super::*;
    use egressd::audit::Gate;

    #[test]
    fn a_record_is_one_aligned_line_that_says_who_what_and_why() {
        let mut columns =
            Columns::new(["TIME", "AGENT", "PROCESS", "DESTINATION", "PORT", "PROTOCOL", "REASON", ""]);
        let cells = cells(&record(), Colour::Off);
        let line = columns.line(&cells);
        let (_, rest) = line.split_once("  ").unwrap();
        assert_eq!(
            rest,
            "build  curl[42]  db.evil.test (192.0.2.7)  443   tls       host-not-allowed x3  - host: db.evil.test"
        );
    }

    #[test]
    fn a_flow_that_is_only_observed_is_told_apart_from_one_that_is_denied() {
        let denied = record();
        let observed =
            Record { verdict: Verdict::Allow, observed: denied.reason.clone(), reason: None, ..record() };
        let line = Columns::new(TITLES).line(&cells(&observed, Colour::On));
        assert!(line.contains("\u{1b}[33mobserved: host-not-allowed x3"), "{line}");
    }

    #[test]
    fn an_alert_is_a_line_in_the_same_columns() {
        let text = r#"{"v":1,"seq":9,"time":"2026-11-21T10:15:14.123Z","agent":"build","flag":"encoded-names",
            "flag_id":"E3","action":"freeze","zone":"cdn.example","rule":"a.yaml:3",
            "evidence":"5 names in 41 s, such as `nbswy3dp`","explanation":"Five names."}"#;
        let alert: RecordedAlert = serde_json::from_str(text).unwrap();
        let line = Columns::new(TITLES).line(&alert_cells(&alert, Colour::Off));
        let (_, rest) = line.split_once("  ").unwrap();
        let expected = "build  -        cdn.example  -     dns       ALERT E3 encoded-names  \
                        freeze: 5 names in 41 s, such as `nbswy3dp`";
        assert_eq!(rest, expected);
        let painted = alert_cells(&alert, Colour::On);
        assert!(Columns::new(TITLES).line(&painted).contains("\u{1b}[33mALERT E3"));
    }

    #[test]
    fn an_agent_cannot_break_out_of_its_line() {
        let mut record = record();
        record.process.as_mut().unwrap().executable = Some("/tmp/a\n\u{1b}[2Jb".to_owned());
        let line = Columns::new(TITLES).line(&cells(&record, Colour::Off));
        assert!(line.contains("a\\n\\u{1b}[2Jb[42]") && !line.contains(['\n', '\u{1b}']), "{line}");
    }

    #[test]
    fn the_date_is_shown_where_it_is_not_todays() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let now = at("2026-11-21T23:00:00Z");
        assert_eq!(wall_clock(&at("2026-11-21T10:15:14Z"), &now), "10:15:14");
        assert_eq!(wall_clock(&at("2026-11-20T10:15:14Z"), &now), "2026-11-20 10:15:14");
    }

    fn record() -> Record {
        let text = r#"{"v":1,"seq":7,"time":"2026-11-21T10:15:14.123Z","agent":"build","verdict":"deny",
            "gate":"server-name","process":{"pid":42,"executable":"/usr/bin/curl","command":"curl"},
            "destination":{"name":"db.evil.test","address":"192.0.2.7","port":443},"protocol":"tls",
            "reason":"host-not-allowed","explanation":"No rule allows this host.","rule":null,
            "remedy":"- host: db.evil.test","detail":null,"count":3}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(record.gate, Gate::ServerName);
        record
    }
}
