//! What the enforcing matcher says of a flow that nobody has started. Pure.

use super::{
    change, gates,
    known::Known,
    protocol::{
        ExplainRequest, Explanation, InspectionBounds, KnownAddress, LeakBounds, Resolution, ResolverAnswer,
        TlsBounds,
    },
};
use crate::{
    audit::Verdict,
    policy::{
        Asked, AskedError, Denial, Destination, Flow, Leave, Occasion, Permit, Policy, Protocol, Reason,
        RecordType, Rule, RuleId, Subject, Term, special_purpose,
    },
};

/// What would become at `occasion` of a flow to what was `asked` for, by the policy that `agent` was `given` and what
/// is `known` of it: the same judgement as the flow would meet, but for what only a flow can show (which address
/// its name resolves to, where that is not known, and what it speaks).
#[must_use]
pub fn explain(given: &Policy, occasion: Occasion, agent: &str, known: &Known, asked: &Asked) -> Explanation {
    let in_force = given.at(Some(occasion));
    let flow = asked.flow(&in_force);
    let in_force = if known.is_quarantined() { in_force.exact_only() } else { in_force };
    let leave = leave(&in_force, &flow.destination);
    let explanation = by_rules(given, &in_force, occasion, agent, known, &flow);
    let resolver = flow.destination.name().map(|_| resolution(&in_force, &flow, known, &explanation));
    let explanation = by_resolver(Explanation { resolver, ..explanation });
    let permit = known.decide(&in_force, &flow).ok();
    let is_let_out = permit.as_ref().is_some_and(|permit| permit.rule() == RuleId::OBSERVED);
    let explanation = if is_let_out { by_address(explanation) } else { explanation };
    let explanation = by_bounds(by_request(permit.as_ref(), asked, explanation));
    let gates = gates::walk(&flow, leave.as_ref(), &explanation);
    let change = change::change(&in_force, &flow, asked.request.as_ref(), &explanation);
    let reason = explanation.reason.as_deref();
    let remedy = change.as_ref().and_then(|change| change::remedy(change, reason));
    Explanation { gates, change, remedy, ..explanation }
}

/// What rules say: of the policy in force, and why where that is less than what was given.
fn by_rules(
    given: &Policy,
    in_force: &Policy,
    occasion: Occasion,
    agent: &str,
    known: &Known,
    flow: &Flow,
) -> Explanation {
    let explanation = by_policy(in_force, agent, known, flow);
    let Some(reason) = reason_of(&explanation) else { return explanation };
    let denied = |denial: Denial| Explanation {
        reason: Some(denial.reason.as_str().to_owned()),
        explanation: Some(denial.reason.explanation().to_owned()),
        rule: denial.rule.map(|rule| rule.to_string()),
        ..explanation.clone()
    };
    let name = flow.destination.name();
    if let Some(rule) = name.and_then(|name| given.ended_rule(name, reason, Some(occasion))) {
        return denied(Denial::by(Reason::RuleExpired, &rule.source));
    }
    let before = known.is_quarantined().then(|| given.at(Some(occasion)));
    if let Some(Ok(permit)) = before.map(|before| known.decide(&before, flow)) {
        return denied(Denial { reason: Reason::AgentQuarantined, rule: permit.source().cloned() });
    }
    let (port, protocol) = match name {
        // It is asked for when it is looked up, which says neither.
        Some(_) => (None, None),
        None => (Some(flow.port), Some(flow.protocol)),
    };
    let denial = given.or_asked(Denial::because(reason), &flow.destination, port, protocol);
    match denial.reason == Reason::ApprovalRequired {
        true if known.is_denied_by_people() => denied(Denial { reason: Reason::ApprovalDenied, ..denial }),
        true => denied(denial),
        false => explanation,
    }
}

