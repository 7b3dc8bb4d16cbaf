//! Where the canary's probes go. Documentation addresses (RFC 5737, RFC 3849): they lead nowhere
//! but to the tap.

use crate::policy::{
    GateChoice, Grant, HostName, HostNameError, Moment, NameTerms, Pattern, Policy, Protocol, Rule, RuleId,
    Source, Subject, TlsTerms,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The canary's own address.
    pub fn own(self) -> IpAddr {
        self.near(1)
    }

    pub fn prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// A name earned leave to it, at the ports below.
    pub fn granted(self) -> IpAddr {
        self.near(10)
    }

    /// A server listens there that names earned leave to.
    pub fn gated(self) -> IpAddr {
        self.near(30)
    }

    /// Only the other name earned leave to it.
    fn gated_elsewhere(self) -> IpAddr {
        self.near(31)
    }

    /// As findings have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// Leave to it has ended.
    pub fn expired(self) -> IpAddr {
        self.near(20)
    }

    /// Nobody gave leave to it.
    pub fn denied(self) -> IpAddr {
        self.near(66)
    }

    /// In a network that a rule allows.
    pub fn in_network(self) -> IpAddr {
        self.far(10)
    }

    /// In that network too, but a rule denies it.
    pub fn denied_in_network(self) -> IpAddr {
        self.far(66)
    }

    /// A group that nobody else joins.
    pub fn group(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(239, 192, 77, 66).into(),
            Self::V6 => Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0xca, 0xa7, 0x66).into(),
        }
    }

    fn near(self, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, host).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }

    fn far(self, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, host).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()).into(),
        }
    }

    fn network(self) -> IpNet {
        IpNet::new_assert(self.far(0), self.prefix())
    }
}

/// Open to UDP and to TCP at once.
pub const BOTH: u16 = 4000;
/// Open to TCP only.
pub const TCP_ONLY: u16 = 4001;
/// Open to what the proxy lets through.
pub const GUARDED: u16 = 4443;
/// Open to what named its server to the programs.
pub const GATED: u16 = 4444;
/// Open to nothing.
pub const CLOSED: u16 = 4666;

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The names of the canary.
#[derive(Debug)]
pub struct Names {
    own: HostName,
    other: HostName,
}

pub const NAME: &str = "canary.invalid";
pub const OTHER_NAME: &str = "other.canary.invalid";

impl Names {
    pub fn parse() -> Result<Self, HostNameError> {
        Ok(Self { own: HostName::parse(NAME)?, other: HostName::parse(OTHER_NAME)? })
    }
}

/// What the canary may do, and nothing else.
pub fn policy(names: &Names) -> Policy {
    let of = |name: &HostName, protocol, ports: &[u16]| {
        rule(Subject::Host(Pattern::Exact(name.clone())), Some(protocol), ports)
    };
    let tls = |gate, rule| Rule { tls: TlsTerms { gate, ..TlsTerms::default() }, ..rule };
    let Names { own, other } = names;
    let mut allow = vec![
        of(own, Protocol::Udp, &[BOTH]),
        of(own, Protocol::Tcp, &[BOTH, TCP_ONLY]),
        tls(GateChoice::Proxy, of(own, Protocol::Tls, &[GUARDED])),
        tls(GateChoice::Kernel, of(own, Protocol::Tls, &[GATED])),
        tls(GateChoice::Kernel, of(other, Protocol::Tls, &[GATED])),
    ];
    let mut deny = Vec::new();
    for family in [Family::V4, Family::V6] {
        allow.push(rule(Subject::Network(family.network()), Some(Protocol::Udp), &[BOTH]));
        deny.push(rule(Subject::Network(family.denied_in_network().into()), None, &[]));
    }
    for (number, rule) in (1..).zip(allow.iter_mut().chain(&mut deny)) {
        rule.id = RuleId(number);
        rule.source.line = number;
    }
    Policy::new(allow, deny)
}

/// What the canary holds while it proves.
pub fn grants(names: &Names, expires: Moment) -> Vec<Grant> {
    let grant = |address, port, protocol, rule, expires| Grant {
        name: names.own.clone(),
        address,
        port,
        protocol,
        rule: RuleId(rule),
        expires,
    };
    let of = |family: Family| {
        let long_ago = Moment(1);
        [
            grant(family.granted(), BOTH, Protocol::Udp, 1, expires),
            grant(family.granted(), BOTH, Protocol::Tcp, 2, expires),
            grant(family.granted(), TCP_ONLY, Protocol::Tcp, 2, expires),
            grant(family.granted(), GUARDED, Protocol::Tls, 3, expires),
            grant(family.gated(), GATED, Protocol::Tls, 4, expires),
            Grant {
                name: names.other.clone(),
                ..grant(family.gated_elsewhere(), GATED, Protocol::Tls, 5, expires)
            },
            grant(family.expired(), BOTH, Protocol::Udp, 1, long_ago),
            grant(family.expired(), BOTH, Protocol::Tcp, 2, long_ago),
        ]
    };
    [Family::V4, Family::V6].into_iter().flat_map(of).collect()
}

fn rule(subject: Subject, protocol: Option<Protocol>, ports: &[u16]) -> Rule {
    Rule {
        id: RuleId(0),
        source: Source { file: "canary".into(), line: 0 },
        subject,
        ports: ports.to_vec(),
        protocol,
        private: true,
        reason: None,
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Default::default(),
        budget: Default::default(),
        mode: Default::default(),
        risk: None,
    }
}
