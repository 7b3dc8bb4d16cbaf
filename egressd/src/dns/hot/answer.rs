//! One answer, encoded once, told often.

use super::plain::{Key, Plain};
use crate::{
    audit::Event,
    dns::{
        answer::{Answer, CD, OPT_LENGTH, RD, TRUNCATED, limit},
        query::{Echo, Edns, HEADER},
    },
    policy::{Moment, Transport},
};
use std::{sync::Arc, time::Duration};

/// The state of the world that an answer rests on: it was judged and granted at this moment or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Of the agent, read before its policy was asked. See [`crate::policy::Agent::generation`].
    pub generation: u64,
    /// Read before anything was looked up.
    pub moment: Moment,
}

/// What was told once, and may be told again while it rests on what it was judged by.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The question section.
    pub question: Vec<u8>,
    /// Of addresses, an absence, or a name that does not exist; its grants are in the kernel.
    pub answer: Answer,
    pub basis: Basis,
    /// How it was recorded.
    pub event: Event,
}

/// The same, encoded.
#[derive(Debug)]
pub struct Encoded {
    pub key: Arc<[u8]>,
    /// Without its process, which may be another one each time.
    pub event: Event,
    generation: u64,
    lasts_until: Moment,
    /// The header's second word, but for what it repeats of the query.
    flags: [u8; 2],
    /// Counts of answers and authorities.
    counts: [u8; 4],
    /// All of one length.
    records: Box<[u8]>,
    record_length: usize,
    /// Ends with the TTL again: how long to remember an absence.
    is_absence: bool,
}

impl Encoded {
    /// None for what is no answer but an error, and for records of other types.
    #[must_use]
    pub fn new(kept: Kept) -> Option<Self> {
        let Kept { question, answer, basis, event } = kept;
        let (ttl, is_absence) = match &answer {
            Answer::Addresses { ttl, .. } => (*ttl, false),
            Answer::NoData { ttl } | Answer::NoName { ttl } => (*ttl, true),
            // Of many lengths, and rarely asked for.
            Answer::Records { .. } | Answer::Error { .. } => return None,
        };
        let key = Arc::from(Key::of(&question).as_octets());
        let start = HEADER + question.len();
        let message = answer.write(&Echo { id: 0, flags: 0, question, edns: None }, Transport::Tcp);
        let records: Box<[u8]> = message.get(start..)?.into();
        let counts: [u8; 4] = message.get(6..10)?.try_into().ok()?;
        let count = counts.chunks(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]]))).sum();
        Some(Self {
            key,
            event: Event { process: None, ..event },
            generation: basis.generation,
            lasts_until: basis.moment.after(ttl),
            flags: message.get(2..4)?.try_into().ok()?,
            counts,
            record_length: records.len().checked_div(count).unwrap_or(0),
            records,
            is_absence,
        })
    }

    /// Whether it may be told at `now` to an agent of this generation.
    ///
    /// Its grants outlive it by [`super::super::gate::GRACE`].
    #[must_use]
    pub fn is_good(&self, generation: u64, now: Moment) -> bool {
        self.generation == generation && now < self.lasts_until
    }

    #[must_use]
    pub fn lasts_until(&self) -> Moment {
        self.lasts_until
    }

    /// Octets that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.records.len() + 2 * self.key.len()
    }

    /// Writes what `Answer::write` writes, and returns how much that is. None where it does not fit into
    /// `out`, which never happens at [`crate::dns::answer::MAX_UDP`] octets.
    pub fn write(&self, plain: &Plain<'_>, now: Moment, out: &mut [u8]) -> Option<usize> {
        let start = HEADER + plain.question.len();
        let fitting = self.fitting(start, plain.edns);
        let end = start + fitting;
        let [flags_high, flags_low] = (plain.flags & (RD | CD)).to_be_bytes();
        let is_cut = fitting < self.records.len();
        let mut counts = self.counts;
        if is_cut {
            let count = u16::try_from(fitting / self.record_length.max(1)).ok()?;
            counts[..2].copy_from_slice(&count.to_be_bytes());
        }
        let high = self.flags[0] | flags_high | if is_cut { TRUNCATED } else { 0 };
        let [one, two, three, four] = counts;
        out.get_mut(..HEADER)?.copy_from_slice(&[
            plain.id[0],
            plain.id[1],
            high,
            self.flags[1] | flags_low,
            0,
            1,
            one,
            two,
            three,
            four,
            0,
            u8::from(plain.edns.is_some()),
        ]);
        out.get_mut(HEADER..start)?.copy_from_slice(plain.question);
        let records = out.get_mut(start..end)?;
        records.copy_from_slice(&self.records[..fitting]);
        self.tell_ttl(records, self.ttl_at(now))?;
        if plain.edns.is_none() {
            return Some(end);
        }
        out.get_mut(end..end + OPT_LENGTH)?.copy_from_slice(&OPT);
        Some(end + OPT_LENGTH)
    }

    /// Octets of the records that an answer has room for behind `start`.
    fn fitting(&self, start: usize, edns: Option<Edns>) -> usize {
        // An absence is one record, for which there is always room.
        let room = limit(edns, Transport::Udp).saturating_sub(start + OPT_LENGTH);
        if self.is_absence || self.records.len() <= room {
            return self.records.len();
        }
        room - room.checked_rem(self.record_length).unwrap_or(0)
    }

    fn ttl_at(&self, now: Moment) -> u32 {
        let rest = self.lasts_until.since(now).as_nanos().div_ceil(SECOND.as_nanos());
        u32::try_from(rest).unwrap_or(u32::MAX)
    }

    fn tell_ttl(&self, records: &mut [u8], ttl: u32) -> Option<()> {
        let ttl = ttl.to_be_bytes();
        for record in records.chunks_exact_mut(self.record_length.max(1)) {
            record.get_mut(RECORD_TTL)?.copy_from_slice(&ttl);
            if self.is_absence {
                record.last_chunk_mut::<4>()?.copy_from_slice(&ttl);
            }
        }
        Some(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Behind a pointer to the name, type and class.
const RECORD_TTL: std::ops::Range<usize> = 6..10;
/// The OPT record of an answer: root, type 41, 1232 octets, no code, version 0, no options.
const OPT: [u8; OPT_LENGTH] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
