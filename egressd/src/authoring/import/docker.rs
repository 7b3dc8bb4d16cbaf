//! Network policies of Docker sandboxes: command lines, rules of the governance API in JSON, and kits.
//!
//! Read in docker/docs (`content/manuals/ai/sandboxes`: `governance/concepts.md`, `cli/access/network-local.md`,
//! `network-policies.md`). Of `sbx`, `*.example.com` is one label, `**.example.com` any number of them, and a denial wins.
//! Of `docker sandbox network proxy`, the most specific entry wins, and it is not said how deep `*.example.com` goes.
//! No port means every port.

use super::{
    ImportError,
    claude::AnyPort,
    draft::{At, Draft, Order, Remark, Section, worse},
    names::{Dialect, Opening, Reach, Reading, read as read_host, split_port, tcp, udp, web},
    tree::{self, Node},
};
use crate::{authoring::fate::Fate, policy::RequestPattern};
use std::collections::BTreeSet;

const SBX: Dialect =
    Dialect { plain: Reach::Only, star: Reach::OneLabel, two_stars: Some(Reach::Below), inner: Reach::Below };
const PROXY_ALLOW: Dialect = Dialect { two_stars: None, ..SBX };
const PROXY_BLOCK: Dialect = Dialect { star: Reach::Below, ..PROXY_ALLOW };

/// Translates command lines, or JSON, or the `network` of a kit in YAML.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let mut ports = AnyPort::default();
    let is_tree = text.trim_start().starts_with(['{', '[']);
    let is_kit = text.contains("allowedDomains") || text.contains("deniedDomains");
    if is_tree || is_kit {
        draft.choose(&[])?;
    }
    if is_tree {
        tree_of_rules(&tree::json(draft.file, text)?, &mut ports, draft);
    } else if is_kit {
        for document in tree::yaml(draft.file, text, 1)? {
            tree_of_rules(&document, &mut ports, draft);
        }
    } else {
        commands(text, &mut ports, draft)?;
    }
    if draft.is_empty() {
        return Err(ImportError::Nothing("no rule of a network", draft.file.to_owned()));
    }
    ports.report(draft);
    Ok(())
}

/// Rules wherever they stand in a tree.
fn tree_of_rules(node: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    if let (Some(resources), Some(decision)) = (node.get("resources"), node.get("decision")) {
        return rule(node, resources, decision, ports, draft);
    }
    for (key, value) in node.entries() {
        match key.as_str() {
            "allowedDomains" => each(value, &Terms::allow(), ports, draft),
            "deniedDomains" | "blockedDomains" => each(value, &Terms::deny(), ports, draft),
            _ => tree_of_rules(value, ports, draft),
        }
    }
    if node.entries().is_empty() && node.text().is_none() {
        for item in node.items() {
            tree_of_rules(item, ports, draft);
        }
    }
}

fn rule(node: &Node, resources: &Node, decision: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let actions = node.get("actions").map(Node::items).unwrap_or_default();
    let has = |word: &str| actions.is_empty() || actions.iter().any(|action| action.text() == Some(word));
    let (tcp, udp) = (has("connect:tcp"), has("connect:udp"));
    if !tcp && !udp {
        return; // A rule for files.
    }
    let act = if decision.text() == Some("allow") { Act::Allow } else { Act::Deny };
    each(resources, &Terms { act, tcp, udp, ..Terms::allow() }, ports, draft);
}

