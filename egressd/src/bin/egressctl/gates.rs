//! An explanation for people: the verdict, the gates in the order of a flow, and what would change it.

use crate::{
    allow::suggestion,
    budgets,
    output::{Colour, sanitise},
};
use egressd::{
    audit::Verdict,
    control::protocol::{
        Explanation, Gate, GateState, InspectionBounds, KnownAddress, LeakBounds, LeakCharge, LiveGrant,
        Resolution, ResolverAnswer, SmallestChange, Step, TlsBounds,
    },
    policy::{Ech, GateChoice},
};
use std::{
    io::{self, Write},
    net::SocketAddr,
};

/// Writes all of it; with the command that would allow it for a time where the agent `is_live`.
pub fn print(
    out: &mut impl Write,
    colour: Colour,
    explanation: &Explanation,
    is_live: bool,
) -> io::Result<()> {
    let Explanation { verdict, agent, destination, port, protocol, .. } = explanation;
    let host = if destination.contains(':') { format!("[{destination}]") } else { destination.clone() };
    let word = match (verdict, &explanation.observed) {
        (Verdict::Allow, Some(_)) => colour.warned("only observed"),
        (Verdict::Allow, None) => colour.allowed("allowed"),
        (Verdict::Deny, _) => colour.denied("denied"),
    };
    let (host, protocol, agent) = (sanitise(&host), sanitise(protocol), sanitise(agent));
    writeln!(out, "{word}: {host}:{port}, {protocol}, agent `{agent}`")?;
    for (label, text) in of_rule(explanation) {
        line(out, label, &text)?;
    }
    for state in &explanation.gates {
        print_gate(out, colour, explanation, state)?;
    }
    for (label, text) in of_change(explanation, is_live) {
        writeln!(out, "  {label:<LABEL$}{}", colour.hint(&sanitise(&text)))?;
    }
    Ok(())
}

/// What is said of the flow as a whole.
fn of_rule(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let Explanation { reason, observed, explanation: sentence, rule, section, term, risk, why, .. } =
        explanation;
    let because = |reason: &Option<String>| Some(format!("{}: {}", reason.as_ref()?, sentence.as_ref()?));
    let lines = [
        ("reason", because(reason)),
        ("observed", because(observed).map(|text| format!("would be denied: {text}"))),
        ("rule", rule.clone()),
        ("section", section.clone()),
        ("term", term.clone()),
        ("why", why.clone()),
        ("risk", risk.clone()),
    ];
    lines.into_iter().filter_map(|(label, text)| Some((label, text?))).collect()
}

fn print_gate(
    out: &mut impl Write,
    colour: Colour,
    explanation: &Explanation,
    state: &GateState,
) -> io::Result<()> {
    let (label, lines) = match state.gate {
        Gate::Resolver => ("resolver", of_resolver(explanation)),
        Gate::Address => ("address", of_address(explanation)),
        Gate::ServerName => ("name gate", of_server_name(explanation)),
        Gate::Budget => ("budget", budgets::explained(&explanation.budgets)),
    };
    let word = match state.step {
        Step::Passed => "ok",
        Step::Observed => "observed",
        Step::Denied => "denied",
        Step::Held => "held",
        Step::NotReached => "not reached",
        Step::NotAsked => "not asked",
    };
    let painted = match state.step {
        Step::Passed => colour.allowed(word),
        Step::Observed | Step::Held => colour.warned(word),
        Step::Denied => colour.denied(word),
        Step::NotReached | Step::NotAsked => word.to_owned(),
    };
    let is_silent = matches!(state.step, Step::NotReached);
    let mut lines = lines.into_iter().filter(|_| !is_silent);
    let first = lines.next().unwrap_or_default();
    let padding = if first.is_empty() { 0 } else { STEP - word.len() };
    writeln!(out, "  {label:<LABEL$}{painted}{:padding$}{}", "", sanitise(&first))?;
    lines.try_for_each(|line| writeln!(out, "  {:LABEL$}{:STEP$}{}", "", "", sanitise(&line)))
}

fn of_resolver(Explanation { resolver, types, leak, .. }: &Explanation) -> Vec<String> {
    let Some(told) = resolver else { return vec!["an address is not looked up".to_owned()] };
    let mut lines = vec![answer(told)];
    if !told.addresses.is_empty() && told.answer != ResolverAnswer::Known {
        lines.push(format!("it holds {}", addresses(&told.addresses)));
    }
    if let Some(LeakCharge { bits, zone_left_bits, agent_left_bits }) = told.charge {
        lines.push(format!(
            "costs {bits} bits, of {zone_left_bits} left for its zone and {agent_left_bits} for the agent"
        ));
    }
    if !types.is_empty() {
        lines.push(format!("types A, AAAA, {}", types.join(", ")));
    }
    if let Some(LeakBounds { zone, rule, bytes_a_day, agent_bytes_a_day }) = leak {
        lines.push(format!("{bytes_a_day} bytes a day at most through names below {zone} ({rule}),"));
        lines.push(format!("{agent_bytes_a_day} through names of all wildcards"));
    }
    lines
}

