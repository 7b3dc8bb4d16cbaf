//! Rules that people lend to an agent by a command: read by what reads those of files.

use super::{
    diagnostic::{ConfigError, Diagnostic},
    document::Document,
    file::AllowRule,
    identity::RuleIds,
    inspect, rule, term,
};
use crate::policy::{Asked, Budget, Destination, Protocol, Rule};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_saphyr::Spanned;
use std::{net::IpAddr, time::Duration};

/// A rule that somebody wants to lend, in the words of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// A name, a wildcard, an address, a network, or a URL; each but the last with a port or without.
    pub destination: String,
    /// None: `http` for names at port 80, `tls` for names at others, `tcp` for addresses.
    pub protocol: Option<String>,
    /// How long, as in `1h`.
    pub lasts: String,
    /// Flows that may start.
    pub uses: Option<u64>,
    /// What may be sent, as in `10MB`.
    pub bytes: Option<String>,
    /// Whether the answers for a name may hold private addresses.
    pub private: bool,
    pub reason: Option<String>,
}

/// The longest that a rule is lent: what is needed for longer belongs into a policy.
pub const MAX_LENT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Wish {
    /// The rule that counts from `now` on.
    ///
    /// # Errors
    /// Shows what of it no rule may say.
    pub fn compile(&self, now: Timestamp) -> Result<Rule, ConfigError> {
        let until = now.checked_add(lasting(&self.lasts)?).map_err(|_| too_long(&self.lasts))?;
        let budget = Budget { max_bytes: self.max_bytes()?, max_connections: self.max_uses()?, rate: None };
        let destination = Wanted::read(&self.destination)?;
        lent(&LentRule {
            host: destination.host,
            ports: destination.port.into_iter().collect(),
            protocol: self.protocol.clone().or(destination.protocol),
            private: self.private,
            reason: self.reason.clone(),
            until,
            budget,
        })
    }

    fn max_bytes(&self) -> Result<Option<u64>, ConfigError> {
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let text = format!("bytes: {}\n", quoted(bytes));
        let document = Document::new(COMMAND, &text);
        let size: Size = document.parse()?;
        match inspect::octets(&document, &size.bytes)? {
            0 => Err(nothing(&document, &size.bytes).into()),
            octets => Ok(Some(octets)),
        }
    }

    fn max_uses(&self) -> Result<Option<u64>, ConfigError> {
        match self.uses {
            Some(0) => {
                Err(Diagnostic::general("`uses` is 0, which lets nothing pass: it is 1 or more").into())
            }
            uses => Ok(uses),
        }
    }
}

/// How long that is, as in `1h`; at most [`MAX_LENT`].
///
/// # Errors
/// Shows what of it cannot be read.
pub fn lasting(text: &str) -> Result<Duration, ConfigError> {
    let document = Document::new(COMMAND, &format!("for: {}\n", quoted(text)));
    let lasts: For = document.parse()?;
    let lasts = term::duration(&document, &lasts.lasts)?;
    if lasts > MAX_LENT { Err(too_long(text).into()) } else { Ok(lasts) }
}

/// A rule that was lent, in words that outlive a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentRule {
    /// A name, a wildcard, an address or a network.
    pub host: String,
    /// None: the usual one of the protocol.
    pub ports: Vec<u16>,
    pub protocol: Option<String>,
    pub private: bool,
    pub reason: Option<String>,
    pub until: Timestamp,
    pub budget: Budget,
}

