//! What people do with policies before they are in force: check, compare, try, write and translate them.
//!
//! Everything here goes by policies as the daemon compiles them and by the function that decides for it.

pub mod export;
mod fate;
pub mod import;
pub mod lint;
mod patterns;
pub mod suggest;

pub use fate::{Fate, MAX_QUOTE, Translated};
pub use lint::{Finding, Severity, lint};
pub use suggest::{Evidence, Suggestion, Suggestions};
