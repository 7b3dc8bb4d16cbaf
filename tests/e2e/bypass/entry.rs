//! A way out, as a value, and who tries it how.

use std::fmt;

/// One way out. It is tried as written against a place that is denied; the same without a fence
/// has to leak, and what `allowed` says has to work in the fence.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Unique among all sections. `B` numbers are those of the catalogue of threats, `N` are ours.
    pub id: &'static str,
    pub what: &'static str,
    /// A trick as `attack` knows them, with [`Family`]'s placeholders.
    pub trick: &'static str,
    pub tiers: &'static [Tier],
    pub families: &'static [Family],
    pub allowed: Allowed,
    pub helper: Helper,
    /// A script that works where this way out can be tried at all, and what is missing otherwise.
    pub needs: Option<(&'static str, &'static str)>,
    /// What a shell does first, as root, outside the fence, in the mount namespace that the trick
    /// then runs in. It may execute `"$0" "$@"`, which starts the trick.
    pub stage: &'static str,
    /// By a proxy that `http_proxy` and `https_proxy` name: egressd's, and an open one without a fence.
    pub proxied: bool,
    /// The launcher may refuse to start it at all.
    pub refusable: bool,
}

/// A way out that is tried by anyone over both families, and works towards what is allowed.
pub const fn way(id: &'static str, what: &'static str, trick: &'static str) -> Entry {
    let (tiers, families) = (ANYONE, BOTH);
    Entry {
        id,
        what,
        trick,
        tiers,
        families,
        allowed: Allowed::Same,
        helper: Helper::None,
        needs: None,
        stage: "",
        proxied: false,
        refusable: false,
    }
}

impl Entry {
    pub const fn at(self, tiers: &'static [Tier]) -> Self {
        Self { tiers, ..self }
    }

    pub const fn over(self, families: &'static [Family]) -> Self {
        Self { families, ..self }
    }

    /// What the same tool may do: a script that succeeds in the fence.
    pub const fn works_as(self, script: &'static str) -> Self {
        Self { allowed: Allowed::Script(script), ..self }
    }

    /// There is nothing of this kind that the fence allows, because `reason`.
    pub const fn never_works(self, reason: &'static str) -> Self {
        Self { allowed: Allowed::Never(reason), ..self }
    }

    /// Only a sealed agent may do this at all: `script`. No other may, because `reason`.
    pub const fn works_sealed_as(self, script: &'static str, reason: &'static str) -> Self {
        Self { allowed: Allowed::Sealed(script, reason), ..self }
    }

    /// Needs someone outside: see [`Helper`].
    pub const fn helped_by(self, helper: Helper) -> Self {
        Self { helper, ..self }
    }

    /// Begins outside: see [`Entry::stage`].
    pub const fn staged(self, stage: &'static str) -> Self {
        Self { stage, ..self }
    }

    pub const fn proxied(self) -> Self {
        Self { proxied: true, ..self }
    }

    pub const fn refusable(self) -> Self {
        Self { refusable: true, ..self }
    }

    /// Can be tried only where `probe` works, as root and without a fence; else `missing` is why.
    pub const fn needs(self, probe: &'static str, missing: &'static str) -> Self {
        Self { needs: Some((probe, missing)), ..self }
    }
}

/// The working twin: what shows that the fence does not simply stop everything.
#[derive(Debug, Clone, Copy)]
pub enum Allowed {
    /// The trick itself, towards the place that is allowed.
    Same,
    Script(&'static str),
    /// The same in sealed mode. In the other no such thing is allowed, and why.
    Sealed(&'static str, &'static str),
    /// No such thing is allowed, and why.
    Never(&'static str),
}

/// A script that someone else runs meanwhile, as root. It says `ready` once it is, and is killed
/// when the trick has ended. What it sends itself must not depend on time: only on being asked.
#[derive(Debug, Clone, Copy)]
pub enum Helper {
    None,
    /// On the internet, where frames that it sends are not counted.
    Inet(&'static str),
    /// On the host, outside the fence. What it sends is counted, as a deputy's would be.
    Host(&'static str),
}

/// Who tries. Without a fence each has what containers commonly give it; in the fence what the
/// launcher leaves it, and in sealed mode what a policy may keep for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// A user without privileges.
    T0,
    /// Root with the capabilities of a common container, NET_RAW among them.
    T1,
    /// The same with NET_ADMIN.
    T2,
}

impl Tier {
    /// What runs a program without a fence as this tier.
    pub fn unfenced(self) -> &'static [&'static str] {
        const T0: &[&str] =
            &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"];
        const T1: &[&str] = &[
            "setpriv",
            "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
             +net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
            "--",
        ];
        const T2: &[&str] = &["setpriv", "--bounding-set=-sys_admin,-sys_module,-bpf,-perfmon", "--"];
        match self {
            Self::T0 => T0,
            Self::T1 => T1,
            Self::T2 => T2,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::T0 => "T0",
            Self::T1 => "T1",
            Self::T2 => "T2",
        })
    }
}

/// Over what. In scripts `{ip}` is the place's address of this family, `{url}` the same as URLs
/// have it, `{ok}` and `{ok_url}` those of what is allowed, `{own}` the host's, `{ns}` the name
/// server's, `{gateway}` the gateway's. `{dash}` is `-4` or `-6`, `{link}` the name of the link that
/// leads out, and `{dig}` an impatient `dig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// What stands between agent and network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Cgroup,
    Sealed,
}

impl Mode {
    /// Name of the agent and flags of `egressctl run` with which `tier` is started.
    pub fn agent(self, tier: Tier) -> (&'static str, &'static [&'static str]) {
        match (self, tier) {
            (Self::Cgroup, Tier::T0) => (crate::AGENT, &["--mode", "cgroup", "--uid", "nobody"]),
            // No policy lets it keep a capability over the network.
            (Self::Cgroup, Tier::T1 | Tier::T2) => (crate::AGENT, &["--mode", "cgroup"]),
            (Self::Sealed, Tier::T0) => (crate::AGENT, &["--mode", "sealed", "--uid", "nobody"]),
            (Self::Sealed, Tier::T1) => (RAW_AGENT, &["--mode", "sealed"]),
            (Self::Sealed, Tier::T2) => (ADMIN_AGENT, &["--mode", "sealed"]),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "cgroup",
            Self::Sealed => "sealed",
        })
    }
}

/// Every mode that ways out are tried in.
pub const MODES: &[Mode] = &[Mode::Cgroup, Mode::Sealed];

/// The agents whose policies keep NET_RAW, and NET_ADMIN with it.
pub const RAW_AGENT: &str = "raw";
pub const ADMIN_AGENT: &str = "admin";

pub const ANYONE: &[Tier] = &[Tier::T0, Tier::T1];
pub const USER: &[Tier] = &[Tier::T0];
pub const ROOT: &[Tier] = &[Tier::T1];
pub const ADMIN: &[Tier] = &[Tier::T2];

pub const BOTH: &[Family] = &[Family::V4, Family::V6];
pub const V4: &[Family] = &[Family::V4];
pub const V6: &[Family] = &[Family::V6];