fn each(list: &Node, terms: &Terms, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    for entry in list.items() {
        let was = entry.show();
        resource(At { place: &entry.place, was: &was }, &was, terms, ports, draft);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Allow,
    Deny,
}

/// What a rule of `sbx` says besides its resources.
#[derive(Debug, Clone)]
struct Terms {
    act: Act,
    tcp: bool,
    udp: bool,
    methods: Vec<String>,
    path: Option<String>,
}

impl Terms {
    fn allow() -> Self {
        Self { act: Act::Allow, tcp: true, udp: false, methods: Vec::new(), path: None }
    }

    fn deny() -> Self {
        Self { act: Act::Deny, ..Self::allow() }
    }

    fn requests(&self) -> Vec<String> {
        let path = self.path.as_deref().unwrap_or("/**");
        let method = |word: &String| if word == "ANY" { "*".to_owned() } else { word.clone() };
        self.methods.iter().map(|word| format!("{} {path}", method(word))).collect()
    }
}

/// One resource of a rule of `sbx`.
fn resource(at: At<'_>, text: &str, terms: &Terms, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let text = if text == "all" { "**" } else { text };
    let (host, port) = split_port(text);
    let port = match port.transpose() {
        Ok(port) => port,
        Err(why) if terms.act == Act::Deny => return draft.cut(at, &why),
        Err(why) => return draft.lose(at, Section::Rules, &why),
    };
    let reading = read_host(host, SBX);
    match terms.act {
        Act::Deny => {
            let whole = "requests cannot be denied one by one, so the host is".to_owned();
            let remark = (!terms.methods.is_empty()).then_some((Fate::Narrowed, whole));
            draft.deny(at, reading, port.as_slice(), &[], remark);
        }
        Act::Allow => allow(at, reading, port, terms, ports, draft),
    }
}

fn allow(
    at: At<'_>,
    reading: Reading,
    port: Option<u16>,
    terms: &Terms,
    ports: &mut AnyPort,
    draft: &mut Draft<'_>,
) {
    let requests = terms.requests();
    if !requests.is_empty() {
        if let Some(why) = requests.iter().find_map(|request| RequestPattern::parse(request).err()) {
            return draft.lose(at, Section::Rules, &why.to_string());
        }
        if port.is_some_and(|port| port != 443) {
            return draft.lose(at, Section::Rules, "requests are read only in TLS on port 443");
        }
        let why = "the proxy ends TLS to read requests; patterns of paths are read as ours".to_owned();
        return draft.allow(at, reading, &tcp(&[443]), &requests, Some((Fate::Narrowed, why)));
    }
    let mut openings: Vec<Opening> = Vec::new();
    let mut remark: Remark = None;
    match port {
        Some(port) => {
            openings.extend(if terms.tcp { tcp(&[port]) } else { Vec::new() });
            openings.extend(if terms.udp { udp(&[port]) } else { Vec::new() });
        }
        None if terms.tcp => {
            ports.seen(at);
            openings = web();
            let without = (Fate::Narrowed, "a rule for UDP names its ports".to_owned());
            remark = worse(remark, terms.udp.then_some(without));
        }
        None => return draft.lose(at, Section::Rules, "a rule for UDP names its ports"),
    }
    draft.allow(at, reading, &openings, &[], remark);
}

fn commands(text: &str, ports: &mut AnyPort, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let mut entries: Vec<Entry> = Vec::new();
    let lines = logical_lines(text).into_iter().map(|(number, line)| (number, words(&line), line));
    let lines: Vec<(usize, Vec<String>, String)> = lines.collect();
    let names: BTreeSet<String> =
        lines.iter().filter_map(|(_, words, _)| sandbox(&plain(words)).map(str::to_owned)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let chosen = draft.choose(&names)?;
    for (number, words, line) in &lines {
        let place = format!("{}:{number}", draft.file);
        let at = At { place: &place, was: line };
        let plain = plain(words);
        if sandbox(&plain).is_some_and(|name| Some(name) != chosen) {
            continue;
        }
        match plain.as_slice() {
            [] => {}
            ["sbx", "policy", act @ ("allow" | "deny"), "network", rest @ ..] => {
                sbx_policy(at, if *act == "allow" { Act::Allow } else { Act::Deny }, rest, ports, draft);
            }
            ["sbx", "create" | "run", rest @ ..] => {
                for (flag, value) in flags(rest) {
                    if flag == "--deny-network" {
                        resource(At { place: &place, was: value }, value, &Terms::deny(), ports, draft);
                    }
                }
            }
            ["docker", "sandbox", "network", "proxy", rest @ ..] => proxy(at, rest, &mut entries, draft),
            [first, ..] if first.starts_with("--") => proxy(at, &plain, &mut entries, draft),
            [..] => draft.lose(at, Section::Rules, "not a command about a network policy"),
        }
    }
    if !entries.is_empty() {
        draft.decide_by(Order::FirstWins);
        entries.sort_by_key(Entry::rank);
        entries.iter().for_each(|entry| entry.write(ports, draft));
    }
    Ok(())
}

fn plain(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The one sandbox that a command is about; None: all of them.
fn sandbox<'w>(words: &[&'w str]) -> Option<&'w str> {
    match words {
        ["sbx", "policy", _, "network", rest @ ..] => {
            flags(rest).into_iter().find(|(flag, _)| *flag == "--sandbox").map(|(_, name)| name)
        }
        ["docker", "sandbox", "network", "proxy", rest @ ..] => operand(rest),
        [..] => None,
    }
}

