//! Names that were denied: nothing of them leaves, but they tell what an agent is up to.

use super::{
    bucket::bits,
    cost,
    evidence::{Short, Span, Tenths},
    limits::{DENIED_LONG_NAME, DENIED_NAMES, DENIED_RANDOM_NAMES, HOUR, MAX_DENIED, MAX_DENIED_ALERTS},
    report::DeniedReport,
    trigrams::look,
    window::{Recent, seconds},
};
use crate::policy::{HostName, Moment};

/// The denied zones with most names (Space-Saving: one that is not watched takes the place of the one with
/// the fewest names, and its count).
#[derive(Debug, Clone, Default)]
pub struct Denied {
    rows: Vec<Row>,
    /// Alerts were raised.
    told: Recent<MAX_DENIED_ALERTS>,
}

/// A domain that somebody registered below a public suffix of the ICANN section: those of the private
/// section would make a zone of each label of a tunnel.
#[derive(Debug, Clone)]
struct Row {
    zone: HostName,
    names: u64,
    /// Of the hour that began at `since`: a bit for each of 64 kinds of names, and how many look random.
    kinds: u64,
    random: u32,
    last_random: u64,
    since: u32,
    flagged: Option<u32>,
}

impl Denied {
    /// Notes that `asked` was denied, and returns the zone and why its names look like a tunnel's.
    pub fn note(
        &mut self,
        asked: &str,
        kind: u16,
        fingerprint: u64,
        now: Moment,
    ) -> Option<(HostName, String)> {
        let zone = registered(asked)?;
        let prefix = asked.strip_suffix(zone.as_str())?.trim_end_matches('.').to_owned();
        let at = self.row(zone, now);
        let row = self.rows.get_mut(at)?;
        let sign = row.note(&prefix, kind, fingerprint, now)?;
        if row.flagged.is_some_and(|flagged| seconds(now).saturating_sub(flagged) < HOUR) {
            return None;
        }
        row.flagged = Some(seconds(now));
        let zone = row.zone.clone();
        let flagged = self.rows.iter().filter(|row| row.flagged.is_some()).count();
        if self.told.within(HOUR, now).count() >= MAX_DENIED_ALERTS {
            return None;
        }
        self.told.push(0, now);
        let more = if flagged > 1 { format!("; {flagged} denied zones look so") } else { String::new() };
        Some((zone, format!("{sign}; nothing left{more}")))
    }

    /// Forgets what was flagged.
    pub fn approve(&mut self, zone: Option<&HostName>) {
        let of_zone = |row: &&mut Row| zone.is_none_or(|zone| row.zone == *zone);
        self.rows.iter_mut().filter(of_zone).for_each(|row| row.flagged = None);
    }

    #[must_use]
    pub fn report(&self) -> Vec<DeniedReport> {
        let report = |row: &Row| DeniedReport {
            zone: row.zone.clone(),
            names: row.names,
            flagged: row.flagged.is_some(),
        };
        let mut rows: Vec<DeniedReport> = self.rows.iter().map(report).collect();
        rows.sort_by(|a, b| b.names.cmp(&a.names).then_with(|| a.zone.cmp(&b.zone)));
        rows
    }

    fn row(&mut self, zone: HostName, now: Moment) -> usize {
        if let Some(at) = self.rows.iter().position(|row| row.zone == zone) {
            return at;
        }
        if self.rows.len() < MAX_DENIED {
            self.rows.reserve_exact(MAX_DENIED - self.rows.len());
            self.rows.push(Row::new(zone, 0, now));
            return self.rows.len() - 1;
        }
        let fewest = self.rows.iter().enumerate().min_by_key(|(_, row)| row.names);
        let (at, names) = fewest.map_or((0, 0), |(at, row)| (at, row.names));
        self.rows[at] = Row::new(zone, names, now);
        at
    }

    #[cfg(test)]
    pub fn octets(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.rows.iter().map(|row| row.zone.as_str().len()).sum::<usize>()
    }
}

impl Row {
    fn new(zone: HostName, names: u64, now: Moment) -> Self {
        Self { zone, names, kinds: 0, random: 0, last_random: 0, since: seconds(now), flagged: None }
    }

    fn note(&mut self, prefix: &str, kind: u16, fingerprint: u64, now: Moment) -> Option<String> {
        self.names = self.names.saturating_add(1);
        if seconds(now).saturating_sub(self.since) >= HOUR {
            (self.since, self.kinds, self.random) = (seconds(now), 0, 0);
        }
        self.kinds |= 1 << (fingerprint & 63);
        let (look, cost) = (look(prefix), cost::new(prefix));
        if look.is_random && self.last_random != fingerprint {
            self.random = self.random.saturating_add(1);
            self.last_random = fingerprint;
        }
        let passed = Span(seconds(now).saturating_sub(self.since));
        if TUNNEL_TYPES.contains(&kind) {
            return Some(format!("type {kind} was asked for at `{}`", Short::new(prefix)));
        }
        if cost > DENIED_LONG_NAME {
            return Some(format!("one name costs {} bits (`{}`)", bits(cost), Short::new(prefix)));
        }
        if self.random >= DENIED_RANDOM_NAMES {
            let (label, per_character) = (Short::label(prefix, look), Tenths(look.per_character));
            let names = self.random;
            return Some(format!(
                "{names} random-looking names in {passed} (e.g. `{label}`, {per_character} bits/char)"
            ));
        }
        let kinds = self.kinds.count_ones();
        (kinds >= DENIED_NAMES).then(|| format!("{kinds} different names in {passed}"))
    }
}

/// The domain that somebody registered which `name` is or is below; None where there is none, or where names
/// are of this machine, or of addresses.
fn registered(name: &str) -> Option<HostName> {
    let is_local = name.ends_with(".local") || name.ends_with(".arpa") || !name.contains('.');
    if is_local {
        return None;
    }
    let suffix = psl::suffix(name.as_bytes())?;
    let domain = match suffix.typ() {
        Some(psl::Type::Icann) | None => psl::domain_str(name)?,
        Some(psl::Type::Private) => below_icann(std::str::from_utf8(suffix.as_bytes()).ok()?)?,
    };
    HostName::parse(domain).ok()
}

/// The one label more than a suffix of the ICANN section, of a suffix of the private section.
fn below_icann(private: &str) -> Option<&str> {
    let mut domain = private;
    loop {
        let (_, above) = domain.split_once('.')?;
        let suffix = psl::suffix(above.as_bytes())?;
        let is_icann = suffix.typ() != Some(psl::Type::Private);
        if is_icann && suffix.as_bytes() == above.as_bytes() {
            return Some(domain);
        }
        domain = above;
    }
}

/// NULL, TXT, KEY, and what iodine calls PRIVATE: they carry most, and clients have no use for them at a zone
/// that they may not speak to.
const TUNNEL_TYPES: [u16; 4] = [10, 16, 25, 65399];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_below_a_cloud_are_no_domains_of_their_own() {
        let cases = [
            ("x.example.com", Some("example.com")),
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("x7.s3.amazonaws.com", Some("amazonaws.com")),
            ("x.github.io", Some("github.io")),
            ("a.b.blob.core.windows.net", Some("windows.net")),
            ("github.io", Some("github.io")),
            ("x.y.unknown-tld", Some("y.unknown-tld")),
            ("host", None),
            ("printer.local", None),
            ("1.0.0.10.in-addr.arpa", None),
            ("com", None),
        ];
        for (name, zone) in cases {
            assert_eq!(registered(name).as_ref().map(HostName::as_str), zone, "{name}");
        }
    }
}