/// The same, denied where the resolver would not tell the name.
fn by_resolver(explanation: Explanation) -> Explanation {
    let refusal = explanation.resolver.as_ref().filter(|told| told.answer.is_refusal());
    let refusal = refusal.and_then(|told| Some((told.reason.clone()?, told.rule.clone())));
    match (explanation.verdict, refusal) {
        (Verdict::Allow, Some((word, rule))) => denied(explanation, word, rule),
        (Verdict::Allow | Verdict::Deny, _) => explanation,
    }
}

/// The same of what only the mode of the policy lets out, which is not to private addresses: denied where the name
/// is known to have no others.
fn by_address(explanation: Explanation) -> Explanation {
    let known = explanation.resolver.as_ref().map_or(&[][..], |told| &told.addresses);
    let is_special = |held: &KnownAddress| special_purpose(held.address.to_canonical()).is_some();
    match explanation.verdict {
        Verdict::Allow if !known.is_empty() && known.iter().all(is_special) => {
            denied(explanation, Reason::AddressSpecialPurpose.as_str().to_owned(), None)
        }
        Verdict::Allow | Verdict::Deny => explanation,
    }
}

/// The same, denied where the rule that permits it lets such a request not pass. No mode lifts that.
fn by_request(permit: Option<&Permit>, asked: &Asked, explanation: Explanation) -> Explanation {
    let inspection = permit.and_then(Permit::inspection);
    let (Some(inspection), Some(request)) = (inspection, &asked.request) else { return explanation };
    let explanation = Explanation { request: Some(request.to_string()), ..explanation };
    match (explanation.verdict, request.judge(inspection)) {
        (Verdict::Allow, Err(denial)) => {
            let rule = permit.and_then(Permit::source).map(ToString::to_string);
            denied(explanation, denial.reason().as_str().to_owned(), rule)
        }
        (Verdict::Allow | Verdict::Deny, _) => explanation,
    }
}

/// The same, denied where nothing is left of a bound.
fn by_bounds(explanation: Explanation) -> Explanation {
    let spent = explanation.budgets.iter().find(|budget| budget.refuses.is_some());
    let spent = spent.and_then(|budget| Some((budget.refuses.clone()?, budget.rule.clone())));
    match (explanation.verdict, spent) {
        (Verdict::Allow, Some((word, rule))) => denied(explanation, word, rule),
        (Verdict::Allow | Verdict::Deny, _) => explanation,
    }
}

fn denied(explanation: Explanation, word: String, rule: Option<String>) -> Explanation {
    let sentence = word.parse::<Reason>().ok().map(|reason| reason.explanation().to_owned());
    Explanation {
        verdict: Verdict::Deny,
        reason: Some(word),
        explanation: sentence,
        observed: None,
        rule,
        ..explanation
    }
}

fn reason_of(explanation: &Explanation) -> Option<Reason> {
    explanation.reason.as_ref().and_then(|word| word.parse().ok())
}

/// What the resolver would say: the daemon's, if it runs, else as the policy has it.
fn resolution(policy: &Policy, flow: &Flow, known: &Known, explanation: &Explanation) -> Resolution {
    if let Some(resolver) = &known.resolver {
        return resolver.clone();
    }
    let denial = flow.destination.name().and_then(|name| policy.lookup(name).err());
    let is_denied = denial.is_some() && explanation.verdict == Verdict::Deny;
    let answer = match (is_denied, reason_of(explanation)) {
        (false, _) => ResolverAnswer::Asked,
        (true, Some(Reason::ApprovalRequired)) => ResolverAnswer::Held,
        (true, _) => ResolverAnswer::Refused,
    };
    Resolution {
        reason: explanation.reason.clone().filter(|_| is_denied),
        rule: explanation.rule.clone().filter(|_| is_denied),
        ..Resolution::of(answer)
    }
}

