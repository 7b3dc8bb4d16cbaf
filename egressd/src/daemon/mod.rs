//! The composition root: the one place that knows every module.

mod adopt;
mod agents;
mod answers;
mod approvals;
mod budgets;
mod cells;
mod checks;
mod ends;
mod folders;
mod follow;
mod inspection;
mod leaks;
mod listeners;
mod loans;
mod local;
mod lock;
mod memory;
mod metrics;
mod own;
mod proof;
mod reload;
mod source;
mod takeover;
mod terms;
mod told;
mod upstreams;
mod watch;

use crate::{
    audit::{self, Feed, Log, Recorder},
    config::{self, DaemonConfig, Installed, Loader, Policies},
    control,
    datapath::{
        self, Cell, Cgroup, Doomed, Ebpf, Fence, Forwarding, Frames, Hierarchy, Nft, Pins, SecurityHooks,
        UseSecurityHooks,
    },
    dns,
    policy::{AgentId, Revision},
    proxy,
};
use agents::Agents;
use answers::Answers;
use anyhow::{Context, Result};
use approvals::Desk;
use arc_swap::ArcSwap;
use folders::{hidden, make_private_folder};
use leaks::Leaks;
use metrics::Scrapes;
use proof::Proof;
use reload::Cause;
use source::Source;
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::Receiver,
    task::block_in_place,
};
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// How a daemon runs.
#[derive(Debug, Clone)]
pub struct Options {
    pub config: DaemonConfig,
    /// Policy files instead of those in `config.policy_dir`.
    pub policies: Vec<PathBuf>,
    /// Tells daemons on one host apart: names the cgroup above its agents and its nft table.
    pub instance: String,
    pub lifetime: Lifetime,
    pub security_hooks: UseSecurityHooks,
    pub bulk: proxy::Bulk,
}

/// What a clean end leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The fence stays closed around agents that run on.
    Service,
    /// Agents end with the daemon, and nothing of it stays: a daemon for one `egressctl run`.
    Command,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Names what could not be put in force; what an earlier daemon had put in force stays.
pub async fn run(options: Options) -> Result<()> {
    // Taken before anything is made: from here on an early end is a clean one.
    let ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let started = Daemon::start(options.clone()).await;
    if started.is_err() && options.lifetime == Lifetime::Command {
        remove_everything(&options);
    }
    let daemon = started?;
    let outcome = daemon.serve(ends).await;
    daemon.end().await;
    outcome
}

/// Everything that the daemon is made of.
pub struct Daemon {
    options: Options,
    /// Of the run folder: held for as long as this daemon lives.
    _lock: fs::File,
    started: audit::Time,
    policies: ArcSwap<Loaded>,
    /// Of the policies. None: they are files of this host.
    source: Option<Source>,
    files: local::Files,
    /// Tells of changes of policy files, until somebody listens. None: they are read when asked for.
    watch: Mutex<Option<Watch>>,
    hierarchy: Hierarchy,
    root: Cgroup,
    pins: Pins,
    security_hooks: SecurityHooks,
    fence: Arc<Fence>,
    /// Sockets that would hang in a flow that is denied.
    doomed: Arc<Doomed>,
    proof: Proof,
    agents: Arc<Agents>,
    names: Arc<dns::Gate>,
    leaks: Arc<Leaks>,
    /// What waits for people.
    desk: Arc<Desk>,
    /// Whose wildcards are to be closed, until somebody listens.
    quarantined: Mutex<Option<Receiver<AgentId>>>,
    name_workers: Arc<dns::Workers>,
    server_names: Arc<proxy::Gate>,
    recorder: Recorder,
    feed: Arc<Feed>,
    log_health: Arc<audit::LogHealth>,
    scrapes: Scrapes,
    /// Ready for the next sealed agent.
    spare_cell: Mutex<Option<Cell>>,
    /// A change of agents or policies at a time.
    changes: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
}

