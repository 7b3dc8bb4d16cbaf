//! The attacks: 33 streams of questions that carry a random payload, each by one line of a table.

use super::{
    alone::{A, AAAA},
    captures,
    encodings::{Encoding, Payload, WORDS},
    subject::{Query, Scene, TICK},
};
use egressd::policy::HostName;
use std::{path::Path, time::Duration};

/// A stream that can be played.
pub struct Stream {
    pub name: &'static str,
    pub what: &'static str,
    pub scene: Scene,
    pub queries: Vec<Query>,
    /// What each question carries, in their order.
    pub carried: Vec<Carried>,
}

/// Bits of payload that whoever reads the upstream's side learns of one question, where it comes through.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Carried {
    /// By a name that was never seen before.
    pub once: f64,
    /// By the choice among names that are known.
    pub each: f64,
    /// By the type.
    pub kind: f64,
    /// By the ticks since the question before.
    pub gap: f64,
    /// By what is left of the moment within its tick.
    pub within: f64,
}

/// How a stream is made.
struct Recipe {
    name: &'static str,
    what: &'static str,
    /// Between two questions of one agent.
    every: Duration,
    channel: Channel,
    spread: Spread,
}

#[derive(Clone, Copy)]
enum Channel {
    Names(Encoding),
    /// So many names that are asked for again and again.
    Again(usize),
    /// A or AAAA, of so many names.
    Kinds(usize),
    /// Names of two symbols say nothing; how many ticks lie between them does, in so many bits.
    Gaps(u32),
    /// All of them at once.
    Mixed(Encoding),
    /// A registered secret, eight octets a name in hex.
    Secret,
}

#[derive(Clone, Copy, PartialEq)]
enum Spread {
    OneRule,
    Rules(usize),
    Agents(usize),
}

/// All of them: the six captures (where they are), and the others.
pub fn all(captures_folder: &Path) -> Vec<Stream> {
    let mut streams = captures::streams(captures_folder);
    streams.extend(RECIPES.iter().map(Recipe::stream));
    streams
}

/// Those of these names that are made, not captured.
pub fn named(names: &[&str]) -> Vec<Stream> {
    RECIPES.iter().filter(|recipe| names.contains(&recipe.name)).map(Recipe::stream).collect()
}

const fn one(name: &'static str, what: &'static str, every: Duration, channel: Channel) -> Recipe {
    Recipe { name, what, every, channel, spread: Spread::OneRule }
}

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

use Channel::{Again, Gaps, Kinds, Mixed, Names, Secret};
use Encoding::{Base32, Base36, Base64Url, Hex, Tenant, Thin, Words};

const RECIPES: [Recipe; 27] = [
    one("hex-10s", "32 hex digits, ten a second", TENTH, Names(Hex(32))),
    one("hex-1m", "32 hex digits, one a minute", MINUTE, Names(Hex(32))),
    one("hex-1h", "32 hex digits, one an hour", HOUR, Names(Hex(32))),
    one("b32-10s", "a full label of base32, ten a second", TENTH, Names(Base32(63))),
    one("b32-10m", "32 symbols of base32, one in ten minutes", TEN_MINUTES, Names(Base32(32))),
    one("b32-1h", "32 symbols of base32, one an hour", HOUR, Names(Base32(32))),
    one("b64url-1s", "32 symbols of base64url, one a second", SECOND, Names(Base64Url(32))),
    one("b64url-1m", "16 symbols of base64url, one a minute", MINUTE, Names(Base64Url(16))),
    one("base36-1s", "24 letters and digits, one a second", SECOND, Names(Base36(24))),
    one("base36-10m", "16 letters and digits, one in ten minutes", TEN_MINUTES, Names(Base36(16))),
    one("words-1s", "three words of 128, one a second", SECOND, Names(Words(3))),
    one("words-1m", "three words of 128, one a minute", MINUTE, Names(Words(3))),
    one("words-10m", "three words of 128, one in ten minutes", TEN_MINUTES, Names(Words(3))),
    one("thin-10s", "a word and a counter, nine octets, ten a second", TENTH, Names(Thin)),
    one("thin-1m", "a word and a counter, nine octets, one a minute", MINUTE, Names(Thin)),
    one("tenant-1s", "names as of a content network's tenants, one a second", SECOND, Names(Tenant)),
    one("tenant-1m", "names as of a content network's tenants, one a minute", MINUTE, Names(Tenant)),
    one("again-16", "one of 16 names again, ten a second", TENTH, Again(16)),
    one("again-256", "one of 256 names again, one a second", SECOND, Again(256)),
    one("kinds-1s", "A or AAAA of 64 names, one a second", SECOND, Kinds(64)),
    one("gaps-1s", "short names, 3 bits between two of them, one a second", SECOND, Gaps(3)),
    one("gaps-1m", "short names, 8 bits between two of them, one a minute", MINUTE, Gaps(8)),
    one("mixed-1s", "16 hex digits, the type and the time, one a second", SECOND, Mixed(Hex(16))),
    Recipe {
        name: "spread-b32",
        what: "32 symbols of base32, one a minute, by turns over 16 rules",
        every: MINUTE,
        channel: Names(Base32(32)),
        spread: Spread::Rules(16),
    },
    Recipe {
        name: "spread-words",
        what: "three words of 128, one a second, by turns over 16 rules",
        every: SECOND,
        channel: Names(Words(3)),
        spread: Spread::Rules(16),
    },
    Recipe {
        name: "colluding-base36",
        what: "16 letters and digits, one in ten minutes from each of four agents",
        every: TEN_MINUTES,
        channel: Names(Base36(16)),
        spread: Spread::Agents(4),
    },
    one("secret-1h", "eight octets of a registered secret in hex, one an hour", HOUR, Secret),
];

