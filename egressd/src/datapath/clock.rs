//! The clock that grants are measured on.

use crate::policy::Moment;
use nix::time::{ClockId, clock_gettime};

/// This moment on `CLOCK_BOOTTIME`; the end of time if the clock cannot be read, which no grant
/// outlives.
#[must_use]
pub fn now() -> Moment {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Moment(u64::MAX), |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(u64::MAX);
        let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
        Moment(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    })
}
