//! What an agent may let out through the names that it looks up, and what is done about it.

use super::{host::HostName, rule::RuleId, secrets::Secrets, source::Source};
use std::{fmt, sync::Arc};

/// The terms of one agent for names under wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakTerms {
    /// Over all rules.
    pub budget: LeakBudget,
    pub actions: LeakActions,
    /// What must not be found in a name.
    pub secrets: Arc<Secrets>,
}

impl Default for LeakTerms {
    fn default() -> Self {
        Self { budget: LeakBudget::AGENT, actions: LeakActions::default(), secrets: Arc::default() }
    }
}

/// How much may leak, as bytes in any day. A quarter of it may go at once, the rest comes back hour
/// by hour: a day that begins with a full bucket sees a quarter and 24 refills of a 32nd of it in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeakBudget {
    /// Bytes a day, at most [`Self::MAX`].
    bytes: u32,
}

impl LeakBudget {
    /// Of one rule, unless it says otherwise: 8192 bits at once, 1024 bits an hour.
    pub const RULE: Self = Self { bytes: 4096 };
    /// Of one agent over all its rules: 16384 bits at once, 2048 bits an hour.
    pub const AGENT: Self = Self { bytes: 8192 };
    /// Beyond a megabyte a day the word budget means nothing.
    pub const MAX: u32 = 1 << 20;

    /// A budget of `bytes` a day; None beyond [`Self::MAX`].
    #[must_use]
    pub const fn of_bytes(bytes: u32) -> Option<Self> {
        if bytes <= Self::MAX { Some(Self { bytes }) } else { None }
    }

    /// Bytes a day.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.bytes
    }

    /// Bits that may go at once.
    #[must_use]
    pub fn capacity(self) -> u32 {
        self.bytes * 2
    }

    /// Bits that come back in an hour.
    #[must_use]
    pub fn hourly(self) -> u32 {
        self.bytes / 4
    }
}

/// The wildcard rule that a name is allowed by, which says whose zone learns of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    /// The name without what the wildcard stands for.
    pub zone: HostName,
    pub rule: RuleId,
    pub source: Source,
    pub budget: LeakBudget,
}

impl Wildcard {
    /// What an agent chose of `name`: the labels in front of the zone, without the last dot.
    #[must_use]
    pub fn prefix<'a>(&self, name: &'a HostName) -> &'a str {
        let name = name.as_str();
        name.strip_suffix(self.zone.as_str()).and_then(|rest| rest.strip_suffix('.')).unwrap_or(name)
    }
}

macro_rules! flags {
    ($($(#[doc = $doc:literal])+ $variant:ident = $id:literal $word:literal $action:ident,)+) => {
        /// A sign that names carry more than names. A closed set: the words are part of the policy and
        /// of the audit schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum LeakFlag {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl LeakFlag {
            /// Every flag, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its number in reports: `E3`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),+ }
            }

            /// Its word in policies and records.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }

            /// What is done where the policy does not say.
            #[must_use]
            pub fn default_action(self) -> LeakAction {
                match self { $(Self::$variant => LeakAction::$action),+ }
            }
        }
    };
}

flags! {
    /// A name or a type that no client needs was asked for under a wildcard.
    UnusualQuery = "E1" "unusual-query" Refuse,
    /// The labels of one name that look random cost more than 320 bits, or the name costs 640.
    LongName = "E2" "long-name" Freeze,
    /// Five names in an hour look encoded, or fewer that cost 320 bits.
    EncodedNames = "E3" "encoded-names" Freeze,
    /// 64 names in an hour were never asked for before.
    ManyNames = "E4" "many-names" Freeze,
    /// 96 names in a day were never asked for before, or fewer that cost 5120 bits.
    ManyNamesADay = "E5" "many-names-a-day" Flag,
    /// Four names in an hour do not exist.
    AbsentNames = "E6" "absent-names" Freeze,
    /// Half of the budget is spent.
    HalfSpent = "E7" "half-spent" Flag,
    /// Of the last eight names that were looked up in a day, hardly one was connected to.
    NeverConnected = "E8" "never-connected" Freeze,
    /// 24 names in a day look random, or fewer that cost 860 bits.
    SlowDrip = "E9" "slow-drip" Flag,
    /// A name holds a part of a registered secret.
    Secret = "E10" "secret" Quarantine,
    /// Names of a denied zone look like a tunnel's.
    DeniedTunnel = "E11" "denied-tunnel" Flag,
}

impl fmt::Display for LeakFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done at a flag, from the mildest to the hardest. Each does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeakAction {
    /// A line in the log.
    Log,
    /// It is shown by `egressctl leaks` and the tail.
    Flag,
    /// Budget comes back at an eighth of its rate.
    RateLimit,
    /// Names that are known already go on; others are refused until somebody approves, or nothing was
    /// refused for an hour.
    Freeze,
    /// This name is refused.
    Refuse,
    /// Exact names only, and flows that wildcards opened are cut.
    Quarantine,
}

impl LeakAction {
    pub const ALL: [Self; 6] =
        [Self::Log, Self::Flag, Self::RateLimit, Self::Freeze, Self::Refuse, Self::Quarantine];

    /// Its word in policies and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Flag => "flag",
            Self::RateLimit => "rate_limit",
            Self::Freeze => "freeze",
            Self::Refuse => "refuse",
            Self::Quarantine => "quarantine",
        }
    }
}

impl fmt::Display for LeakAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done at each flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakActions([LeakAction; LeakFlag::ALL.len()]);

impl LeakActions {
    #[must_use]
    pub fn at(&self, flag: LeakFlag) -> LeakAction {
        self.0[flag as usize]
    }

    /// The same, but `action` at `flag`.
    #[must_use]
    pub fn with(mut self, flag: LeakFlag, action: LeakAction) -> Self {
        self.0[flag as usize] = action;
        self
    }
}

impl Default for LeakActions {
    fn default() -> Self {
        let mut actions = [LeakAction::Flag; LeakFlag::ALL.len()];
        actions.iter_mut().zip(LeakFlag::ALL).for_each(|(action, flag)| *action = flag.default_action());
        Self(actions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_in_bytes_a_day_is_a_bucket_in_bits() {
        assert_eq!((LeakBudget::RULE.capacity(), LeakBudget::RULE.hourly()), (8192, 1024));
        assert_eq!((LeakBudget::AGENT.capacity(), LeakBudget::AGENT.hourly()), (16384, 2048));
        for bytes in [0, 1, 640, 4096, LeakBudget::MAX] {
            let budget = LeakBudget::of_bytes(bytes).unwrap();
            assert!(budget.capacity() + 24 * budget.hourly() <= 8 * bytes, "{bytes}");
        }
        assert_eq!(LeakBudget::of_bytes(LeakBudget::MAX + 1), None);
    }

    #[test]
    fn a_wildcard_knows_what_the_agent_chose_of_a_name() {
        let zone = HostName::parse("example.com").unwrap();
        let source = Source { file: "p.yaml".into(), line: 1 };
        let wildcard = Wildcard { zone, rule: RuleId(1), source, budget: LeakBudget::RULE };
        assert_eq!(wildcard.prefix(&HostName::parse("a.b.example.com").unwrap()), "a.b");
    }

    #[test]
    fn every_flag_has_its_own_word_and_place() {
        for (index, flag) in LeakFlag::ALL.iter().enumerate() {
            assert_eq!(*flag as usize, index);
            assert_eq!(LeakActions::default().at(*flag), flag.default_action());
        }
    }
}