/// The policies in force, and where they were read.
struct Loaded {
    policies: Policies,
    files: Vec<PathBuf>,
    /// None of files of this host.
    revision: Option<Revision>,
    time: audit::Time,
}

/// How often agents without processes are looked for.
const REAP: Duration = Duration::from_secs(2);

/// How often it is looked whether sockets from elsewhere came into adopted cgroups. A look at a thousand
/// descriptors takes some milliseconds.
const LOOK: Duration = Duration::from_secs(5);

/// How often rules are looked at whose term may be over, and budgets that may be used up.
const AGE: Duration = Duration::from_secs(1);

/// How often it is looked which names were connected to; that a name never was is told after half a
/// minute.
const FOLLOW: Duration = Duration::from_secs(5);

/// How often expired grants are removed.
const SWEEP: Duration = Duration::from_secs(30);

/// Events that may wait for the log. A record takes some 400 octets: 8 MiB at the most.
const QUEUE: usize = 16_384;

impl Daemon {
    async fn start(options: Options) -> Result<Arc<Self>> {
        raise_descriptor_limit()?;
        let config = &options.config;
        // First: a file that changes while it is read is read again.
        let watch = local::watch(&options)?;
        let (source, loaded) = block_in_place(|| follow::open(&options))?;
        // Also where this daemon has others: nobody may make them in its place, nor look into those of
        // daemons to come.
        let is_private = |path: &&PathBuf| **path != config.audit_log && **path != config.state_dir;
        for folder in hidden(config).iter().filter(is_private) {
            make_private_folder(folder)?;
        }
        make_private_folder(&config.run_dir)?;
        let lock = lock::lock(&config.run_dir).await?;
        let [exact, others] = [upstreams::open(config)?, upstreams::open(config)?];

        if let Some(folder) = config.audit_log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        }
        let is_held = |error: &audit::LogError| matches!(error, audit::LogError::Busy(_));
        let (log, recovered) = lock::patiently(|| Log::open(&config.audit_log), is_held).await?;
        let log_health = log.health();
        let feed = Feed::new(recovered);
        let (recorder, queue) = Recorder::new(QUEUE);
        tokio::spawn(audit::run(queue, recorder.clone(), log, Arc::clone(&feed)));

