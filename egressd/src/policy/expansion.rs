//! Names that a stub resolver made of an allowed name and a search domain.

use super::{decide::Policy, host::HostName};

impl Policy {
    /// The allowed name that `name` is a search-domain expansion of: its leading labels, without 1 to
    /// [`MAX_SUFFIX`] trailing ones. `search` are the search domains of the host.
    ///
    /// With `ndots:5` a pod asks for `api.example.com.default.svc.cluster.local` before it asks for
    /// `api.example.com`, and so on through its list (resolv.conf(5)). Such a name is to be answered
    /// here as one that does not exist, after which the stub goes on; at REFUSED it may stop. It is
    /// neither forwarded nor a sign of a tunnel.
    ///
    /// Of a name that is denied, every suffix counts: nothing of it leaves whatever the answer is. Of
    /// a name that a wildcard allows, only the usual suffixes of clusters and homes and those of
    /// `search` do, and only if what stands before them has two labels: `www.example.com.edge.example`
    /// is how real CDNs name things, and `db.prod.svc.cluster.local` is how `db` is found; and so it is with a
    /// name that is only observed. A name that a rule spells out is never an expansion.
    #[must_use]
    pub fn expansion_of(&self, name: &HostName, search: &[HostName]) -> Option<HostName> {
        let is_denied = match self.lookup(name) {
            Ok(leave) if leave.has_rule() && leave.wildcard().is_none() => return None,
            Ok(_) => false,
            Err(_) => true,
        };
        if !is_denied && !is_below_search_domain(name, search) {
            return None;
        }
        let dots = name.as_str().rmatch_indices('.').take(MAX_SUFFIX);
        let leading = dots.filter_map(|(dot, _)| name.as_str().get(..dot));
        leading
            .filter(|leading| is_denied || leading.contains('.'))
            .filter_map(|leading| HostName::parse(leading).ok())
            .find(|leading| self.lookup(leading).is_ok_and(|leave| leave.has_rule()))
    }
}

/// Labels of a search domain at the most: `NAMESPACE.svc.cluster.local` has four, those of clouds five.
const MAX_SUFFIX: usize = 5;

/// What search domains usually end with: Kubernetes, clouds (RFC 9476 reserves `internal`), homes
/// (RFC 8375), and mDNS names that a router hands out.
const USUAL: [&str; 6] = ["cluster.local", "home.arpa", "internal", "lan", "local", "svc"];

fn is_below_search_domain(name: &HostName, search: &[HostName]) -> bool {
    let is_below = |suffix: &str| {
        name.as_str().strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    USUAL.into_iter().chain(search.iter().map(HostName::as_str)).any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{NameTerms, Pattern, Protocol, Rule, RuleId, Source, Subject, TlsTerms};

    #[test]
    fn the_expansions_of_a_pod_are_known_as_the_name_that_it_means() {
        let policy = policy(&["api.ok.test", "**.cdn.test"]);
        for suffix in POD {
            expands(&policy, &format!("api.ok.test.{suffix}"), "api.ok.test");
            expands(&policy, &format!("a.b.cdn.test.{suffix}"), "a.b.cdn.test");
            is_none(&policy, &format!("evil.test.{suffix}"));
            is_none(&policy, &format!("api.ok.{suffix}"));
        }
        is_none(&policy, "api.ok.test");
        is_none(&policy, "ok.test.a.b.c.d.e.f");
    }

    #[test]
    fn names_of_a_cluster_whose_zone_is_allowed_have_expansions_too() {
        let policy = policy(&["api.ok.test", "**.svc.cluster.local"]);
        let full = "db.prod.svc.cluster.local";
        expands(&policy, &format!("{full}.default.svc.cluster.local"), full);
        expands(&policy, "api.ok.test.default.svc.cluster.local", "api.ok.test");
        is_none(&policy, full);
        is_none(&policy, "evil.test.default.svc.cluster.local");
    }

    #[test]
    fn a_short_name_is_found_by_its_search_domain() {
        is_none(&policy(&["db", "**.svc.cluster.local"]), "db.prod.svc.cluster.local");
        expands(&policy(&["db"]), "db.prod.svc.cluster.local", "db");
    }

    #[test]
    fn a_name_that_a_cdn_made_of_another_is_itself() {
        let policy = policy(&["www.example.com", "**.edge.example", "www.example.com.svc.cluster.local"]);
        is_none(&policy, "www.example.com.edge.example");
        is_none(&policy, "www.example.com.svc.cluster.local");
        // Denied, it is answered here whatever it is.
        expands(&policy, "www.example.com.other.example", "www.example.com");
        let search = [HostName::parse("edge.example").unwrap()];
        let name = HostName::parse("www.example.com.edge.example").unwrap();
        assert_eq!(policy.expansion_of(&name, &search).unwrap().as_str(), "www.example.com");
    }

    const POD: [&str; 5] = [
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "europe-west1-b.c.project.internal",
        "corp.example",
    ];

    fn expands(policy: &Policy, name: &str, of: &str) {
        let found = policy.expansion_of(&HostName::parse(name).unwrap(), &[]);
        assert_eq!(found.as_ref().map(HostName::as_str), Some(of), "{name}");
    }

    fn is_none(policy: &Policy, name: &str) {
        assert_eq!(policy.expansion_of(&HostName::parse(name).unwrap(), &[]), None, "{name}");
    }

    fn policy(hosts: &[&str]) -> Policy {
        let rule = |(host, id): (&&str, u32)| Rule {
            id: RuleId(id),
            source: Source { file: "a.yaml".into(), line: id },
            subject: Subject::Host(Pattern::parse(host).unwrap()),
            ports: vec![443],
            protocol: Some(Protocol::Tls),
            private: false,
            reason: None,
            names: NameTerms::default(),
            tls: TlsTerms::default(),
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        };
        Policy::new(hosts.iter().zip(1..).map(rule).collect(), Vec::new())
    }
}
