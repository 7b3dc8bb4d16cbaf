//! The format of `cases/*.txt`, which `cases/README.md` describes.

use egressd::{
    config::load_str,
    policy::{AgentName, Destination, Flow, Grant, Grants, HostName, Moment, Policy, Protocol, Reason},
};
use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

/// A policy, the grants that answers earned under it, and the time.
pub struct Case {
    policy: Arc<Policy>,
    grants: Grants,
    now: Moment,
}

impl Case {
    /// Compiles what stands above `---`.
    pub fn new(file: &str, section: &str) -> Self {
        let agent: String = section.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!("version: 1\nagents:\n  default:\n{agent}");
        let policies = load_str(file, &text, Path::new(""), &[]).unwrap_or_else(|error| panic!("{error}"));
        let policy = policies.for_agent(&AgentName::parse("default").unwrap());
        Self { policy, grants: Grants::default(), now: Moment(1) }
    }

    /// Runs one line; what does not hold is returned.
    pub fn run(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["allow", destination] => self.allows(&flow(destination, None)?),
            ["allow", destination, "at", address] => self.allows(&flow(destination, Some(address))?),
            ["deny", destination, reason] => self.denies(&flow(destination, None)?, reason, None),
            ["deny", destination, reason, "by", rule] => {
                self.denies(&flow(destination, None)?, reason, Some(rule))
            }
            ["deny", destination, "at", address, reason] => {
                self.denies(&flow(destination, Some(address))?, reason, None)
            }
            ["deny", destination, "at", address, reason, "by", rule] => {
                self.denies(&flow(destination, Some(address))?, reason, Some(rule))
            }
            ["lookup", name, "allow"] => {
                self.policy.lookup(&host(name)?).map(drop).map_err(|denial| format!("denied: {denial}"))
            }
            ["lookup", name, "deny", reason] => match self.policy.lookup(&host(name)?) {
                Ok(_) => Err("allowed".to_owned()),
                Err(denial) => same(denial.reason.as_str(), reason),
            },
            ["grant", name, address, seconds] => self.grant(name, address, seconds),
            ["wait", seconds] => {
                self.now = self.now.after(duration(seconds)?);
                Ok(())
            }
            _ => Err("not a line of a case (see README.md)".to_owned()),
        }
    }

    fn allows(&self, flow: &Flow) -> Result<(), String> {
        let permit = self.policy.decide(flow, &self.grants, self.now);
        permit.map(drop).map_err(|denial| format!("denied: {denial}"))
    }

    fn denies(&self, flow: &Flow, reason: &str, rule: Option<&str>) -> Result<(), String> {
        let Err(denial) = self.policy.decide(flow, &self.grants, self.now) else {
            return Err("allowed".to_owned());
        };
        same(denial.reason.as_str(), reason)?;
        let Some(rule) = rule else { return Ok(()) };
        let source = denial.rule.ok_or("no rule is named")?;
        same(&(source.line - HEADER).to_string(), rule)
    }

    /// Grants as the resolver does: what the lookup of the name opens, at this address.
    fn grant(&mut self, name: &str, address: &str, seconds: &str) -> Result<(), String> {
        let (address, port, protocol) = split(address)?;
        let address = address.parse::<IpAddr>().map_err(|error| error.to_string())?;
        let leave = self.policy.lookup(&host(name)?).map_err(|denial| format!("denied: {denial}"))?;
        let mut openings = leave.openings().iter();
        let opening = openings
            .find(|opening| (opening.port, opening.protocol) == (port, protocol))
            .ok_or("no rule opens this port of the name")?;
        let expires = self.now.after(duration(seconds)?);
        let grant = Grant { name: host(name)?, address, port, protocol, rule: opening.rule, expires };
        self.grants.insert(&[grant], self.now).map_err(|error| error.to_string())
    }
}

/// The lines that [`Case::new`] puts in front.
const HEADER: u32 = 3;

fn same(found: &str, wanted: &str) -> Result<(), String> {
    if wanted.parse::<u32>().is_err() {
        wanted.parse::<Reason>().map_err(|error| error.to_string())?;
    }
    if found == wanted { Ok(()) } else { Err(format!("is `{found}`, not `{wanted}`")) }
}

fn flow(destination: &str, address: Option<&str>) -> Result<Flow, String> {
    let (named, port, protocol) = split(destination)?;
    let destination = match named.parse() {
        Ok(address) => Destination::Address(address),
        Err(_) => Destination::Name(host(named)?),
    };
    let address =
        address.map(|text| text.parse().map_err(|_| format!("`{text}` is no address"))).transpose()?;
    Ok(Flow { destination, port, protocol, address })
}

/// `HOST:PORT`, `[ADDRESS]:PORT` or `ADDRESS:PORT`, with `/PROTOCOL` where it is not TLS.
fn split(text: &str) -> Result<(&str, u16, Protocol), String> {
    let (rest, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tls),
        Some((rest, "tls")) => (rest, Protocol::Tls),
        Some((rest, "http")) => (rest, Protocol::Http),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((_, other)) => return Err(format!("`{other}` is no protocol")),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port"))?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port, protocol))
}

fn host(text: &str) -> Result<HostName, String> {
    HostName::parse(text).map_err(|error| format!("`{text}`: {error}"))
}

fn duration(seconds: &str) -> Result<Duration, String> {
    seconds.parse().map(Duration::from_secs).map_err(|_| format!("`{seconds}` is no number of seconds"))
}
