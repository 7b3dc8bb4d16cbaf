//! Command lines that say what sandboxes may reach.

use super::{
    Act, Terms,
    proxy::{self, Entry},
    resource,
    shell::{flags, logical_lines, operand, words},
};
use crate::authoring::import::{
    ImportError,
    claude::AnyPort,
    draft::{At, Draft, Order, Section},
};
use std::collections::BTreeSet;

pub(super) fn read(text: &str, ports: &mut AnyPort, draft: &mut Draft<'_>) -> Result<(), ImportError> {
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
            ["docker", "sandbox", "network", "proxy", rest @ ..] => {
                proxy::read(at, rest, &mut entries, draft)
            }
            [first, ..] if first.starts_with("--") => proxy::read(at, &plain, &mut entries, draft),
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