fn sbx_policy(at: At<'_>, act: Act, rest: &[&str], ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let mut terms = Terms { act, ..Terms::allow() };
    let mut resources: Vec<&str> = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (flag, value) = word.split_once('=').map_or((*word, None), |(flag, value)| (flag, Some(value)));
        let mut value = || value.or_else(|| rest.next().copied()).unwrap_or_default();
        match flag {
            "--sandbox" | "--name" => drop(value()),
            "-g" | "--global" => {}
            "--method" => terms.methods = value().split(',').map(str::to_ascii_uppercase).collect(),
            "--path" => terms.path = Some(value().to_owned()),
            "--protocol" => {
                let protocols = value();
                terms.tcp = protocols.split(',').any(|word| word == "tcp");
                terms.udp = protocols.split(',').any(|word| word == "udp");
            }
            unknown if unknown.starts_with('-') => {
                let why = format!("the flag `{unknown}` is not known here");
                return match act {
                    Act::Allow => draft.lose(at, Section::Rules, &why),
                    Act::Deny => draft.cut(at, &why),
                };
            }
            _ => resources.extend(word.split(',').map(str::trim).filter(|resource| !resource.is_empty())),
        }
    }
    for text in resources {
        resource(At { place: at.place, was: text }, text, &terms, ports, draft);
    }
}

/// An entry of the proxy's lists, of which the most specific one wins.
#[derive(Debug)]
struct Entry {
    place: String,
    act: Act,
    host: String,
    port: Option<u16>,
}

impl Entry {
    /// Exact hosts come before wildcards, longer wildcards before shorter ones, a port before none.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, bool, bool) {
        let is_wildcard = self.host.contains('*');
        let length = if is_wildcard { self.host.len() } else { 0 };
        (is_wildcard, std::cmp::Reverse(length), self.port.is_none(), self.act == Act::Allow)
    }

    fn write(&self, ports: &mut AnyPort, draft: &mut Draft<'_>) {
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

fn proxy(at: At<'_>, rest: &[&str], entries: &mut Vec<Entry>, draft: &mut Draft<'_>) {
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

/// The first of `words` that is neither a flag nor the value of one.
fn operand<'w>(words: &[&'w str]) -> Option<&'w str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            None => return Some(word),
            Some(flag) if flag.contains('=') => {}
            Some(_) => drop(words.next()),
        }
    }
    None
}

/// The flags among `words` with their values, `--flag value` or `--flag=value`.
fn flags<'w>(words: &[&'w str]) -> Vec<(&'w str, &'w str)> {
    let mut flags = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            continue;
        }
        match word.split_once('=') {
            Some(pair) => flags.push(pair),
            None => flags.push((*word, words.next().copied().unwrap_or_default())),
        }
    }
    flags
}

/// Lines without comments and prompts, joined where one ends with `\`, with the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let (line, continues) = line.strip_suffix('\\').map_or((line, false), |line| (line.trim(), true));
        match lines.last_mut().filter(|_| is_open) {
            Some((_, held)) => {
                held.push(' ');
                held.push_str(line);
            }
            None if line.is_empty() || line.starts_with('#') => {}
            None => lines.push((index + 1, line.strip_prefix("$ ").unwrap_or(line).to_owned())),
        }
        is_open = continues;
    }
    lines
}

/// The words of a command line; quotes keep white space, and nothing is expanded.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == letter => quote = None,
            (None, '#') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None | Some(_), _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
