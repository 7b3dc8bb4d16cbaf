//! What holds for all bytes that an agent, a server, an operator or the kernel could hand us.
//!
//! Each law takes bytes and panics where they break it. `fuzz/` searches for such bytes, one target
//! a law, and the tests here try the seeds of every target.

pub use crate::{
    audit::laws::lines as audit_lines,
    config::laws::{config, registry_site},
    control::laws::request as control_request,
    datapath::laws::{kernel_event, mountinfo},
    dns::laws::{answer as dns_answer, query as dns_query},
    dns::ledger::laws::ledger,
    policy::laws::policy,
    proxy::{
        laws::{body as http_body, hello as tls_hello, request as http_request, response as http_response},
        quic_laws::initial as quic_initial,
    },
};

mod hello;

pub use hello::differential as hello_differential;

use crate::{config, control, datapath, dns, policy::HostName, proxy};

/// A name is one name on every way that leads to it, or none.
pub fn host_name(bytes: &[u8]) {
    crate::policy::laws::host_name(bytes);
    let name = HostName::from_ascii(bytes).ok();
    let in_query = dns::laws::name_in(&query(bytes));
    // A question has no place for a root dot: its root is the end of its labels.
    if !bytes.ends_with(b".") {
        assert_eq!(in_query, name, "in a question");
    }
    // What is more than one word to HTTP may be another name, a port or a field; no name is.
    let is_one_word = bytes.iter().all(u8::is_ascii_graphic) && !bytes.contains(&b':');
    for found in [proxy::laws::name_in_request(bytes), proxy::laws::name_in_connect(bytes)] {
        assert!(found == name || (name.is_none() && !is_one_word), "in a request: {found:?}");
    }
    // TLS has stricter readers: a root dot, for one, is not allowed there.
    let in_hello = proxy::laws::name_in_hello(bytes);
    assert!(in_hello.is_none() || in_hello == name, "in a ClientHello");
    let in_kernel = datapath::laws::name_folded(bytes);
    let folded = name.as_ref().filter(|_| !bytes.ends_with(b".")).map(ToString::to_string);
    // It looks neither into `xn--` nor at the length of labels: no such name has a grant.
    let is_unseen = |label: &str| label.starts_with("xn--") || label.len() > 63;
    let is_lenient = || in_kernel.as_ref().is_some_and(|name| name.split('.').any(is_unseen));
    assert!(in_kernel == folded || (folded.is_none() && is_lenient()), "in the kernel: {in_kernel:?}");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(config::laws::name_in_rule(text), name, "in a rule");
    let asked = control::laws::name_asked(text);
    assert!(name.is_none() || asked == name, "in a question of egressctl");
}

/// A question for the address of what `name` spells, label by label.
fn query(name: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split(|octet| *octet == b'.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(label);
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_law_holds_for_the_seeds_of_its_fuzz_target() {
        for (target, law) in LAWS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
            let seeds: Vec<_> =
                fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target}: {error}")).collect();
            assert!(!seeds.is_empty(), "{target} has no seeds");
            for seed in seeds {
                let path = seed.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| law(&bytes));
                assert!(held.is_ok(), "{} breaks a law", path.display());
            }
        }
    }

    #[test]
    fn every_law_has_a_fuzz_target_and_every_target_a_law() {
        let targets = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets")).unwrap();
        let mut targets: Vec<String> = targets
            .map(|target| target.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        targets.sort();
        assert_eq!(targets, LAWS.map(|(target, _)| target));
    }

    type Law = fn(&[u8]);

    const LAWS: [(&str, Law); 17] = [
        ("audit_lines", super::audit_lines),
        ("config", super::config),
        ("control_request", super::control_request),
        ("dns_answer", super::dns_answer),
        ("dns_query", super::dns_query),
        ("hello_differential", super::hello_differential),
        ("host_name", super::host_name),
        ("http_body", super::http_body),
        ("http_request", super::http_request),
        ("http_response", super::http_response),
        ("kernel_event", super::kernel_event),
        ("ledger", super::ledger),
        ("mountinfo", super::mountinfo),
        ("policy", super::policy),
        ("quic_initial", super::quic_initial),
        ("registry_site", super::registry_site),
        ("tls_hello", super::tls_hello),
    ];
}
