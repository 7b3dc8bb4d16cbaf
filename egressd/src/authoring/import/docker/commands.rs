//! Command lines that say what sandboxes may reach.

use super::{
    Act, Terms,
    proxy::{self, Entry},
    resource,
    shell::{self, Line, flags, operand},
};
use crate::authoring::{
    fate::{Fate, quote},
    import::{
        ImportError,
        claude::AnyPort,
        draft::{At, Draft, Order, Section},
    },
};
use std::collections::BTreeSet;

pub(super) fn read(text: &str, ports: &mut AnyPort, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let lines = shell::lines(text);
    let names: BTreeSet<String> = lines.iter().filter_map(sandbox).map(str::to_owned).collect();
    let names: Vec<String> = names.into_iter().collect();
    let chosen = draft.choose(&names)?;
    let mut entries: Vec<Entry> = Vec::new();
    for line in &lines {
        if sandbox(line).is_none_or(|name| Some(name) == chosen) {
            command(line, &mut entries, ports, draft);
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    // Of entries the most specific one decides, of rules the one that denies.
    if let Some(line) = lines.iter().find(|line| plain(line).first() == Some(&"sbx")) {
        let place = format!("{}:{}", draft.file, line.number);
        let why = "its rules are read otherwise than the lists of `docker sandbox`: put them in a file of their own";
        return Err(ImportError::Syntax { place, why: why.to_owned() });
    }
    draft.decide_by(Order::FirstWins);
    entries.sort_by_key(Entry::rank);
    entries.iter().for_each(|entry| entry.write(ports, draft));
    Ok(())
}

fn command(line: &Line, entries: &mut Vec<Entry>, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let place = format!("{}:{}", draft.file, line.number);
    let at = At { place: &place, was: &line.text };
    match plain(line).as_slice() {
        [] if line.words.is_empty() => {}
        ["sbx", "policy", "allow", "network", rest @ ..] => sbx_policy(at, Act::Allow, rest, ports, draft),
        ["sbx", "policy", "deny", "network", rest @ ..] => sbx_policy(at, Act::Deny, rest, ports, draft),
        ["sbx", "policy", "rm", "network", rest @ ..] => remove(at, rest, draft),
        ["sbx", "policy", "reset", ..] => take_back(at, &[], draft),
        ["sbx", "policy", "set-default" | "init", "deny-all", ..] => {
            draft.note(at, Fate::Exact, "what no rule allows is denied here, too");
        }
        ["sbx", "policy", "set-default" | "init", ..] => {
            draft.lose(
                at,
                Section::Rules,
                "what it allows is not in this file: name the hosts that are needed",
            );
        }
        ["sbx", "policy", "ls" | "log" | "check", ..] => draft.note(at, Fate::Exact, "it changes nothing"),
        ["sbx", "create" | "run", rest @ ..] => {
            for (flag, value) in flags(rest) {
                if flag == "--deny-network" {
                    resource(At { place: &place, was: value }, value, &Terms::deny(), ports, draft);
                }
            }
        }
        ["docker", "sandbox", "network", "proxy", rest @ ..] => proxy::read(at, rest, entries, draft),
        [first, ..] if first.starts_with("--") => proxy::read(at, &plain(line), entries, draft),
        [..] => unread(at, draft),
    }
}

/// The words of a line that is nothing but a command.
fn plain(line: &Line) -> Vec<&str> {
    if line.is_plain { line.words.iter().map(String::as_str).collect() } else { Vec::new() }
}

/// The one sandbox that a command is about; None: all of them.
fn sandbox(line: &Line) -> Option<&str> {
    match plain(line).as_slice() {
        ["sbx", "policy", _, "network", rest @ ..] => {
            flags(rest).into_iter().find(|(flag, _)| *flag == "--sandbox").map(|(_, name)| name)
        }
        ["docker", "sandbox", "network", "proxy", rest @ ..] => operand(rest),
        [..] => None,
    }
}

/// What may take back or deny something does so to all that is allowed.
fn unread(at: At<'_>, draft: &mut Draft<'_>) {
    let text = at.was.to_ascii_lowercase();
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    let has = |word: &str| text.contains(word);
    if has("policy") && words.any(|word| matches!(word, "rm" | "reset")) {
        take_back(at, &[], draft);
    }
    match has("deny") || has("block") {
        true => draft.cut(at, "it is not read, and may deny something: write a plain command"),
        false => draft.lose(at, Section::Rules, "not a command about a network policy"),
    }
}

/// `sbx policy rm network`, by the resources of rules or by their ids.
fn remove(at: At<'_>, rest: &[&str], draft: &mut Draft<'_>) {
    let named = flags(rest).into_iter().filter(|(flag, _)| *flag == "--resource");
    let resources: Vec<String> =
        named.flat_map(|(_, list)| list.split(',')).map(quote).filter(|name| !name.is_empty()).collect();
    take_back(at, &resources, draft);
}

/// Takes back what is allowed so far of `resources`, or all of it where these are not known.
fn take_back(at: At<'_>, resources: &[String], draft: &mut Draft<'_>) {
    let is_meant =
        |was: &str| resources.is_empty() || resources.iter().any(|name| name.eq_ignore_ascii_case(was));
    let (fate, why) = match draft.take_back(at, is_meant) {
        true => (Fate::Narrowed, "what is allowed before it goes, what is denied stays so"),
        false => (Fate::Exact, "what is allowed before it goes"),
    };
    draft.note(at, fate, why);
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
                return refuse(at, act, &format!("the flag `{unknown}` is not known here"), draft);
            }
            _ => resources.extend(word.split(',').map(str::trim).filter(|resource| !resource.is_empty())),
        }
    }
    if resources.is_empty() {
        return refuse(at, act, "it names no resources", draft);
    }
    for text in resources {
        resource(At { place: at.place, was: text }, text, &terms, ports, draft);
    }
}

fn refuse(at: At<'_>, act: Act, why: &str, draft: &mut Draft<'_>) {
    match act {
        Act::Allow => draft.lose(at, Section::Rules, why),
        Act::Deny => draft.cut(at, why),
    }
}
