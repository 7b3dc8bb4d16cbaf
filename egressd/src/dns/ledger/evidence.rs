//! Why a flag was raised, as figures that take little room and as a sentence.

use super::{report::Raised, trigrams::Look};
use crate::policy::{LeakAction, LeakFlag, Moment};
use std::fmt;

/// What was seen at a flag, and how the account stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    pub sign: Sign,
    /// Bits.
    pub used: u32,
    pub capacity: u32,
    pub looked_up: u8,
    pub connected: u8,
    /// Of all zones together.
    pub is_over_all: bool,
}

/// What was seen. One variant a flag, but for what each flag of denied names can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Unusual { what: Short, name: Short },
    LongName { bits: u32, name: Short },
    EncodedNames { names: u32, bits: u32, seconds: u32, label: Short, per_character: u32 },
    ManyNames { names: u32 },
    ManyNamesADay { names: u32, bits: u32 },
    AbsentNames { names: u32, seconds: u32, name: Short },
    HalfSpent { used: u32 },
    BothSpent { other: Short },
    NeverConnected,
    SlowDrip { names: u32, bits: u32, label: Short, per_character: u32 },
    Secret { secret: Short },
}

impl Sign {
    #[must_use]
    pub fn flag(self) -> LeakFlag {
        match self {
            Self::Unusual { .. } => LeakFlag::UnusualQuery,
            Self::LongName { .. } => LeakFlag::LongName,
            Self::EncodedNames { .. } => LeakFlag::EncodedNames,
            Self::ManyNames { .. } => LeakFlag::ManyNames,
            Self::ManyNamesADay { .. } => LeakFlag::ManyNamesADay,
            Self::AbsentNames { .. } => LeakFlag::AbsentNames,
            Self::HalfSpent { .. } | Self::BothSpent { .. } => LeakFlag::HalfSpent,
            Self::NeverConnected => LeakFlag::NeverConnected,
            Self::SlowDrip { .. } => LeakFlag::SlowDrip,
            Self::Secret { .. } => LeakFlag::Secret,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} of {} bits used", self.sign, self.used, self.capacity)?;
        match self.looked_up {
            0 => {}
            looked_up => write!(f, "; {} of {looked_up} names connected", self.connected)?,
        }
        f.write_str(if self.is_over_all { "; over all zones" } else { "" })
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusual { what, name } => write!(f, "{what} was asked for at `{name}`"),
            Self::LongName { bits, name } => write!(f, "one name costs {bits} bits (`{name}`)"),
            Self::EncodedNames { names, bits, seconds, label, per_character } => write!(
                f,
                "{names} new encoded-looking labels in {}, {bits} bits of them (e.g. `{label}`, {} bits/char)",
                Span(*seconds),
                Tenths(*per_character)
            ),
            Self::ManyNames { names } => write!(f, "{names} new names in an hour"),
            Self::ManyNamesADay { names, bits } => {
                write!(f, "{names} new names in a day, {bits} bits of them")
            }
            Self::AbsentNames { names, seconds, name } => {
                write!(f, "{names} names in {} do not exist (e.g. `{name}`)", Span(*seconds))
            }
            Self::HalfSpent { .. } => f.write_str("half of the budget is spent"),
            Self::BothSpent { other } => write!(f, "this budget is spent, and that of `{other}` is too"),
            Self::NeverConnected => f.write_str("names are looked up and hardly one is connected to"),
            Self::SlowDrip { names, bits, label, per_character } => write!(
                f,
                "{names} new random-looking names in a day, {bits} bits of them (e.g. `{label}`, {} bits/char)",
                Tenths(*per_character)
            ),
            Self::Secret { secret } => write!(f, "a part of the secret `{secret}` is in the name"),
        }
    }
}

/// The beginning of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short {
    octets: [u8; Self::MAX],
    length: u8,
}

impl Short {
    /// Octets: enough to recognise a name.
    const MAX: usize = 19;

    /// The beginning of `text`, with dots behind it where it goes on.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let is_whole = text.len() <= Self::MAX;
        let kept = if is_whole { text.len() } else { text.floor_char_boundary(Self::MAX - DOTS.len()) };
        let mut octets = [0; Self::MAX];
        let dots = if is_whole { "" } else { DOTS };
        let text = text.bytes().take(kept).chain(dots.bytes());
        octets.iter_mut().zip(text).for_each(|(place, octet)| *place = octet);
        Self { octets, length: u8::try_from(kept + dots.len()).unwrap_or_default() }
    }

    /// The label of `prefix` that `look` is about.
    #[must_use]
    pub fn label(prefix: &str, look: Look) -> Self {
        Self::new(prefix.get(look.label.0..look.label.1).unwrap_or(prefix))
    }

    fn as_str(&self) -> &str {
        let kept = self.octets.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

const DOTS: &str = "...";

/// The last of one flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub evidence: Evidence,
    pub action: LeakAction,
    pub at: Moment,
}

impl From<&Kept> for Raised {
    fn from(kept: &Kept) -> Self {
        let Kept { evidence, action, at } = kept;
        Self { flag: evidence.sign.flag(), action: *action, at: *at, evidence: evidence.to_string() }
    }
}

/// Seconds, as people say them.
pub struct Span(pub u32);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds => write!(f, "{} min", seconds / 60),
        }
    }
}

/// Sixteenths, as a decimal.
pub struct Tenths(pub u32);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 * 10 / 16;
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}