impl Recipe {
    fn stream(&self) -> Stream {
        let mut payload = Payload::of(self.name);
        let mut stream = Stream {
            name: self.name,
            what: self.what,
            scene: self.scene(),
            queries: vec![],
            carried: vec![],
        };
        let mut at = START;
        let mut turn = 0;
        while at < DAY {
            let agents = stream.scene.agents;
            for agent in 0..agents {
                let (label, kind, carried) = self.channel.next(&mut payload, turn * agents + agent);
                let zone = &stream.scene.zones[turn % stream.scene.zones.len()];
                let name = format!("{label}.{zone}").into_bytes();
                stream.queries.push(Query { at: at + self.channel.within(&mut payload), agent, name, kind });
                stream.carried.push(carried);
            }
            at += self.channel.pause(&mut payload, self.every);
            turn += 1;
        }
        stream
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::of("evil.test");
        if let Spread::Rules(count) = self.spread {
            let zone = |number| HostName::parse(&format!("evil{number}.test")).expect("zones are host names");
            scene.zones = (0..count).map(zone).collect();
        }
        if let Spread::Agents(count) = self.spread {
            scene.agents = count;
        }
        if matches!(self.channel, Secret) {
            scene.terms.secrets = captures::secrets(SECRET);
        }
        scene
    }
}

impl Channel {
    /// The label and type of a question, and what it carries.
    fn next(self, payload: &mut Payload, turn: usize) -> (String, u16, Carried) {
        let nothing = Carried::default();
        let bits = |count: usize| count.ilog2();
        match self {
            Self::Names(encoding) => {
                let spelt = encoding.spell(payload);
                (spelt.label, A, Carried { once: spelt.bits, ..nothing })
            }
            // Each is made known in the first round.
            Self::Again(count) if turn < count => (numbered(turn), A, nothing),
            Self::Again(count) => {
                let chosen = payload.bits(bits(count)) as usize;
                (numbered(chosen), A, Carried { each: f64::from(bits(count)), ..nothing })
            }
            Self::Kinds(count) => {
                let kind = if payload.bits(1) == 0 { A } else { AAAA };
                (numbered(turn % count), kind, Carried { kind: 1.0, ..nothing })
            }
            Self::Gaps(gap_bits) => {
                let carried = Carried { gap: gap_bits.into(), within: WITHIN_BITS.into(), ..nothing };
                (short(turn), A, carried)
            }
            Self::Mixed(encoding) => {
                let spelt = encoding.spell(payload);
                let kind = if payload.bits(1) == 0 { A } else { AAAA };
                let within = WITHIN_BITS.into();
                let gap = MIXED_GAP.into();
                (spelt.label, kind, Carried { once: spelt.bits, kind: 1.0, gap, within, ..nothing })
            }
            Self::Secret => {
                let start = turn * 8 % SECRET.len();
                let chunk = SECRET.get(start..start + 8).unwrap_or(SECRET);
                let label = chunk.iter().map(|octet| format!("{octet:02x}")).collect();
                (label, A, Carried { once: 64.0, ..nothing })
            }
        }
    }

    /// How long until the next question, in whole ticks: `every` on average.
    fn pause(self, payload: &mut Payload, every: Duration) -> Duration {
        let bits = match self {
            Self::Gaps(bits) => bits,
            Self::Mixed(_) => MIXED_GAP,
            Self::Names(_) | Self::Again(_) | Self::Kinds(_) | Self::Secret => return every,
        };
        let half = (every.as_millis() / TICK.as_millis() / 2) as u32;
        let step = (half * 2 / (1 << bits)).max(1);
        TICK * (half + payload.bits(bits) as u32 * step)
    }

    /// How late in its tick a question is asked: that says more, to whoever sees it.
    fn within(self, payload: &mut Payload) -> Duration {
        match self {
            Self::Gaps(_) | Self::Mixed(_) => TICK / 16 * payload.bits(WITHIN_BITS) as u32,
            Self::Names(_) | Self::Again(_) | Self::Kinds(_) | Self::Secret => Duration::ZERO,
        }
    }
}

fn numbered(number: usize) -> String {
    let word = WORDS[number % WORDS.len()];
    if number < WORDS.len() { word.to_owned() } else { format!("{word}{}", number / WORDS.len()) }
}

/// Of as few symbols as can be.
fn short(mut number: usize) -> String {
    let mut label = String::new();
    loop {
        label.push(char::from(b"abcdefghijklmnopqrstuvwxyz"[number % 26]));
        number /= 26;
        if number == 0 {
            return label;
        }
    }
}

/// What is registered where a stream tells a secret.
const SECRET: &[u8] = b"ghp_R4nd0mT0kenOfTheBench2026xYz";

/// Bits that a moment tells beside its tick, where there is no grid: sixteenths of it, before its end.
const WITHIN_BITS: u32 = 3;
/// Bits that gaps of a mixed stream carry.
const MIXED_GAP: u32 = 3;

/// Early in a tick, and later than any ledger begins.
pub const START: Duration = Duration::from_millis(60_030);
pub const DAY: Duration = Duration::from_secs(86_400);