        datapath::probe::must_serve()?;
        let hierarchy = Hierarchy::find()?;
        let root = hierarchy.create(&cgroup_name(&options.instance))?;
        let pins = Pins::open(&config.run_dir.join("bpf")).context("failed to open the folder of pins")?;
        if options.lifetime == Lifetime::Service && !pins.outlive_us() {
            let run_dir = config.run_dir.display();
            anyhow::bail!(
                "the pins in `{run_dir}` would end with this daemon, and the fence with them: run it outside of \
                 a private mount namespace (systemd: without Protect* and Private* options), or share `{run_dir}`"
            );
        }
        // Before the programs: building its world takes as long as loading them.
        let proof = Proof::prepare(&root, &pins, &config.run_dir)?;
        let Ebpf { programs, events, security_hooks, .. } = Ebpf::load(&pins, &root, options.security_hooks)?;
        let nft = Nft::claim(&options.instance, &root)?;
        let frames = Frames::open(&pins)?;
        let fence = Arc::new(Fence::new(programs, nft, frames, forwarding()));
        proof.must_pass(&fence).await?;
        let agents = Arc::new(Agents::default());
        let (leaks, quarantined) = Leaks::at(&config.run_dir, recorder.clone());
        let leaks = Arc::new(leaks);
        let names = dns::Gate::new(
            Arc::new(exact),
            Arc::new(others),
            Arc::clone(&fence) as _,
            Arc::clone(&leaks) as _,
            recorder.clone(),
            datapath::now,
        );
        let server_names = proxy::Gate::with_workers(
            proxy::Workers::start().context("failed to start the threads of the proxy")?,
            options.bulk,
            recorder.clone(),
            datapath::now,
            Arc::clone(&names) as _,
            Arc::clone(&fence) as _,
        );
        server_names.inspect_with(inspection::inspector(config)?);
        let desk = Arc::new(Desk::default());
        names.ask_people(Arc::clone(&desk) as _);
        server_names.ask_people(Arc::clone(&desk) as _);
        server_names.spend_by(Arc::clone(fence.budgets()) as _);
        let daemon = Arc::new(Self {
            started: audit::Time::now(),
            policies: ArcSwap::from_pointee(loaded),
            source,
            files: local::Files::default(),
            watch: Mutex::new(watch),
            hierarchy,
            root,
            pins,
            security_hooks,
            fence,
            doomed: Arc::default(),
            proof,
            agents,
            names,
            leaks,
            desk,
            quarantined: Mutex::new(Some(quarantined)),
            name_workers: dns::Workers::start().context("failed to start the dns threads")?,
            server_names,
            recorder,
            feed,
            log_health,
            scrapes: Scrapes::default(),
            spare_cell: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            shutdown: CancellationToken::new(),
            options,
            _lock: lock,
        });
        daemon.write_resolv_conf()?;
        daemon.finish_adoption()?;
        daemon.take_over()?;
        daemon.proof.thaw(&daemon.cgroups_elsewhere());
        // Not before: what was denied while no daemon ran waits in the ring for agents to be known.
        let ring = datapath::report(events, daemon.reporter());
        tokio::spawn(async move {
            if let Err(error) = ring.await {
                tracing::error!(%error, "denials of the kernel programs are no longer recorded");
            }
        });
        Ok(daemon)
    }

    async fn serve(self: &Arc<Self>, [mut terminate, mut interrupt]: [Signal; 2]) -> Result<()> {
        let listener = control::bind(&self.options.config.run_dir.join("control.sock"))?;
        let guard = Arc::clone(self);
        let is_agent = Arc::new(move |pid| guard.is_agent(pid));
        let server = tokio::spawn(control::serve(
            listener,
            Arc::new(Answers(Arc::clone(self))),
            is_agent,
            self.shutdown.clone(),
        ));
        let mut hang_up = signal(SignalKind::hangup())?;
        let sweeper = tokio::spawn(Arc::clone(self).keep_tidy());
        let prover = tokio::spawn(Arc::clone(self).keep_proving());
        let ender = tokio::spawn(Arc::clone(self).keep_ending());
        let lister = tokio::spawn(Arc::clone(self).keep_listing());
        let quarantined = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(quarantined) = quarantined {
            let daemon = Arc::clone(self);
            tokio::spawn(async move { daemon.cut_quarantined(quarantined).await });
        }
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            tokio::spawn(Arc::clone(self).keep_reading(watch));
        }
        tokio::spawn(Arc::clone(self).keep_following());
        tokio::spawn(Arc::clone(self).keep_answering_monitors());
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        tracing::info!(instance = %self.options.instance, "ready");
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    let daemon = Arc::clone(self);
                    tokio::spawn(async move { daemon.reload_on_signal().await });
                }
            }
        }
        sweeper.abort();
        prover.abort();
        ender.abort();
        lister.abort();
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
        self.feed.close();
        self.shutdown.cancel();
        server.await.context("control server")
    }

    /// Whether the process `pid` is in a fence.
    fn is_agent(&self, pid: u32) -> bool {
        self.hierarchy.holds(&self.root, pid) || self.is_adopted(pid)
    }

    /// Ends agents that are gone, and now and then removes what expired.
    async fn keep_tidy(self: Arc<Self>) {
        let mut reap = tokio::time::interval(REAP);
        let mut sweep = tokio::time::interval(SWEEP);
        let mut look = tokio::time::interval(LOOK);
        let mut follow = tokio::time::interval(FOLLOW);
        let mut age = tokio::time::interval(AGE);
        let mut followed = datapath::now();
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = reap.tick() => self.reap().await,
                _ = age.tick() => {
                    self.end_terms().await;
                    self.tell_budgets();
                }
                _ = look.tick() => block_in_place(|| self.look_for_strangers()),
                _ = follow.tick() => {
                    followed = block_in_place(|| self.follow_names(followed));
                }
                _ = sweep.tick() => {
                    let agents = self.agents.all();
                    let names: Vec<_> = agents.iter().map(|running| running.agent.name().clone()).collect();
                    self.leaks.tidy(&names);
                    agents.iter().for_each(|running| self.fence.sweep(&running.agent));
                }
            }
        }
    }

    /// Leaves the fence closed, or nothing at all.
    async fn end(&self) {
        self.proof.end().await;
        match self.options.lifetime {
            Lifetime::Service => {
                let spare = self.spare_cell.lock().unwrap_or_else(PoisonError::into_inner).take();
                spare.iter().for_each(|cell| self.fence.demolish(cell));
                if let Err(error) = self.fence.restore_forwarding() {
                    tracing::warn!(%error, "failed to put forwarding back");
                }
                self.recorder.settled().await;
            }
            Lifetime::Command => {
                self.stop_all().await;
                remove_everything(&self.options);
            }
        }
    }

    async fn reload_on_signal(&self) {
        match self.replace_policies(Cause::by_nobody("SIGHUP")).await {
            Ok(summary) => tracing::info!(policies = summary.policies.len(), "reloaded"),
            Err(error) => tracing::error!("reload changed nothing\n{error}"),
        }
    }
}

