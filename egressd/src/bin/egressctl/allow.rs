//! `egressctl allow`: a destination for a time.

use crate::{
    grants::{bounds, destination},
    output::{Colour, Format, json, sanitise},
    tail::clock,
};
use egressd::control::{Client, protocol::AllowRequest};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Allow a running agent a destination for a time
///
/// It is as if its policy had one rule more. Deny rules win over it. What was allowed, by whom and why is in
/// the audit log; `egressctl grants` lists it, and `egressctl revoke` takes it back. It survives restarts of
/// the daemon, and ends with its agent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is allowed, 2 it is not")]
pub struct Allow {
    /// Name, wildcard, address, network or URL; a name without a port means 443
    #[arg(value_name = "HOST[:PORT]")]
    destination: String,

    /// Name or number of the agent [default: the only one that runs]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,

    /// How long, such as `30m` or `2h`; at most 30 days
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    lasts: String,

    /// How many flows may start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    uses: Option<u64>,

    /// How much may be sent, such as `500kB` or `10MB`
    #[arg(long, value_name = "SIZE")]
    bytes: Option<String>,

    /// Why, for whoever reads the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// What is to be spoken [default: tls; at port 80 http; to addresses tcp]
    #[arg(long, value_parser = ["tls", "http", "tcp", "udp", "quic"])]
    protocol: Option<String>,

    /// Also where the name has private addresses
    #[arg(long)]
    private: bool,
}

impl Allow {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let Self { destination: wanted, agent, lasts, uses, bytes, reason, protocol, private } = self;
        let request =
            AllowRequest { agent, destination: wanted, protocol, lasts, uses, bytes, private, reason };
        let grant = client.allow(&request)?;
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &grant)?,
            Format::Text => {
                let colour = Colour::of(&stdout());
                let (agent, id) = (sanitise(&grant.agent), grant.id);
                let what = format!("{}, {}", destination(&grant), grant.protocol);
                let until = std::iter::once(format!("until {}", clock(grant.until)));
                let terms: Vec<String> = until.chain(bounds(&grant)).collect();
                let (word, what, terms) = (colour.allowed("allowed"), sanitise(&what), terms.join(", "));
                writeln!(out, "{word}: {what}, for agent `{agent}` {terms} (grant {id})")?;
                for note in &grant.notes {
                    writeln!(out, "  {} {}", colour.warned("note:"), sanitise(note))?;
                }
                writeln!(out, "  take it back with: {}", colour.hint(&format!("egressctl revoke {id}")))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The command that would allow what was denied, for an hour.
pub fn suggestion(host: &str, port: Option<u16>, protocol: &str, agent: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let (port, protocol) = match (port, protocol) {
        (None | Some(443), "tls" | "dns") => (String::new(), String::new()),
        (Some(80), "http") => (":80".to_owned(), String::new()),
        (port, protocol) => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let protocol = if protocol == "dns" { String::new() } else { format!(" --protocol {protocol}") };
            (port, protocol)
        }
    };
    format!("egressctl allow {host}{port}{protocol} --agent {agent} --for 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_says_no_more_than_it_has_to() {
        for (host, port, protocol, expected) in [
            ("a.test", Some(443), "tls", "a.test"),
            ("a.test", None, "dns", "a.test"),
            ("a.test", Some(8443), "tls", "a.test:8443 --protocol tls"),
            ("a.test", Some(80), "http", "a.test:80"),
            ("192.0.2.7", Some(22), "tcp", "192.0.2.7:22 --protocol tcp"),
            ("2001:db8::1", Some(22), "tcp", "[2001:db8::1]:22 --protocol tcp"),
        ] {
            let line = suggestion(host, port, protocol, "build");
            assert_eq!(line, format!("egressctl allow {expected} --agent build --for 1h"));
        }
    }
}
