//! What happened, for people, for programs and for the auditor.

mod event;

pub use event::{Event, Gate, Recorder, Spoken, Verdict};