fn answer(told: &Resolution) -> String {
    match told.answer {
        ResolverAnswer::Known => format!("answers without asking anybody: {}", addresses(&told.addresses)),
        ResolverAnswer::Absent => "answers without asking anybody: there is no address".to_owned(),
        ResolverAnswer::Asked if told.upstreams.is_empty() => "is asked for upstream".to_owned(),
        ResolverAnswer::Asked => format!("is asked for upstream, of {}", told.upstreams.join(" or ")),
        ResolverAnswer::Held => "the lookup waits until somebody decides: `egressctl approvals`".to_owned(),
        ResolverAnswer::Failed => format!("fails at this moment: {}", coded(told)),
        ResolverAnswer::Refused if told.code.is_none() => format!("refuses{}", why(told)),
        ResolverAnswer::Hidden | ResolverAnswer::Refused => format!("answers {}", coded(told)),
    }
}

/// The code of an answer without addresses, and what is behind it.
fn coded(told: &Resolution) -> String {
    let code = told.code.as_deref().unwrap_or("SERVFAIL");
    let ede = told.ede.map(|number| format!(", EDE {number}{}", ede_name(number))).unwrap_or_default();
    format!("{code}{ede}{}", why(told))
}

fn why(Resolution { reason, rule, detail, .. }: &Resolution) -> String {
    let why: Vec<&str> = [reason, rule, detail].into_iter().filter_map(|part| part.as_deref()).collect();
    if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) }
}

/// As RFC 8914, section 4, calls it; nothing for what our resolver does not send.
fn ede_name(number: u16) -> &'static str {
    match number {
        6 => " (DNSSEC Bogus)",
        15 => " (Blocked)",
        18 => " (Prohibited)",
        22 => " (No Reachable Authority)",
        _ => "",
    }
}

fn addresses(known: &[KnownAddress]) -> String {
    let shown = known.iter().take(MAX_SHOWN);
    let shown: Vec<String> =
        shown.map(|known| format!("{} ({} s left)", known.address, known.seconds_left)).collect();
    let more = known.len().saturating_sub(MAX_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

fn of_address(explanation: &Explanation) -> Vec<String> {
    let Explanation { open, networks, denied_networks, grants, .. } = explanation;
    let open = (!open.is_empty()).then(|| format!("open: {}", open.join(", ")));
    let networks = networks.iter().map(|network| format!("but is open at addresses in {network}"));
    let denied = denied_networks.iter().map(|network| format!("but is denied at addresses in {network}"));
    let granted = grants.iter().map(|LiveGrant { address, port, protocol, seconds_left, .. }| {
        format!("granted {}/{protocol} for {seconds_left} more seconds", SocketAddr::new(*address, *port))
    });
    open.into_iter().chain(networks).chain(denied).chain(granted).collect()
}

fn of_server_name(Explanation { tls, protocol, request, .. }: &Explanation) -> Vec<String> {
    let Some(TlsBounds { gate, ech, read_by, inspection }) = tls else {
        return vec![match protocol.as_str() {
            "tcp" | "udp" => format!("{protocol} says no name"),
            _ => "the proxy reads the name".to_owned(),
        }];
    };
    let chosen = gate.as_ref().filter(|gate| *gate != GateChoice::default().as_str());
    let reader = match (read_by.as_deref(), chosen) {
        (Some(reader), _) => format!("the {reader} reads the name"),
        (None, Some(gate)) => format!("the {gate} reads the name"),
        (None, None) => "the name is read".to_owned(),
    };
    let ech = if ech == Ech::default().as_str() { String::new() } else { format!("; ech: {ech}") };
    let mut lines = vec![reader + &ech];
    let Some(InspectionBounds { allow, max_body, max_bodies, inject }) = inspection else { return lines };
    let allow = allow.as_ref().map_or_else(|| "every request".to_owned(), |allow| allow.join(", "));
    lines.push(format!("inspects {allow}"));
    lines.extend(request.as_ref().map(|request| format!("judged as {request}")));
    for (bound, of) in [(max_body, "the body of a request"), (max_bodies, "the bodies of a connection")] {
        lines.extend(bound.map(|octets| format!("{octets} bytes at most in {of}")));
    }
    lines.extend(inject.iter().map(|field| format!("injects {field}")));
    lines
}

/// What would allow it.
fn of_change(explanation: &Explanation, is_live: bool) -> Vec<(&'static str, String)> {
    let Some(SmallestChange { add, remove, note }) = &explanation.change else { return Vec::new() };
    let mut lines: Vec<(&str, String)> =
        remove.iter().map(|rule| ("change", format!("remove the rule that denies at {rule}"))).collect();
    lines.extend(add.as_ref().map(|line| ("remedy", line.clone())));
    let label = if lines.is_empty() { "remedy" } else { "" };
    lines.extend(note.iter().map(|note| (label, note.clone())));
    lines.extend(command(explanation).filter(|_| is_live).map(|command| ("for now", command)));
    lines
}

/// What would allow it until its policy does.
fn command(explanation: &Explanation) -> Option<String> {
    let Explanation { agent, destination, port, protocol, remedy, rule, budgets, .. } = explanation;
    let is_lent = rule.as_ref().is_some_and(|rule| rule.starts_with("grant:"));
    let is_spent = budgets.iter().any(|budget| budget.refuses.is_some() && budget.rule.is_some());
    // Where a rule would help, so does a grant.
    let private = match remedy {
        Some(remedy) if remedy.contains("private: true") => " --private",
        Some(_) => "",
        None if is_lent && is_spent => "",
        None => return None,
    };
    Some(suggestion(destination, Some(*port), protocol, agent) + private)
}

fn line(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {label:<LABEL$}{}", sanitise(text))
}

/// Columns of what a line is about, and of how far a flow comes.
const LABEL: usize = 11;
const STEP: usize = 13;

/// Addresses of a name that are shown: there may be 128.
const MAX_SHOWN: usize = 4;
