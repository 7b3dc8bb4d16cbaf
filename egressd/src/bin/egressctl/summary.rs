//! What was denied, counted by destination, and the rules that would allow it.

use crate::{
    output::{Cell, Colour, Columns, sanitise},
    tail::destination,
};
use egressd::{
    audit::{Line, Record, RecordedAlert, RecordedProcess, Verdict},
    control::{
        Client, ClientError,
        protocol::{Frame, RecordsRequest},
    },
    policy::Reason,
};
use serde::Serialize;
use std::io::{self, Write};

/// Denials by destination, in the order in which they were met first.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    denied: Vec<Denied>,
    /// What was let out to be observed, with the reason for which it would be denied.
    observed: Vec<Denied>,
    /// Flows, beyond those in both, to destinations beyond [`MAX_DESTINATIONS`].
    others: u64,
    /// Signs of leaks through names, in the order in which they were seen first.
    alerts: Vec<Alerted>,
    /// Alerts beyond [`MAX_ALERTS`] different ones.
    more_alerts: u64,
    /// Records that are no longer held by the daemon.
    missed: u64,
}

impl Summary {
    /// Reads what `request` asks for; it must not follow.
    pub fn read(client: &Client, request: &RecordsRequest) -> Result<Self, ClientError> {
        let mut summary = Self::default();
        let mut records = client.records(request)?;
        while let Some(frame) = records.next_frame()? {
            match frame {
                Frame::Line(Line::Record(record)) => summary.add(&record),
                Frame::Line(Line::Gap(gap)) => summary.missed += gap.lost,
                // That a budget is used up is seen by what it denied.
                Frame::Line(Line::Alert(alert)) if !alert.is_about_names() => {}
                Frame::Line(Line::Alert(alert)) => summary.add_alert(&alert),
                Frame::Missed { missed, .. } => summary.missed += missed,
                Frame::Line(Line::Change(_)) | Frame::Feed { .. } | Frame::Heartbeat { .. } => {}
            }
        }
        Ok(summary)
    }

    pub fn add(&mut self, record: &Record) {
        let told = match (record.verdict, &record.observed) {
            (Verdict::Allow, None) => return,
            (Verdict::Allow, Some(_)) => &mut self.observed,
            (Verdict::Deny, _) => &mut self.denied,
        };
        if let Some(denied) = told.iter_mut().find(|denied| denied.is_of(record)) {
            denied.add(record);
        } else if told.len() < MAX_DESTINATIONS {
            told.push(Denied::of(record));
        } else {
            self.others += record.count;
        }
    }

