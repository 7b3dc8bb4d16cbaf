//! What is known of an agent beside its policy, for explanations.

use super::super::{Daemon, agents::Running, terms::occasion};
use crate::{
    audit::Path,
    config::Policies,
    control::{
        self, Asked, Known,
        protocol::{
            ExplainRequest, Explanation, KnownAddress, LeakCharge, Refusal, RefusalKind, Resolution,
            ResolverAnswer,
        },
    },
    datapath,
    dns::{Foresight, Foretold, Price, Unanswered},
    policy::{AgentName, Denial, Grant, Grants, Moment, Reason, Workload},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

impl Daemon {
    pub(super) fn explain(&self, request: &ExplainRequest) -> Result<Explanation, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Invalid, error);
        let asked = Asked::of(request).map_err(|error| invalid(&error))?;
        let name = request.agent.as_deref().unwrap_or("default");
        let name = AgentName::parse(name).map_err(|error| invalid(&error))?;
        let running = self.agents.all().into_iter().find(|running| *running.agent.name() == name);
        let Some(running) = running else {
            let policies = &self.policies.load().policies;
            if request.agent.is_some() && policies.section_for(&Workload::named(name.clone())).is_none() {
                return Err(self.nobody_is(&name, policies));
            }
            let policy = policies.for_agent(&name);
            let birth = occasion(Some(datapath::now()));
            return Ok(control::explain(&policy, birth, name.as_str(), &Known::default(), &asked));
        };
        let (given, occasion) = (running.agent.whole_policy(), occasion(running.birth.born));
        Ok(control::explain(&given, occasion, name.as_str(), &self.known_of(&running, &asked), &asked))
    }

    fn nobody_is(&self, name: &AgentName, policies: &Policies) -> Refusal {
        let mut known: BTreeSet<String> = policies.names().map(ToString::to_string).collect();
        known.extend(self.agents.all().iter().map(|running| running.agent.name().to_string()));
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let why = format!("no agent `{name}` runs, and no policy is for it: there is {known}");
        Refusal::new(RefusalKind::Unknown, why)
    }

    fn known_of(&self, running: &Running, asked: &Asked) -> Known {
        let name = asked.destination.name();
        let mut known = Known::of(&running.agent, datapath::now());
        known.budgets = Some(self.budget_states(running));
        known.resolver = name.map(|name| resolution(self.names.foresee(&running.agent, name)));
        known.reader = self.reader(running, asked);
        known
    }

    /// Who would read the server name, of a flow that is allowed.
    fn reader(&self, running: &Running, asked: &Asked) -> Option<Path> {
        let policy = running.agent.policy();
        let flow = asked.flow(&policy);
        let permit = policy.decide(&flow, &Grants::default(), Moment::default()).ok()?;
        let grant = Grant {
            name: flow.destination.name()?.clone(),
            // Any: the way is that of the rule.
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: flow.port,
            protocol: flow.protocol,
            rule: permit.rule(),
            expires: Moment::default(),
        };
        self.fence.reader(&running.agent, &grant)
    }
}

fn resolution(Foresight { foretold, addresses, price, servers }: Foresight) -> Resolution {
    let known = |(address, rest): (IpAddr, Duration)| KnownAddress { address, seconds_left: rest.as_secs() };
    let charge = |Price { bits, zone_left, agent_left }| LeakCharge {
        bits,
        zone_left_bits: zone_left,
        agent_left_bits: agent_left,
    };
    let told = Resolution {
        addresses: addresses.into_iter().map(known).collect(),
        upstreams: servers.iter().map(ToString::to_string).collect(),
        charge: price.map(charge),
        ..Resolution::of(ResolverAnswer::Known)
    };
    let without = |answer, Unanswered { code, info, detail }, told| Resolution {
        answer,
        code: Some(code.to_owned()),
        ede: Some(info),
        detail,
        ..told
    };
    match foretold {
        Foretold::Kept => told,
        Foretold::Absent => Resolution { answer: ResolverAnswer::Absent, ..told },
        Foretold::Asked => Resolution { answer: ResolverAnswer::Asked, ..told },
        Foretold::Failed(unanswered) => without(ResolverAnswer::Failed, unanswered, told),
        Foretold::Hidden(detail) => {
            let told = by(Denial::because(Reason::HostNotAllowed), told);
            Resolution { answer: ResolverAnswer::Hidden, code: Some("NXDOMAIN".to_owned()), detail, ..told }
        }
        Foretold::Held(denial) => by(denial, Resolution { answer: ResolverAnswer::Held, ..told }),
        Foretold::Refused(denial, unanswered) => {
            by(denial, without(ResolverAnswer::Refused, unanswered, told))
        }
    }
}

fn by(Denial { reason, rule }: Denial, told: Resolution) -> Resolution {
    Resolution { reason: Some(reason.as_str().to_owned()), rule: rule.map(|rule| rule.to_string()), ..told }
}
