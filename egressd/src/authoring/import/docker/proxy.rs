//! The lists of `docker sandbox network proxy`.

use super::{Act, SBX, shell::flags};
use crate::authoring::{
    fate::Fate,
    import::{
        claude::AnyPort,
        draft::{At, Draft, Section},
        names::{Dialect, Numbers, Reach, read as read_host, split_port, tcp, web},
    },
};

// It has flags of their own for networks.
const PROXY_ALLOW: Dialect = Dialect { two_stars: None, numbers: Numbers::Addresses, ..SBX };
const PROXY_BLOCK: Dialect = Dialect { star: Reach::Below, ..PROXY_ALLOW };

/// An entry of the proxy's lists, of which the most specific one wins.
#[derive(Debug)]
pub(super) struct Entry {
    place: String,
    act: Act,
    host: String,
    port: Option<u16>,
}

impl Entry {
    /// Exact hosts come before wildcards, longer wildcards before shorter ones, a port before none.
    pub(super) fn rank(&self) -> (bool, std::cmp::Reverse<usize>, bool, bool) {
        let is_wildcard = self.host.contains('*');
        let length = if is_wildcard { self.host.len() } else { 0 };
        (is_wildcard, std::cmp::Reverse(length), self.port.is_none(), self.act == Act::Allow)
    }

    pub(super) fn write(&self, ports: &mut AnyPort, draft: &mut Draft<'_>) {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        let was = format!("{}{port}", self.host);
        let at = At { place: &self.place, was: &was };
        match self.act {
            Act::Allow => {
                let openings = self.port.map_or_else(web, |port| tcp(&[port]));
                if self.port.is_none() {
                    ports.seen(at);
                }
                let unsure =
                    (Fate::Narrowed, "how deep it goes is not said: one label is allowed".to_owned());
                let remark = self.host.starts_with("*.").then_some(unsure);
                draft.allow(at, read_host(&self.host, PROXY_ALLOW), &openings, &[], remark);
            }
            Act::Deny => draft.deny(at, read_host(&self.host, PROXY_BLOCK), self.port.as_slice(), &[], None),
        }
    }
}

pub(super) fn read(at: At<'_>, rest: &[&str], entries: &mut Vec<Entry>, draft: &mut Draft<'_>) {
    let mut by_default = "allow";
    for (flag, value) in flags(rest) {
        let own = format!("{flag} {value}");
        let at = At { place: at.place, was: &own };
        match flag {
            "--policy" => by_default = value,
            "--allow-host" | "--block-host" => {
                let act = if flag == "--allow-host" { Act::Allow } else { Act::Deny };
                let (host, port) = split_port(value);
                match (port.transpose(), act) {
                    (Ok(port), _) => entries.push(Entry {
                        place: at.place.to_owned(),
                        act,
                        host: host.to_ascii_lowercase(),
                        port,
                    }),
                    (Err(why), Act::Allow) => draft.lose(at, Section::Rules, &why),
                    (Err(why), Act::Deny) => draft.cut(at, &why),
                }
            }
            "--block-cidr" | "--allow-cidr" => {
                draft.note(at, Fate::Exact, "it is about hosts that no entry allows, which are denied here")
            }
            "--bypass-host" | "--bypass-cidr" => {
                draft.note(at, Fate::Exact, "TLS is ended only for rules with `inspect: true`")
            }
            _ => draft.lose(at, Section::Rules, "the flag is not known here"),
        }
    }
    if by_default != "deny" && !rest.is_empty() {
        let at = At { place: at.place, was: "--policy allow, or none" };
        draft.lose(at, Section::Rules, "no rule allows every host: name those that are needed");
    }
}
