//! The self-proof: an agent of our own, in a world of our own, that tries what must be denied and
//! what must pass, and a tap that sees what came out.
//!
//! The canary is a process of this very program below the cgroup that carries the programs, so
//! that they judge it like any agent. It cannot prove the nft table, which is of the host's network
//! namespace, nor what a launcher takes away.

mod frames;
mod packet;
mod places;
mod probe;
mod prover;
mod server_names;
mod tap;
mod world;

pub use prover::live;
pub use server_names::NameFindings;

use super::{
    bpffs::Pins,
    cgroup::{Cgroup, CgroupError},
    clock::now,
    fence::{Fence, FenceError, Site},
    ruleset::Listeners,
};
use crate::policy::{Agent, AgentId, AgentName, GrantError, GrantSink};
use places::Names;
use serde::{Deserialize, Serialize};
use std::{io, path::Path, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use world::WorldError;

/// The number of the canary: no daemon numbers that many agents.
pub const CANARY: AgentId = AgentId(u32::MAX);

/// What one round of probes showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub probes: usize,
    /// 2, or 1 on a host without IPv6.
    pub families: usize,
    /// What was seen where it must not be.
    pub leaked: Vec<String>,
    /// What did not arrive where it must, so that what is not seen proves nothing.
    pub lost: Vec<String>,
    /// What could not be tried on this host, and why.
    #[serde(default)]
    pub skipped: Vec<String>,
    /// None where no program reads server names.
    #[serde(default)]
    pub server_names: Option<NameFindings>,
}

impl Findings {
    /// Why the programs that read server names are not to be trusted; None where they are, or there are
    /// none.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        self.server_names.as_ref().and_then(NameFindings::doubt)
    }

    #[must_use]
    pub fn passed(&self) -> bool {
        self.leaked.is_empty() && self.lost.is_empty() && self.probes > 0
    }
}

/// A canary that lives. Its process ends when this is dropped, or its daemon is killed.
pub struct Canary {
    agent: Agent,
    cgroup: Cgroup,
    names: Names,
    round: u32,
    process: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Canary {
    /// Starts a process of `program`, which is egressd, below `root`, the cgroup that carries the
    /// programs that `pins` hold. It builds its world while the programs are loaded.
    ///
    /// # Errors
    /// Names what could not be made.
    pub fn start(root: &Cgroup, pins: &Pins, program: &Path) -> Result<Self, CanaryError> {
        let cgroup = root.child(FOLDER)?;
        // One of a daemon that was killed may not have noticed yet.
        cgroup.kill()?;
        let mut process = command(program, cgroup.path(), pins).spawn().map_err(CanaryError::Start)?;
        let missing = || CanaryError::Talk(io::Error::other("it has no pipe"));
        let requests = process.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?).lines();
        let names = Names::parse().map_err(|error| CanaryError::Unclear(error.to_string()))?;
        let agent_name =
            AgentName::parse("canary").map_err(|error| CanaryError::Unclear(error.to_string()))?;
        let agent = Agent::new(CANARY, agent_name, Arc::new(places::policy(&names)));
        Ok(Self { agent, cgroup, names, round: 0, process, requests, answers })
    }

    /// Whether it has proven nothing yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.round == 0
    }

    /// Makes the canary known to the programs, as an agent that may do very little.
    ///
    /// # Errors
    /// The maps cannot be written.
    pub fn admit(&self, fence: &Fence) -> Result<(), CanaryError> {
        let listeners = Listeners {
            dns_v4: world::RESOLVER,
            dns_v6: world::RESOLVER,
            proxy_v4: world::PROXY,
            proxy_v6: world::PROXY,
            ..Listeners::default()
        };
        // Not into the table, which has no part in the canary's namespace.
        let site = Site { cgroup: &self.cgroup, link: None, listeners };
        Ok(fence.open_alone(&self.agent, site, &world::judged_link())?)
    }

    /// Has the canary try everything once.
    ///
    /// # Errors
    /// It does not answer, or its grants cannot be written: nothing is proven.
    pub async fn prove(&mut self, fence: &Fence) -> Result<Findings, CanaryError> {
        fence.install(&self.agent, &places::grants(&self.names, now().after(LEAVE))).await?;
        self.round = self.round.wrapping_add(1);
        let answer =
            timeout(PATIENCE, self.ask(fence.has_reader())).await.map_err(|_| CanaryError::Silent)??;
        serde_json::from_str(&answer).map_err(|_| CanaryError::Unclear(answer))
    }

    async fn ask(&mut self, has_reader: bool) -> Result<String, CanaryError> {
        let request = format!("{}{}\n", self.round, if has_reader { WITH_NAMES } else { "" });
        // Where it is gone, its last words say more than a broken pipe.
        let sent = self.requests.write_all(request.as_bytes()).await;
        match self.answers.next_line().await.map_err(CanaryError::Talk)? {
            Some(answer) => sent.map(|()| answer).map_err(CanaryError::Talk),
            None => Err(CanaryError::Ended(self.last_words().await)),
        }
    }

    async fn last_words(&mut self) -> String {
        use tokio::io::AsyncReadExt;
        let mut words = Vec::new();
        if let Some(errors) = self.process.stderr.take() {
            let _ = errors.take(MAX_LAST_WORDS).read_to_end(&mut words).await;
        }
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    /// Ends the process, and removes its cgroup.
    pub async fn end(mut self) {
        // A process that is gone already is as good, and a cgroup that stays does no harm.
        let _ = self.process.kill().await;
        let _ = self.cgroup.remove();
    }
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error(transparent)]
    World(#[from] WorldError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("failed to join the canary's cgroup: {0}")]
    Join(io::Error),
    #[error("failed to have the canary's frames judged: {0}")]
    Frames(io::Error),
    #[error("failed to start the canary: {0}")]
    Start(io::Error),
    #[error("failed to talk to the canary: {0}")]
    Talk(io::Error),
    #[error("the canary ended: {0}")]
    Ended(String),
    #[error("the canary does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the canary is not understood: `{0}`")]
    Unclear(String),
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Not a name that any agent can have.
pub const FOLDER: &str = ".canary";

/// Behind the number of a round in which server names are proven too.
const WITH_NAMES: &str = " names";

/// How long the canary's grants live: longer than from one round to the next, so that a round is
/// not judged by the clock.
const LEAVE: Duration = Duration::from_secs(60);

/// How long a round may take: some milliseconds, but for a machine that is short of everything.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_LAST_WORDS: u64 = 4096;

/// The program that runs, even if another one was installed meanwhile.
pub const OURSELVES: &str = "/proc/self/exe";

fn command(program: &Path, cgroup: &Path, pins: &Pins) -> Command {
    let mut command = Command::new(program);
    command.arg0("egressd-canary").arg("--canary").arg(cgroup);
    command.arg(pins.programs().join(super::frames::PROGRAM));
    // Signals from the terminal are for the daemon, which ends the canary by closing its input.
    command.env_clear().process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