/// The rule that `lent` says.
///
/// # Errors
/// Shows what of it no rule may say.
pub fn lent(lent: &LentRule) -> Result<Rule, ConfigError> {
    let network = lent.host.parse::<IpNet>().or_else(|_| lent.host.parse::<IpAddr>().map(single)).ok();
    let host = match (&network, lent.host.as_str()) {
        (Some(network), _) => format!("cidr: {}", quoted(&network.to_string())),
        (None, host) => format!("host: {}", quoted(host)),
    };
    let protocol = match (&lent.protocol, &network, lent.ports.as_slice()) {
        (Some(word), _, _) => word,
        (None, Some(_), _) => Protocol::Tcp.as_str(),
        (None, None, [80]) => Protocol::Http.as_str(),
        (None, None, _) => Protocol::Tls.as_str(),
    };
    let needs_port = protocol == Protocol::Tcp.as_str() || protocol == Protocol::Udp.as_str();
    if needs_port && lent.ports.is_empty() {
        let title = format!("which port? write `{}`", with_port(&lent.host));
        return Err(Diagnostic::general(title).into());
    }
    if lent.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Diagnostic::general(format!("the reason has more than {MAX_REASON} octets")).into());
    }
    let ports: Vec<String> = lent.ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { String::new() } else { format!(", ports: [{}]", ports.join(", ")) };
    let private = if lent.private { ", private: true" } else { "" };
    // The end tells the rule from all others about the same destination, also from those lent before.
    let until = quoted(&lent.until.to_string());
    let text = format!("- {{{host}, protocol: {}{ports}{private}, expires: {until}}}\n", quoted(protocol));
    let document = Document::new(COMMAND, &text);
    let rules: Vec<Spanned<AllowRule>> = document.parse()?;
    let mut compiled = Vec::new();
    for rule in &rules {
        compiled.extend(rule::allow(&document, rule, None, &mut RuleIds::default())?);
    }
    let rule = compiled.pop().ok_or_else(|| Diagnostic::general("there is nothing to allow"))?;
    Ok(Rule { budget: lent.budget, reason: lent.reason.clone(), ..rule })
}

/// Octets of a reason.
const MAX_REASON: usize = 256;

/// What stands for the file in messages.
const COMMAND: &str = "egressctl allow";

/// A destination as it was written.
struct Wanted {
    host: String,
    port: Option<u16>,
    protocol: Option<String>,
}

impl Wanted {
    fn read(text: &str) -> Result<Self, Diagnostic> {
        if let Ok(Asked { destination, port, protocol, .. }) = Asked::parse(text) {
            let host = match destination {
                Destination::Name(name) => name.to_string(),
                Destination::Address(address) => address.to_string(),
            };
            let protocol = protocol.map(|protocol| protocol.to_string());
            return Ok(Self { host, port, protocol });
        }
        let (host, port) = split_port(text);
        let read = |port: &str| {
            let number = port.parse::<u16>().ok().filter(|port| *port != 0);
            number.ok_or_else(|| Diagnostic::general(format!("`{port}` is not a port (1 to 65535)")))
        };
        Ok(Self { host: host.to_owned(), port: port.map(read).transpose()?, protocol: None })
    }
}

/// Parts `*.example.com:443`, `192.0.2.0/24:22` and `[2001:db8::/32]:22`; what is left of a host that is none
/// is shown by the compiler.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    let is_digits = |port: &str| !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
    match text.rsplit_once(':') {
        Some((host, port)) if text.parse::<IpNet>().is_err() && is_digits(port) => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

fn with_port(host: &str) -> String {
    if host.contains(':') { format!("[{host}]:PORT") } else { format!("{host}:PORT") }
}

fn single(address: IpAddr) -> IpNet {
    IpNet::from(address.to_canonical())
}

/// `text` as a scalar: of JSON, which YAML reads alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn too_long(lasts: &str) -> Diagnostic {
    let days = MAX_LENT.as_secs() / (24 * 3600);
    Diagnostic::general(format!("`{lasts}` is longer than {days} days, the most that is granted"))
        .help("what is needed for longer belongs into a policy: a rule with `expires`")
}

fn nothing(document: &Document, size: &Spanned<String>) -> Diagnostic {
    document.error(size.referenced, "no octets would let nothing pass").help("for example: 10MB")
}

#[derive(serde::Deserialize)]
struct For {
    #[serde(rename = "for")]
    lasts: Spanned<String>,
}

#[derive(serde::Deserialize)]
struct Size {
    bytes: Spanned<String>,
}
