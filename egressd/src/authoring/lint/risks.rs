//! Names that many tenants share.

use super::{Finding, Lint, Severity};
use crate::policy::{self, HostName, Pattern, Rule, Subject};

/// What an agent could do behind the names of `rule`. Nothing is said where the rule bounds the requests, or
/// says itself what is at stake: by its `risk`, if it is no less, or by `risk:` in its reason.
pub(super) fn find(rule: &Rule) -> Option<Finding> {
    let Subject::Host(pattern) = &rule.subject else { return None };
    let is_bounded = rule.tls.inspection.as_ref().is_some_and(|inspection| inspection.allow.is_some());
    let is_known = rule.reason.as_deref().is_some_and(|reason| reason.contains("risk:"));
    let risk = RISKS.iter().find(|risk| risk.is_about(pattern))?;
    let is_judged = risk.kind.risk().zip(rule.risk).is_some_and(|(known, judged)| judged >= known);
    if is_bounded || is_judged || (is_known && rule.risk.is_none()) {
        return None;
    }
    let severity = match risk.kind {
        Kind::Takes | Kind::Gone => Severity::Warning,
        Kind::Serves => Severity::Note,
    };
    let text = format!("`{pattern}` is shared by strangers: {}", risk.why);
    let help = match risk.kind.risk().zip(rule.risk) {
        Some((known, judged)) => {
            format!("it is more than `risk: {}`: write `risk: {}`", judged.as_str(), known.as_str())
        }
        None => risk.kind.help().to_owned(),
    };
    let finding = Finding::of(Lint::RiskyName, rule, text, help);
    Some(Finding { severity, ..finding })
}

/// Why strangers share `name`, and what an agent could do there; None where that is not known of it.
pub(in crate::authoring) fn of_name(name: &HostName) -> Option<&'static str> {
    let pattern = Pattern::Exact(name.clone());
    let risk = RISKS.iter().find(|risk| risk.is_about(&pattern))?;
    match risk.kind {
        Kind::Takes | Kind::Gone => Some(risk.why),
        Kind::Serves => None,
    }
}

/// One of the names, and what is known of it.
struct Risk {
    kind: Kind,
    pattern: &'static str,
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Whoever has an account there can have an agent write to it.
    Takes,
    /// Whoever has an account there can have an agent read what it put there.
    Serves,
    /// Nobody runs it any more, so that somebody else may.
    Gone,
}

impl Kind {
    /// What a rule has to admit at least; None where that would not do.
    fn risk(self) -> Option<policy::Risk> {
        match self {
            Self::Takes => Some(policy::Risk::External),
            Self::Serves => Some(policy::Risk::Read),
            Self::Gone => None,
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Takes => "bound the requests (`inspect` with `allow`), or say `risk: external`",
            Self::Serves => "name single hosts or paths, or say `risk: read`",
            Self::Gone => "leave the rule out",
        }
    }
}

impl Risk {
    /// Whether one of the patterns is about a name of the other.
    fn is_about(&self, rule: &Pattern) -> bool {
        let Ok(own) = Pattern::parse(self.pattern) else { return false };
        let meets = |one: &Pattern, other: &Pattern| sample(other).is_some_and(|name| one.matches(&name));
        meets(&own, rule) || meets(rule, &own)
    }
}

/// A name that the pattern is about; None where none is short enough.
fn sample(pattern: &Pattern) -> Option<HostName> {
    match pattern {
        Pattern::Exact(name) => Some(name.clone()),
        Pattern::OneLabel(zone) | Pattern::AnyLabels(zone) => HostName::parse(&format!("x.{zone}")).ok(),
    }
}

const fn takes(pattern: &'static str, why: &'static str) -> Risk {
    Risk { kind: Kind::Takes, pattern, why }
}

const fn serves(pattern: &'static str, why: &'static str) -> Risk {
    Risk { kind: Kind::Serves, pattern, why }
}

const fn gone(pattern: &'static str) -> Risk {
    Risk {
        kind: Kind::Gone,
        pattern,
        why: "the service was shut down, and a name that is left can be taken over",
    }
}

