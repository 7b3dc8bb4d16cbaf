//! What was found in a cgroup, in the words of the control socket.

use super::{failed, invalid};
use crate::{
    control::protocol::{Consent, Found, Refusal},
    datapath::{
        Cgroup,
        adopt::{self, Finding, Inspection, What},
    },
};
use std::path::{Path, PathBuf};

pub fn must_end(finding: &Finding) -> bool {
    match finding.what {
        What::Flow(_) | What::Foreign(_) | What::WayAround(_) => true,
        What::Privilege(_) => false,
    }
}

pub fn found(Finding { process, what }: &Finding) -> Found {
    let (consent, what) = match what {
        What::Flow(text) => (Consent::KillSockets, text),
        What::Foreign(text) | What::WayAround(text) => (Consent::KillProcesses, text),
        What::Privilege(text) => (Consent::AllowPrivileges, text),
    };
    Found { pid: process.pid, command: process.command.clone(), what: what.clone(), consent }
}

pub fn refuse_unless(cgroup: &Cgroup, consents: &[Consent], found: &[Found]) -> Result<(), Refusal> {
    let refused: Vec<&Found> = found.iter().filter(|found| !consents.contains(&found.consent)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let mut message = format!("`{}` was left as it is, because of what is in it", cgroup.path().display());
    for consent in [Consent::KillSockets, Consent::KillProcesses, Consent::AllowPrivileges] {
        let of_it: Vec<&&Found> = refused.iter().filter(|found| found.consent == consent).collect();
        if of_it.is_empty() {
            continue;
        }
        message += &format!("\n{}", meaning(consent));
        for Found { pid, command, what, .. } in of_it.iter().take(MAX_LISTED) {
            message += &format!("\n  process {pid} `{command}`: {what}");
        }
        if let Some(more) = of_it.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
            message += &format!("\n  and {more} more");
        }
    }
    Err(invalid(message))
}

fn meaning(consent: Consent) -> &'static str {
    match consent {
        Consent::KillSockets => "flows that are open; to cut them: --kill-sockets",
        Consent::KillProcesses => {
            "what sends past the fence, and goes only with its process; to kill that: --kill-processes"
        }
        Consent::AllowPrivileges => {
            "privileges that reach around the fence; to adopt all the same: --allow-privileges"
        }
    }
}

/// The network namespace of all its processes, where it is not ours.
pub fn one_network(inspection: &Inspection) -> Result<Option<PathBuf>, Refusal> {
    let ours = adopt::namespace(Path::new("/proc/self/ns/net")).map_err(failed)?;
    match inspection.networks.as_slice() {
        [] => Ok(None),
        [(_, network)] if *network == ours => Ok(None),
        [(path, _)] => Ok(Some(path.clone())),
        _ => Err(invalid("its processes are in several network namespaces: adopt a cgroup of one of them")),
    }
}

/// What `egressctl run` would have seen to, and an adoption cannot.
pub fn not_covered(inspection: &Inspection, network: Option<&Path>) -> Vec<String> {
    let mut list = vec![
        "a socket that comes into the cgroup later, with a process or over a Unix socket, sends past the \
         fence: `egressctl status` tells of it within seconds"
            .to_owned(),
        "it sees the processes, files and Unix sockets that it saw before, and may use io_uring".to_owned(),
    ];
    if network.is_some() {
        let sentence =
            "its network namespace is not egressd's: the table of nft, the second deny, is not there";
        list.push(sentence.to_owned());
    }
    if inspection.with_unix_sockets > 0 {
        let count = inspection.with_unix_sockets;
        list.push(format!(
            "{count} process(es) hold Unix sockets: whoever is at the other end may send for them"
        ));
    }
    if inspection.may_grow > 0 {
        let count = inspection.may_grow;
        list.push(format!("{count} process(es) may gain privileges by setuid programs, such as sudo"));
    }
    list
}

/// That the agent does not believe the authority in the file at `path`, which only whoever started it can
/// change.
pub fn unbelieved(path: &Path) -> String {
    let path = path.display();
    format!(
        "its policy inspects: have its programs believe the authorities in `{path}`, where that changes too"
    )
}

/// Findings that a refusal lists.
const MAX_LISTED: usize = 40;