fn by_policy(policy: &Policy, agent: &str, known: &Known, flow: &Flow) -> Explanation {
    let leave = leave(policy, &flow.destination);
    let open = leave.as_ref().map_or_else(Vec::new, open_by);
    let judged = known.decide(policy, flow);
    // Which address it goes to decides, of a name that is looked up.
    let (networks, denied_networks) = match (&leave, &judged) {
        (Some(_), Err(_)) => (networks(policy.allow(), flow), Vec::new()),
        (Some(_), Ok(_)) => (Vec::new(), networks(policy.deny(), flow)),
        (None, _) => (Vec::new(), Vec::new()),
    };
    let grants = known.told(&flow.destination);
    let open = open.iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect();
    let tls = judged.as_ref().ok().and_then(|permit| tls(policy, known, permit));
    let rule = judged.as_ref().ok().and_then(|permit| rule_of(policy, permit));
    let term = rule.and_then(|rule| told(rule.term));
    let risk = rule.and_then(|rule| rule.risk).map(|risk| risk.as_str().to_owned());
    let why = words_of_rule(policy, &judged);
    let budgets = judged.as_ref().map_or_else(|_| Vec::new(), |_| known.budgets_of(policy, rule));
    let answer = answer(agent, flow, judged, open);
    let answer = Explanation { tls, term, risk, why, budgets, networks, denied_networks, grants, ..answer };
    match &leave {
        Some(leave) => Explanation { types: types(leave), leak: leak(policy, leave), ..answer },
        None => answer,
    }
}

impl Asked {
    /// Reads the parts of a request; its port and protocol override what the host says.
    ///
    /// # Errors
    /// Says which part cannot be read.
    pub fn of(request: &ExplainRequest) -> Result<Self, AskedError> {
        let mut asked = Self::parse(&request.host)?;
        asked.port = request.port.or(asked.port);
        if let Some(word) = &request.protocol {
            asked.protocol = Some(Asked::parse_protocol(word)?);
        }
        Ok(asked)
    }
}

/// Leave to look the destination up, if it is a name.
fn leave(policy: &Policy, destination: &Destination) -> Option<Leave> {
    match destination {
        Destination::Name(name) => policy.lookup(name).ok(),
        Destination::Address(_) => None,
    }
}

/// Which ports and protocols a lookup opens.
fn open_by(leave: &Leave) -> Vec<(u16, Protocol)> {
    leave.openings().iter().map(|opening| (opening.port, opening.protocol)).collect()
}

fn types(leave: &Leave) -> Vec<String> {
    let allowed = RecordType::ALL.iter().filter(|kind| leave.has_type(kind.number()));
    allowed.map(ToString::to_string).collect()
}

fn leak(policy: &Policy, leave: &Leave) -> Option<LeakBounds> {
    leave.wildcard().map(|wildcard| LeakBounds {
        zone: wildcard.zone.to_string(),
        rule: wildcard.source.to_string(),
        bytes_a_day: wildcard.budget.bytes(),
        agent_bytes_a_day: policy.leaks().budget.bytes(),
    })
}

fn answer(agent: &str, flow: &Flow, judged: Result<Permit, Denial>, open: Vec<String>) -> Explanation {
    let (verdict, reason, rule, observed) = match judged {
        Ok(permit) => match permit.observed() {
            Some(Denial { reason, rule }) => (Verdict::Allow, None, rule.clone(), Some(*reason)),
            None => (Verdict::Allow, None, permit.source().cloned(), None),
        },
        Err(denial) => (Verdict::Deny, Some(denial.reason), denial.rule, None),
    };
    let would = reason.or(observed);
    Explanation {
        verdict,
        agent: agent.to_owned(),
        destination: flow.destination.to_string(),
        port: flow.port,
        protocol: flow.protocol.to_string(),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        observed: observed.map(|reason| reason.as_str().to_owned()),
        explanation: would.map(|reason: Reason| reason.explanation().to_owned()),
        rule: rule.map(|rule| rule.to_string()),
        remedy: None,
        open,
        types: Vec::new(),
        leak: None,
        tls: None,
        term: None,
        risk: None,
        why: None,
        networks: Vec::new(),
        denied_networks: Vec::new(),
        grants: Vec::new(),
        budgets: Vec::new(),
        gates: Vec::new(),
        resolver: None,
        change: None,
        section: None,
        request: None,
    }
}