/// Names of the published default lists of agent sandboxes (those of Claude Code, Codex, the Copilot coding
/// agent, GitHub Agentic Workflows and harden-runner, read in 2026) behind which anyone can have an account.
/// The names are facts; what may be done there is our reading. The first that fits is told.
#[rustfmt::skip]
const RISKS: [Risk; 60] = [
    takes("gist.github.com", "anyone can post"),
    takes("uploads.github.com", "release assets of any account"),
    takes("github.com", "push, issues, gists and releases under any account"),
    takes("api.github.com", "writes under any account"),
    serves("camo.githubusercontent.com", "fetches any address on request"),
    serves("*.githubusercontent.com", "what any user put there"),
    serves("**.github.io", "pages of any user"),
    takes("gitlab.com", "push under any account"),
    takes("bitbucket.org", "push under any account"),
    takes("api.bitbucket.org", "writes under any account"),
    takes("sourceforge.net", "hosting of any project"),
    takes("**.sourceforge.net", "hosting of any project, and mirrors of third parties"),
    takes("**.amazonaws.com", "buckets, gateways and hosts of any account"),
    takes("**.api.aws", "services of any account"),
    takes("public.ecr.aws", "takes pushes"),
    takes("storage.googleapis.com", "buckets of any account, writable by a signed URL"),
    takes("**.storage.googleapis.com", "buckets of any account"),
    takes("www.googleapis.com", "interfaces of any project"),
    takes("**.googleapis.com", "buckets and interfaces of any project"),
    takes("docs.google.com", "documents and forms of any account"),
    takes("drive.google.com", "files of any account"),
    takes("script.google.com", "scripts of any account"),
    takes("**.google.com", "documents, forms, files and scripts of any account"),
    takes("dev.azure.com", "repositories of any organisation"),
    takes("**.azure.com", "repositories and hosts of any tenant"),
    takes("**.core.windows.net", "storage of any account"),
    takes("**.azureedge.net", "content of any account"),
    takes("**.azurefd.net", "content of any account"),
    takes("graph.microsoft.com", "mail and files of any tenant"),
    takes("**.microsoft.com", "interfaces to mail and files of any tenant are among them"),
    takes("**.microsoftonline.com", "logins of any tenant"),
    takes("**.visualstudio.com", "repositories of any organisation"),
    takes("hub.docker.com", "takes descriptions and pushes of any account"),
    takes("**.docker.io", "takes pushes"),
    takes("**.docker.com", "takes pushes"),
    takes("ghcr.io", "takes pushes"),
    takes("quay.io", "takes pushes"),
    takes("gcr.io", "takes pushes"),
    takes("**.gcr.io", "takes pushes"),
    takes("sentry.io", "events of any project"),
    takes("**.sentry.io", "events of any project"),
    takes("**.datadoghq.com", "logs of any account"),
    takes("**.datadoghq.eu", "logs of any account"),
    takes("api.honeycomb.io", "events of any account"),
    takes("statsig.com", "events of any project"),
    takes("**.statsig.com", "events of any project"),
    takes("packagecloud.io", "repositories of any account"),
    takes("**.packagecloud.io", "repositories of any account"),
    takes("keyserver.ubuntu.com", "takes uploads from anyone"),
    takes("keys.openpgp.org", "takes uploads from anyone"),
    takes("host.docker.internal", "the host itself"),
    takes("jitpack.io", "builds any public repository on request, so that the path is a message"),
    serves("cdn.jsdelivr.net", "files of any repository"),
    serves("esm.sh", "files of any repository"),
    serves("**.readthedocs.io", "pages of any user"),
    gone("**.bintray.com"),
    gone("rubyforge.org"),
    gone("**.rubyforge.org"),
    gone("binstar.org"),
    gone("crl.verisign.com"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_risk_is_a_pattern_that_finds_itself() {
        for risk in &RISKS {
            let pattern = Pattern::parse(risk.pattern).unwrap();
            assert!(risk.is_about(&pattern), "{}", risk.pattern);
            assert!(!risk.why.is_empty() && !risk.why.ends_with('.'), "{}", risk.pattern);
        }
    }
}
