//! The custom allowlist of Copilot's coding agent: an entry a line, or separated by commas.
//!
//! Read in github/docs (`customize-the-agent-firewall.md`): a domain means itself and all below it; a URL means
//! its scheme and host, and its path with what is below that. Ports are not spoken of: the usual ones are meant.
//! Neither are networks.

use super::{
    draft::{At, Draft, Remark, Section},
    names::{Dialect, Numbers, Opening, Reach, Reading, read as read_host, split_port, tcp, web},
};
use crate::{authoring::fate::Fate, policy::RequestPattern};

const DOMAIN: Dialect = Dialect {
    plain: Reach::AndBelow,
    star: Reach::Below,
    two_stars: None,
    inner: Reach::Below,
    numbers: Numbers::Addresses,
};
const HOST: Dialect = Dialect { plain: Reach::Only, ..DOMAIN };

/// Translates a list as the settings page or the variable `COPILOT_AGENT_FIREWALL_ALLOW_LIST_ADDITIONS` hold it.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) {
    for (index, line) in text.lines().enumerate() {
        let place = format!("{}:{}", draft.file, index + 1);
        let line = line.strip_prefix(VARIABLE).unwrap_or(line);
        for word in line.split_whitespace().take_while(|word| !word.starts_with('#')) {
            for entry in word.split(',').map(|entry| entry.trim_matches(['"', '\'', '`'])) {
                // The dash of a list in Markdown is no entry.
                if !matches!(entry, "" | "-") {
                    one(At { place: &place, was: entry }, draft);
                }
            }
        }
    }
}

const VARIABLE: &str = "COPILOT_AGENT_FIREWALL_ALLOW_LIST_ADDITIONS=";

fn one(at: At<'_>, draft: &mut Draft<'_>) {
    match at.was.split_once("://") {
        None => {
            let (host, port) = split_port(at.was);
            let openings = match port {
                None => web(),
                Some(Ok(port)) => tcp(&[port]),
                Some(Err(why)) => return draft.lose(at, Section::Rules, &why),
            };
            draft.allow(at, read_host(host, DOMAIN), &openings, &[], undocumented(host));
        }
        Some((scheme, rest)) => url(at, scheme, rest, draft),
    }
}

fn undocumented(host: &str) -> Remark {
    host.contains('*').then(|| {
        (Fate::Narrowed, "wildcards are not spoken of: it is read as what is below the name".to_owned())
    })
}

fn url(at: At<'_>, scheme: &str, rest: &str, draft: &mut Draft<'_>) {
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = split_port(host);
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "https" => 443,
        "http" => 80,
        _ => return draft.lose(at, Section::Rules, "only `https` and `http` are spoken of"),
    };
    let port = match port.unwrap_or(Ok(usual)) {
        Ok(port) => port,
        Err(why) => return draft.lose(at, Section::Rules, &why),
    };
    let reading = read_host(host, HOST);
    let is_tls = usual == 443 && port == 443 && !matches!(reading, Reading::Network(_));
    match (path, is_tls) {
        ("" | "/", _) => draft.allow(at, reading, &tcp(&[port]), &[], None),
        (_, true) => below(at, reading, path, &tcp(&[port]), draft),
        (_, false) if draft.may_widen() => {
            let remark = (Fate::Widened, "paths are read only in TLS, so the whole host is open".to_owned());
            draft.allow(at, reading, &tcp(&[port]), &[], Some(remark));
        }
        (_, false) => draft.lose(
            at,
            Section::Rules,
            "paths are read only in TLS on port 443; the whole host would be wider",
        ),
    }
}

/// Allows what is at `path` and below it.
fn below(at: At<'_>, reading: Reading, path: &str, openings: &[Opening], draft: &mut Draft<'_>) {
    let folder = path.trim_end_matches('/');
    let mut requests = vec![format!("* {folder}/**")];
    if folder == path {
        requests.insert(0, format!("* {path}"));
    }
    if let Some(why) = requests.iter().find_map(|request| RequestPattern::parse(request).err()) {
        return draft.lose(at, Section::Rules, &why.to_string());
    }
    if path.contains(['*', '?', '#']) {
        return draft.lose(
            at,
            Section::Rules,
            "a path is compared letter by letter, without wildcards and queries",
        );
    }
    let remark = (Fate::Exact, "the proxy ends TLS to read the path".to_owned());
    draft.allow(at, reading, openings, &requests, Some(remark));
}
