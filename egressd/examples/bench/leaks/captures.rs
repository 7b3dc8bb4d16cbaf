//! What real tunnels asked: iodine and dns2tcp, each by several types, sending 20,000 random octets.

use super::{
    alone::A,
    pcap::{self, Asked},
    streams::{Carried, START, Stream},
    subject::{Query, Scene},
};
use egressd::policy::Secrets;
use std::{fs, path::Path, sync::Arc};

/// One stream for each capture that lies in `folder`.
pub fn streams(folder: &Path) -> Vec<Stream> {
    CAPTURES.iter().filter_map(|capture| capture.stream(folder)).collect()
}

struct Capture {
    name: &'static str,
    what: &'static str,
    zone: &'static str,
}

const CAPTURES: [Capture; 6] = [
    Capture { name: "iodine_NULL", what: "iodine by NULL, as it negotiates", zone: "t.evil.test" },
    Capture { name: "iodine_TXT", what: "iodine by TXT, as it negotiates", zone: "t.evil.test" },
    Capture { name: "iodine_CNAME", what: "iodine by CNAME, as it negotiates", zone: "t.evil.test" },
    Capture { name: "iodine_A", what: "iodine by A, as it negotiates", zone: "t.evil.test" },
    Capture { name: "dns2tcp_TXT", what: "dns2tcp by TXT", zone: "d.evil.test" },
    Capture { name: "dns2tcp_KEY", what: "dns2tcp by KEY", zone: "d.evil.test" },
];

impl Capture {
    fn stream(&self, folder: &Path) -> Option<Stream> {
        let file = fs::read(folder.join(format!("{}.pcap", self.name))).ok()?;
        let asked = pcap::questions(&file)?;
        let carried = asked.iter().map(|asked| self.carried(asked)).collect();
        let query = |Asked { at, name, kind }| Query { at: START + at, agent: 0, name, kind };
        let scene = Scene::of(self.zone);
        let queries = asked.into_iter().map(query).collect();
        Some(Stream { name: self.name, what: self.what, scene, queries, carried })
    }

    /// At most: each symbol in front of the zone as six bits of payload, which is what base64 holds.
    fn carried(&self, asked: &Asked) -> Carried {
        let symbols = asked.name.len().saturating_sub(self.zone.len() + 1);
        Carried { once: 6.0 * symbols as f64, ..Carried::default() }
    }
}

/// The same tunnel, if it asked for addresses and spelt itself in letters that names may have: the gate in
/// front of the ledger then lets all of it through.
pub fn without_gate(stream: &mut Stream) {
    for query in &mut stream.queries {
        query.kind = A;
        query.name = query.name.split(|octet| *octet == b'.').map(plain).collect::<Vec<_>>().join(&b'.');
    }
}

fn plain(label: &[u8]) -> Vec<u8> {
    let symbol = |octet: &u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => octet.to_ascii_lowercase(),
        other => b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::from(*other) % 36],
    };
    label.iter().map(symbol).collect()
}

/// One secret, as a policy registers it.
pub fn secrets(secret: &[u8]) -> Arc<Secrets> {
    Arc::new(Secrets::new(vec![("token".to_owned(), secret.to_vec())]).expect("it has a fit length"))
}