    pub fn add_alert(&mut self, alert: &RecordedAlert) {
        if let Some(alerted) = self.alerts.iter_mut().find(|alerted| alerted.is_of(alert)) {
            alerted.times += 1;
        } else if self.alerts.len() < MAX_ALERTS {
            self.alerts.push(Alerted::of(alert));
        } else {
            self.more_alerts += 1;
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty() && self.observed.is_empty() && self.alerts.is_empty() && self.missed == 0
    }

    /// Whether rules would allow some of it.
    #[must_use]
    pub fn has_remedies(&self) -> bool {
        self.denied.iter().any(|denied| denied.remedy.is_some())
    }

    /// Whether something was let out to be observed.
    #[must_use]
    pub fn has_observed(&self) -> bool {
        !self.observed.is_empty()
    }

    /// Writes the destinations and the rules, and the alerts; nothing where nothing was denied.
    pub fn print(&self, out: &mut impl Write, colour: Colour) -> io::Result<()> {
        if !self.denied.is_empty() || self.missed > 0 {
            let flows = self.others + flows(&self.denied);
            writeln!(out, "egress was {} {}:", colour.denied("denied"), times(flows))?;
            rows(out, &self.denied.iter().collect::<Vec<_>>(), colour)?;
        }
        if !self.observed.is_empty() {
            let word = colour.warned("only observed");
            let flows = times(flows(&self.observed));
            writeln!(out, "egress was {word} {flows}, and would be denied by a policy that is enforced:")?;
            rows(out, &self.without_lookups(), colour)?;
        }
        self.print_rest(out)?;
        self.print_remedies(out, colour)?;
        if self.alerts.is_empty() {
            return Ok(());
        }
        let word = colour.warned("look like a leak");
        writeln!(out, "names that were looked up {word}:")?;
        let rows: Vec<_> = self.alerts.iter().map(|alerted| alerted.row(colour)).collect();
        let mut columns = Columns::new([""; 5]);
        rows.iter().for_each(|row| columns.fit(row));
        for row in &rows {
            writeln!(out, "  {}", columns.line(row))?;
        }
        if self.more_alerts > 0 {
            writeln!(out, "  ... and {} more: see `egressctl tail`", times(self.more_alerts))?;
        }
        Ok(())
    }

    /// What was observed, less the lookups of names that were reached, too.
    fn without_lookups(&self) -> Vec<&Denied> {
        let is_reached = |lookup: &Denied| {
            let at_addresses = format!("{} (", lookup.destination);
            let is_name = |told: &Denied| {
                told.destination == lookup.destination || told.destination.starts_with(&at_addresses)
            };
            self.observed.iter().any(|told| !told.is_lookup() && is_name(told))
        };
        self.observed.iter().filter(|told| !told.is_lookup() || !is_reached(told)).collect()
    }

    fn print_rest(&self, out: &mut impl Write) -> io::Result<()> {
        if self.others > 0 {
            writeln!(out, "  ... and {} to other destinations: see `egressctl tail`", times(self.others))?;
        }
        if self.missed > 0 {
            writeln!(out, "  ... and up to {} more that left no record here", self.missed)?;
        }
        Ok(())
    }

    fn print_remedies(&self, out: &mut impl Write, colour: Colour) -> io::Result<()> {
        let mut remedies: Vec<&str> = Vec::new();
        // Of what was observed, `suggest` knows by which port and protocol it was reached, if at all.
        for remedy in self.denied.iter().filter_map(|denied| denied.remedy.as_deref()) {
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        if remedies.is_empty() {
            return Ok(());
        }
        writeln!(out, "to allow it, add to `rules:` of the policy what you trust of this:")?;
        for remedy in remedies {
            writeln!(out, "  {}", colour.hint(&sanitise(remedy)))?;
        }
        Ok(())
    }
}

fn flows(told: &[Denied]) -> u64 {
    told.iter().map(|denied| denied.flows).sum()
}

fn rows(out: &mut impl Write, told: &[&Denied], colour: Colour) -> io::Result<()> {
    let rows: Vec<_> = told.iter().map(|denied| denied.row(colour)).collect();
    let mut columns = Columns::new([""; 6]);
    rows.iter().for_each(|row| columns.fit(row));
    rows.iter().try_for_each(|row| writeln!(out, "  {}", columns.line(row)))
}

/// Destinations that are listed one by one: a screenful or two.
const MAX_DESTINATIONS: usize = 50;
/// Alerts that are listed one by one.
const MAX_ALERTS: usize = 20;
/// Processes that are named of each.
const MAX_PROCESSES: usize = 4;

/// The denials that look the same but for their process.
#[derive(Debug, Serialize)]
struct Denied {
    destination: String,
    port: Option<u16>,
    protocol: String,
    reason: String,
    rule: Option<String>,
    remedy: Option<String>,
    flows: u64,
    processes: Vec<String>,
}

impl Denied {
    fn of(record: &Record) -> Self {
        let mut denied = Self {
            destination: destination(&record.destination),
            port: record.destination.port,
            protocol: record.protocol.clone(),
            reason: reason(record).to_owned(),
            rule: record.rule.clone(),
            remedy: record.remedy.clone(),
            flows: 0,
            processes: Vec::new(),
        };
        denied.add(record);
        denied
    }

    fn is_lookup(&self) -> bool {
        self.port.is_none() && self.protocol == "dns"
    }

    fn is_of(&self, record: &Record) -> bool {
        self.port == record.destination.port
            && self.protocol == record.protocol
            && self.reason == reason(record)
            && (self.rule == record.rule || !is_of_budget(&self.reason))
            && self.destination == destination(&record.destination)
    }

    fn add(&mut self, record: &Record) {
        self.flows = self.flows.saturating_add(record.count);
        let process = record.process.as_ref().map_or("-", RecordedProcess::name);
        if !self.processes.iter().any(|known| known == process) {
            self.processes.push(process.to_owned());
        }
    }

    fn row(&self, colour: Colour) -> [Cell; 6] {
        let reason = match &self.rule {
            Some(rule) => format!("{} ({rule})", self.reason),
            None if is_of_budget(&self.reason) => format!("{} (of the agent)", self.reason),
            None => self.reason.clone(),
        };
        [
            Cell::plain(&self.destination),
            Cell::plain(&self.port.map_or("-".to_owned(), |port| port.to_string())),
            Cell::plain(&self.protocol),
            Cell::plain(&times(self.flows)),
            Cell::painted(&reason, |reason| colour.denied(reason)),
            Cell::plain(&format!("by {}", self.names())),
        ]
    }

    fn names(&self) -> String {
        let named = &self.processes[..self.processes.len().min(MAX_PROCESSES)];
        let more = if named.len() < self.processes.len() { ", ..." } else { "" };
        format!("{}{more}", named.join(", "))
    }
}

/// The alerts with one flag over one zone; the first of them is shown.
#[derive(Debug, Serialize)]
struct Alerted {
    agent: String,
    flag: String,
    flag_id: String,
    action: String,
    zone: Option<String>,
    rule: Option<String>,
    evidence: String,
    explanation: String,
    times: u64,
}

impl Alerted {
    fn of(alert: &RecordedAlert) -> Self {
        Self {
            agent: alert.agent.clone(),
            flag: alert.flag.to_string(),
            flag_id: alert.flag_id.to_string(),
            action: alert.action.to_string(),
            zone: alert.zone.clone(),
            rule: alert.rule.clone(),
            evidence: alert.evidence.clone(),
            explanation: alert.explanation.to_string(),
            times: 1,
        }
    }

    fn is_of(&self, alert: &RecordedAlert) -> bool {
        self.flag == alert.flag && self.zone == alert.zone && self.agent == alert.agent
    }

    fn row(&self, colour: Colour) -> [Cell; 5] {
        let zone = match (&self.zone, &self.rule) {
            (Some(zone), Some(rule)) => format!("{zone} ({rule})"),
            (Some(zone), None) => zone.clone(),
            (None, _) => "-".to_owned(),
        };
        [
            Cell::painted(&format!("{} {}", self.flag_id, self.flag), |text| colour.warned(text)),
            Cell::plain(&zone),
            Cell::plain(&self.action),
            Cell::plain(&times(self.times)),
            Cell::plain(&self.evidence),
        ]
    }
}

fn reason(record: &Record) -> &str {
    record.reason.as_deref().or(record.observed.as_deref()).unwrap_or("denied")
}

/// Whether it matters whose budget it was: without a rule, that of all flows of the agent.
fn is_of_budget(reason: &str) -> bool {
    [Reason::BudgetSpent, Reason::RateExceeded].iter().any(|of_budget| of_budget.as_str() == reason)
}

fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_counted_by_destination_and_each_remedy_is_told_once() {
        let mut summary = Summary::default();
        summary.add(&record("evil.test", "curl", 1));
        summary.add(&record("evil.test", "curl", 1));
        summary.add(&record("other.test", "python3", 1));
        summary.add(&record("evil.test", "wget", 5));
        assert_eq!(
            printed(&summary),
            "egress was denied 8 times:
  evil.test   443  tls  7 times  host-not-allowed  by curl, wget
  other.test  443  tls  once     host-not-allowed  by python3
to allow it, add to `rules:` of the policy what you trust of this:
  - host: evil.test
  - host: other.test
"
        );
    }

    #[test]
    fn what_is_only_observed_is_told_by_itself() {
        let mut summary = Summary::default();
        summary.add(&record("evil.test", "curl", 1));
        let observed = Record { verdict: Verdict::Allow, ..record("open.test", "curl", 2) };
        let observed = Record { observed: observed.reason.clone(), reason: None, ..observed };
        summary.add(&observed);
        for name in ["open.test", "nowhere.test"] {
            let mut lookup = Record { protocol: "dns".to_owned(), ..observed.clone() };
            lookup.destination.name = Some(name.to_owned());
            lookup.destination.port = None;
            summary.add(&lookup);
        }
        assert_eq!(
            printed(&summary),
            "egress was denied once:
  evil.test  443  tls  once  host-not-allowed  by curl
egress was only observed 6 times, and would be denied by a policy that is enforced:
  open.test     443  tls  twice  host-not-allowed  by curl
  nowhere.test  -    dns  twice  host-not-allowed  by curl
to allow it, add to `rules:` of the policy what you trust of this:
  - host: evil.test
"
        );
    }

    #[test]
    fn nothing_is_said_where_nothing_was_denied() {
        assert_eq!(printed(&Summary::default()), "");
    }

    #[test]
    fn alerts_are_listed_once_for_each_flag_and_zone() {
        let mut summary = Summary::default();
        for (flag_id, flag, zone) in [
            ("E3", "encoded-names", "\"cdn.example\""),
            ("E3", "encoded-names", "\"cdn.example\""),
            ("E10", "secret", "null"),
        ] {
            summary.add_alert(&alert(flag_id, flag, zone));
        }
        assert_eq!(
            printed(&summary),
            "names that were looked up look like a leak:
  E3 encoded-names  cdn.example (a.yaml:3)  freeze  twice  5 names in 41 s
  E10 secret        -                       freeze  once   5 names in 41 s
"
        );
    }

    #[test]
    fn a_flood_of_alerts_fills_no_terminal() {
        let mut summary = Summary::default();
        for number in 0..1000 {
            summary.add_alert(&alert("E11", "denied-tunnel", &format!("\"n{number}.test\"")));
        }
        let text = printed(&summary);
        assert!(text.contains("... and 980 times more") && text.lines().count() < 25, "{text}");
    }

    #[test]
    fn a_flood_of_destinations_fills_no_terminal() {
        let mut summary = Summary::default();
        for number in 0..1000 {
            summary.add(&record(&format!("n{number}.test"), "curl", 1));
        }
        let text = printed(&summary);
        assert!(text.contains("... and 950 times to other destinations"), "{text}");
    }

    fn printed(summary: &Summary) -> String {
        let mut out = Vec::new();
        summary.print(&mut out, Colour::Off).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn alert(flag_id: &str, flag: &str, zone: &str) -> RecordedAlert {
        let text = format!(
            r#"{{"v":1,"seq":9,"time":"2026-11-21T10:15:14.123Z","agent":"build","flag":"{flag}",
            "flag_id":"{flag_id}","action":"freeze","zone":{zone},"rule":"a.yaml:3",
            "evidence":"5 names in 41 s","explanation":"Names."}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn record(host: &str, process: &str, count: u64) -> Record {
        let text = format!(
            r#"{{"v":1,"seq":7,"time":"2026-11-21T10:15:14.123Z","agent":"build","verdict":"deny",
            "gate":"name","process":{{"pid":42,"executable":"/usr/bin/{process}","command":""}},
            "destination":{{"name":"{host}","address":null,"port":443}},"protocol":"tls",
            "reason":"host-not-allowed","explanation":null,"rule":null,
            "remedy":"- host: {host}","detail":null,"count":{count}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }
}