/// The networks of `rules` at the port and protocol of `flow`, whichever address it goes to.
fn networks(rules: &[Rule], flow: &Flow) -> Vec<String> {
    let is_about = |rule: &&Rule| {
        matches!(rule.subject, Subject::Network(_))
            && rule.covers_port(flow.port)
            && rule.covers_protocol(flow.protocol)
    };
    rules.iter().filter(is_about).map(|rule| format!("{} ({})", rule.subject, rule.source)).collect()
}

fn rule_of<'a>(policy: &'a Policy, permit: &Permit) -> Option<&'a Rule> {
    policy.allow().iter().find(|rule| rule.id == permit.rule())
}

/// The reason that the rule gives which decides, be it one that denies.
fn words_of_rule(policy: &Policy, judged: &Result<Permit, Denial>) -> Option<String> {
    let rule = match judged {
        Ok(permit) => rule_of(policy, permit),
        Err(denial) if denial.reason == Reason::DeniedByRule => {
            policy.deny().iter().find(|rule| denial.rule.as_ref() == Some(&rule.source))
        }
        Err(_) => None,
    };
    rule?.reason.clone()
}

/// The keys of a term as a policy file has them; None where there is no end.
fn told(term: Term) -> Option<String> {
    let until = term.until.map(|until| format!("expires: {until}"));
    let within = term.within.map(|within| format!("for: {}s", within.as_secs()));
    let keys: Vec<String> = [until, within].into_iter().flatten().collect();
    (!keys.is_empty()).then(|| keys.join(", "))
}

