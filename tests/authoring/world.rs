//! What translations are asked: the policy that the daemon would enforce.

use egressd::{
    authoring::{
        Fate,
        import::{Imported, Kind, Options, Widening, import},
    },
    config::{Loader, Manager, Registries, Site, ToolError},
    policy::{AgentName, Destination, Flow, Grants, HostName, Moment, Policy, Protocol},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub fn options() -> Options {
    Options { agent: AgentName::parse("default").unwrap(), only: None, widening: Widening::Never }
}

/// A translation with the policy that it compiles to, before anybody has approved anything.
#[derive(Debug)]
pub struct Translation {
    pub imported: Imported,
    pub policy: Arc<Policy>,
}

/// Translates `text`, and compiles what comes of it.
pub fn translate(kind: Kind, text: &str) -> Translation {
    translate_with(kind, text, &options())
}

pub fn translate_with(kind: Kind, text: &str, options: &Options) -> Translation {
    let imported = import(kind, "f", text, options).unwrap_or_else(|error| panic!("{kind}: {error}\n{text}"));
    let policy = Arc::new(compile(&imported.policy, &options.agent).at(None));
    Translation { imported, policy }
}

/// Compiles as the daemon does, with our allowlists, on a machine whose package tools know one mirror.
pub fn compile(policy: &str, agent: &AgentName) -> Arc<Policy> {
    let allowlists = [PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../allowlists")];
    let loader = Loader::new(&allowlists).with_registries(&OneMirror);
    let policies =
        loader.load_str("p.yaml", policy, Path::new("")).unwrap_or_else(|error| panic!("{error}\n{policy}"));
    policies.for_agent(agent)
}

struct OneMirror;

impl Registries for OneMirror {
    fn sites(&self, _: Manager) -> Result<Vec<Site>, ToolError> {
        Ok(Site::parse("https://mirror.test/").into_iter().collect())
    }
}

impl Translation {
    /// Checks `host:port/protocol` one by one; the port and the protocol are 443 and tls unless said.
    pub fn allows(&self, destinations: &[&str]) -> &Self {
        for destination in destinations {
            assert!(allows(&self.policy, destination), "{destination} is denied\n{}", self.imported.policy);
        }
        self
    }

    pub fn denies(&self, destinations: &[&str]) -> &Self {
        for destination in destinations {
            assert!(!allows(&self.policy, destination), "{destination} is allowed\n{}", self.imported.policy);
        }
        self
    }

    /// Checks that the line about `was` shares the fate, and returns why.
    pub fn says(&self, fate: Fate, was: &str) -> String {
        let lines = self.imported.report.iter();
        let found = lines.clone().find(|line| line.fate == fate && line.was.contains(was));
        let found = found.unwrap_or_else(|| panic!("no {fate} {was}: {:#?}", self.imported.report));
        if fate != Fate::Exact {
            let comment = found.to_string();
            assert!(self.imported.policy.contains(&comment), "{comment}\n{}", self.imported.policy);
        }
        found.why.clone().unwrap_or_default()
    }

    /// Checks that nothing but exact lines is reported.
    pub fn is_exact(&self) -> &Self {
        let inexact: Vec<String> = self
            .imported
            .report
            .iter()
            .filter(|line| line.fate != Fate::Exact)
            .map(ToString::to_string)
            .collect();
        assert!(inexact.is_empty(), "{inexact:#?}");
        self
    }
}

/// What the enforcing matcher says of `host[:port][/protocol]`.
pub fn allows(policy: &Policy, destination: &str) -> bool {
    let (place, protocol) = destination.rsplit_once('/').unwrap_or((destination, "tls"));
    let protocol = Protocol::ALL.into_iter().find(|known| known.as_str() == protocol).expect("a protocol");
    let (host, port) =
        match place.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
            Some((host, port)) => (host, port.parse().unwrap()),
            None => (place, 443),
        };
    let destination = match host.trim_matches(['[', ']']).parse() {
        Ok(address) => Destination::Address(address),
        Err(_) => Destination::Name(HostName::parse(host).unwrap()),
    };
    let flow = Flow { destination, port, protocol, address: None };
    policy.decide(&flow, &Grants::default(), Moment::default()).is_ok()
}