/// Removes what a daemon for one command made, as far as it came.
fn remove_everything(options: &Options) {
    let run_dir = &options.config.run_dir;
    let root = || anyhow::Ok(Hierarchy::find()?.create(&cgroup_name(&options.instance))?);
    Cell::sweep(&run_dir.join("cells"), &options.instance, &[]);
    let outcomes = [
        // First, for what still runs there would run without a fence.
        ("processes", root().and_then(|root| Ok(root.remove_with_all()?))),
        ("forwarding", forwarding().restore().map_err(anyhow::Error::from)),
        ("nft table", root().and_then(|root| Ok(Nft::claim(&options.instance, &root)?.delete()?))),
        ("pins", Pins::open(&run_dir.join("bpf")).and_then(Pins::remove).map_err(anyhow::Error::from)),
        ("cgroup", root().and_then(|root| Ok(root.remove()?))),
        ("policy source", source::remove(options)),
        ("run folder", fs::remove_dir_all(run_dir).map_err(anyhow::Error::from)),
    ];
    for (what, outcome) in outcomes {
        if let Err(error) = outcome {
            tracing::warn!(%error, what, "failed to remove");
        }
    }
}

/// All daemons of this host share what turns forwarding on.
fn forwarding() -> Forwarding {
    Forwarding::new(&DaemonConfig::default().run_dir)
}

/// Reads and compiles the policy files that `options` names.
fn load(options: &Options) -> Result<Loaded, config::ConfigError> {
    let config = &options.config;
    let files = match options.policies.as_slice() {
        [] if config.policy_dir.is_dir() => config::load_dir(&config.policy_dir)?,
        files => files.to_vec(),
    };
    let policies = loader(config, &Installed::new(config.cache_dir.clone())).load(&files)?;
    Ok(Loaded { policies, files, revision: None, time: audit::Time::now() })
}

/// A relayed flow takes two descriptors: what the service manager grants is taken whole.
fn raise_descriptor_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("failed to read the descriptor limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("failed to raise the descriptor limit")
}

/// The one way to compile policies: files and texts alike.
fn loader<'a>(config: &'a DaemonConfig, registries: &'a Installed) -> Loader<'a> {
    Loader::new(&config.allowlist_dirs).with_registries(registries).with_credentials(&config.credentials)
}

/// The name of an instance: a part of a cgroup's name and of a table's.
///
/// # Errors
/// Says what is allowed.
pub fn instance_name(text: &str) -> Result<String, String> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    match (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("1 to 32 letters, digits and hyphens".to_owned()),
    }
}

fn cgroup_name(instance: &str) -> String {
    if instance == "default" { "egressd".to_owned() } else { format!("egressd-{instance}") }
}
