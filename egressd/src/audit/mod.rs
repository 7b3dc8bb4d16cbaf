//! What happened, for people, for programs and for the auditor.
//!
//! Edges hand an [`Event`], an [`Alert`] or a [`Change`] to the [`Recorder`] and go on. [`run`] turns them into
//! numbered [`Line`]s, and gives them to the [`Feed`] (memory, for followers) and the [`Log`] (disk).

mod alert;
mod change;
mod encode;
mod event;
mod feed;
mod filter;
mod flood;
mod health;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod log;
mod read;
mod record;
mod recorder;
mod recover;
mod run;
mod tally;
mod time;

pub use alert::{Alert, RecordedAlert, Sign};
pub use change::{Act, Change, RecordedChange, RecordedOperator};
pub use encode::{encode_line, is_unprintable};
pub use event::{Event, Gate, Path, Spoken, Verdict};
pub use feed::{Batch, Feed, Follower, RING, Totals};
pub use filter::{Filter, Verdicts};
pub use health::{Health, LogHealth};
pub use log::{Log, LogError};
pub use read::{Unread, read_line};
pub use record::{Gap, Line, LostAt, Record, RecordedDestination, RecordedProcess, SCHEMA_VERSION};
pub use recorder::Recorder;
pub use recover::Recovered;
pub use run::run;
pub use tally::{AgentTally, Tally};
pub use time::{Time, UnknownTime};
