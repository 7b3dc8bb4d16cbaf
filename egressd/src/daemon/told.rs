//! What is told of ledgers, as operators read it.

use crate::{
    audit::Time,
    control::protocol::{AgentLeaks, DeniedZone, LeakLevel, RaisedFlag, ZoneLeaks},
    dns::ledger::{AccountReport, DeniedReport, Level, Raised, Report},
    policy::{AgentName, Moment},
};
use jiff::Timestamp;

/// The report of one agent's ledger, made at `now`.
pub fn told(agent: &AgentName, report: Report, now: Moment) -> AgentLeaks {
    let Report { total, quarantined, accounts, denied } = report;
    AgentLeaks {
        agent: agent.to_string(),
        quarantined,
        total: level(total),
        accounts: accounts.into_iter().map(|report| account(report, now)).collect(),
        denied: denied.into_iter().map(denied_zone).collect(),
    }
}

fn account(report: AccountReport, now: Moment) -> ZoneLeaks {
    let AccountReport { names_this_hour, names_today, known_names, frozen, rate_limited, refused, .. } =
        report;
    ZoneLeaks {
        zone: report.zone.to_string(),
        level: level(report.level),
        names_this_hour,
        names_today,
        known_names,
        frozen,
        rate_limited,
        refused,
        flags: report.flags.into_iter().map(|raised| flag(raised, now)).collect(),
    }
}

fn level(Level { used, capacity, hourly }: Level) -> LeakLevel {
    LeakLevel { used_bits: used, capacity_bits: capacity, hourly_bits: hourly }
}

fn flag(Raised { flag, action, at, evidence }: Raised, now: Moment) -> RaisedFlag {
    // By the clock on the wall, which the kernel's does not know.
    let at = Timestamp::now().saturating_sub(now.since(at)).map_or_else(|_| Time::now(), Time::from);
    RaisedFlag {
        id: flag.id().to_owned(),
        flag: flag.to_string(),
        action: action.to_string(),
        at,
        evidence,
        explanation: flag.explanation().to_owned(),
    }
}

fn denied_zone(DeniedReport { zone, names, flagged }: DeniedReport) -> DeniedZone {
    DeniedZone { zone: zone.to_string(), names, flagged }
}