fn tls(policy: &Policy, known: &Known, permit: &Permit) -> Option<TlsBounds> {
    let gate = match permit.protocol() {
        Protocol::Tls => true,
        Protocol::Quic => false,
        Protocol::Http | Protocol::Tcp | Protocol::Udp => return None,
    };
    let terms = &rule_of(policy, permit)?.tls;
    let inspection = terms.inspection.as_ref().map(|terms| InspectionBounds {
        allow: terms.allow.as_ref().map(|allow| allow.iter().map(ToString::to_string).collect()),
        max_body: terms.max_body,
        max_bodies: terms.max_bodies,
        inject: terms.inject.iter().map(|set| format!("{}: {}", set.header, set.credential)).collect(),
    });
    let gate = gate.then(|| terms.gate.as_str().to_owned());
    let read_by = known.reader.map(|path| path.as_str().to_owned());
    Some(TlsBounds { gate, ech: terms.ech.as_str().to_owned(), read_by, inspection })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        Agent, AgentId, AgentName, Grant, HostName, Injection, Inspection, Moment, NameTerms, Pattern,
        RequestPattern, RuleId, Source, Subject, TlsTerms,
    };
    use jiff::Timestamp;
    use std::time::Duration;

    #[test]
    fn an_explanation_is_what_the_enforcing_matcher_says() {
        let allowed = ask("https://Api.Ok.Test/some/path");
        assert_eq!((allowed.verdict, allowed.rule.as_deref()), (Verdict::Allow, Some("a.yaml:1")));
        assert_eq!(allowed.open, ["443/tls", "5432/tcp"]);
        let denied = ask("api.ok.test:22");
        assert_eq!(denied.reason.as_deref(), Some("port-not-allowed"));
        assert_eq!(denied.remedy.as_deref(), Some("- {host: api.ok.test, protocol: tcp, ports: [22]}"));
        assert_eq!(ask("evil.test").reason.as_deref(), Some("host-not-allowed"));
        assert_eq!(ask("192.0.2.1").reason.as_deref(), Some("address-not-granted"));
    }

    #[test]
    fn a_name_of_a_wildcard_is_explained_with_its_types_and_what_may_leak() {
        let leak = ask("api.ok.test").leak.unwrap();
        assert_eq!((leak.zone.as_str(), leak.rule.as_str()), ("ok.test", "a.yaml:1"));
        assert_eq!((leak.bytes_a_day, leak.agent_bytes_a_day), (4096, 8192));
        assert_eq!(ask("api.ok.test").types, ["MX", "TXT"]);
        assert_eq!(ask("evil.test").leak, None);
        let resolver = ask("dns.google");
        assert_eq!(resolver.reason.as_deref(), Some("resolver-not-allowed"));
    }

    #[test]
    fn an_allowed_flow_of_tls_is_explained_with_who_reads_it_and_what_is_asked_of_requests() {
        let tls = ask("exact.test").tls.unwrap();
        assert_eq!((tls.gate.as_deref(), tls.ech.as_str()), (Some("auto"), "grease"));
        let inspection = tls.inspection.unwrap();
        assert_eq!(inspection.allow.unwrap(), ["GET /repos/**"]);
        assert_eq!(
            (inspection.max_body, inspection.inject.as_slice()),
            (Some(10), &["token: forge".to_owned()][..])
        );
        assert_eq!(ask("api.ok.test:5432").tls, None);
        assert_eq!(ask("evil.test").tls, None);
    }

    #[test]
    fn an_agent_in_quarantine_is_told_so_where_a_wildcard_would_allow() {
        let agent = Agent::new(AgentId(1), AgentName::parse("build").unwrap(), policy().into());
        agent.quarantine(true);
        let known = Known::of(&agent, Moment(1));
        let ask = |text: &str| explain(&policy(), BIRTH, "build", &known, &Asked::parse(text).unwrap());
        let closed = ask("api.ok.test");
        assert_eq!((closed.verdict, closed.reason.as_deref()), (Verdict::Deny, Some("agent-quarantined")));
        assert_eq!((closed.rule.as_deref(), closed.open.len()), (Some("a.yaml:1"), 0));
        assert_eq!(
            closed.remedy.as_deref(),
            Some("- host: api.ok.test"),
            "quarantine closes wildcards alone"
        );
        assert_eq!(ask("evil.test").reason.as_deref(), Some("host-not-allowed"));
        assert_eq!(ask("exact.test").verdict, Verdict::Allow);
    }

    #[test]
    fn the_protocol_is_the_one_that_a_rule_opens_at_that_port() {
        let allowed = ask("api.ok.test:5432");
        assert_eq!((allowed.verdict, allowed.protocol.as_str()), (Verdict::Allow, "tcp"));
    }

    #[test]
    fn what_lookups_have_earned_is_told_and_counts() {
        let agent = Agent::new(AgentId(1), AgentName::parse("build").unwrap(), policy().into());
        let (address, now) = ("192.0.2.1".parse().unwrap(), Moment(1_000_000_000));
        let grant = |port, protocol, rule| Grant {
            name: HostName::parse("db.ok.test").unwrap(),
            address,
            port,
            protocol,
            rule: RuleId(rule),
            expires: now.after(Duration::from_secs(u64::from(rule))),
        };
        agent.remember(&[grant(5432, Protocol::Tcp, 2), grant(443, Protocol::Tls, 1)], now).unwrap();
        let known = Known::of(&agent, now);
        let ask = |text: &str| explain(&policy(), BIRTH, "build", &known, &Asked::parse(text).unwrap());
        let told: Vec<_> = ask("db.ok.test").grants.iter().map(|one| (one.port, one.seconds_left)).collect();
        assert_eq!(told, [(443, 1), (5432, 2)]);
        assert_eq!(ask("192.0.2.1:5432").verdict, Verdict::Allow, "what speaks no name needs none");
        assert_eq!(ask("192.0.2.1:9000").verdict, Verdict::Deny);
        assert_eq!(ask("192.0.2.2:5432").grants, []);
    }

    #[test]
    fn networks_that_decide_by_the_address_of_a_name_are_told() {
        let network = |id, ports| Rule {
            id: RuleId(id),
            source: Source { file: "a.yaml".into(), line: id },
            subject: Subject::Network("192.0.2.0/24".parse().unwrap()),
            ports,
            protocol: Some(Protocol::Tcp),
            ..policy().allow()[1].clone()
        };
        let allow = [policy().allow(), &[network(8, vec![9000])]].concat();
        let policy = Policy::new(allow, vec![network(9, Vec::new())]);
        let ask = |text: &str| {
            let asked = Asked { protocol: Some(Protocol::Tcp), ..Asked::parse(text).unwrap() };
            explain(&policy, BIRTH, "build", &Known::default(), &asked)
        };
        let (open, closed) = (ask("api.ok.test:9000"), ask("api.ok.test:5432"));
        assert_eq!(
            (open.verdict, open.networks),
            (Verdict::Deny, vec!["192.0.2.0/24 (a.yaml:8)".to_owned()])
        );
        assert_eq!((closed.verdict, closed.networks), (Verdict::Allow, Vec::<String>::new()));
        assert_eq!(closed.denied_networks, ["192.0.2.0/24 (a.yaml:9)"]);
        assert_eq!(ask("evil.test:9000").networks, Vec::<String>::new(), "it is not looked up");
    }

    fn ask(text: &str) -> Explanation {
        explain(&policy(), BIRTH, "build", &Known::default(), &Asked::parse(text).unwrap())
    }

    const BIRTH: Occasion = Occasion { time: Timestamp::UNIX_EPOCH, age: Duration::ZERO };

    #[test]
    fn a_rule_whose_term_is_over_is_named() {
        let until = Timestamp::from_second(10).unwrap();
        let term = Term { until: Some(until), within: Some(Duration::from_secs(60)) };
        let allow: Vec<Rule> = policy().allow().iter().map(|rule| Rule { term, ..rule.clone() }).collect();
        let ask = |time, age| {
            let occasion = Occasion { time, age: Duration::from_secs(age) };
            let asked = Asked::parse("exact.test").unwrap();
            explain(&Policy::new(allow.clone(), Vec::new()), occasion, "build", &Known::default(), &asked)
        };
        let live = ask(Timestamp::UNIX_EPOCH, 59);
        assert_eq!(live.term.as_deref(), Some("expires: 1970-01-01T00:00:10Z, for: 60s"));
        for over in [ask(until, 0), ask(Timestamp::UNIX_EPOCH, 60)] {
            assert_eq!((over.verdict, over.reason.as_deref()), (Verdict::Deny, Some("rule-expired")));
            assert_eq!((over.rule.as_deref(), over.term), (Some("a.yaml:3"), None));
        }
    }

    fn policy() -> Policy {
        let rule = |id, host, port, protocol| Rule {
            id: RuleId(id),
            source: Source { file: "a.yaml".into(), line: id },
            subject: Subject::Host(Pattern::parse(host).unwrap()),
            ports: vec![port],
            protocol: Some(protocol),
            private: false,
            reason: None,
            names: NameTerms { types: vec![15, 16], ..NameTerms::default() },
            tls: TlsTerms::default(),
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        };
        let inspection = Inspection {
            allow: Some(vec![RequestPattern::parse("GET /repos/**").unwrap()]),
            max_body: Some(10),
            inject: vec![Injection { header: "token".to_owned(), credential: "forge".to_owned() }],
            ..Inspection::default()
        };
        let tls = TlsTerms { inspection: Some(inspection.into()), ..TlsTerms::default() };
        let allow = vec![
            rule(1, "*.ok.test", 443, Protocol::Tls),
            rule(2, "*.ok.test", 5432, Protocol::Tcp),
            Rule { tls, ..rule(3, "exact.test", 443, Protocol::Tls) },
        ];
        Policy::new(allow, Vec::new())
    }
}
