//! What people do with policies before they are in force: check, compare, try, write and translate them.
//!
//! Everything here goes by policies as the daemon compiles them and by the function that decides for it.

pub mod cases;
pub mod diff;
pub mod export;
mod fate;
pub mod format;
pub mod import;
pub mod lint;
pub mod patch;
mod patterns;
mod reach;
pub mod suggest;

pub use cases::{CaseError, CaseFile, Outcome, uncovered};
pub use diff::{Change, Difference, Place, diff};
pub use fate::{Fate, MAX_QUOTE, Translated};
pub use lint::{Finding, Lint, Severity, lint};
pub use patch::{PatchError, patch};
pub use suggest::{Evidence, Suggestion, Suggestions};
