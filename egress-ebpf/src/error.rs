//! What a judgement that denies returns.

use egress_common::DropReason;

/// A denial: why, and by which deny rule (0 where none).
#[derive(Clone, Copy)]
pub struct Denied {
    pub reason: DropReason,
    pub rule: u32,
}

impl Denied {
    #[inline(always)]
    pub const fn because(reason: DropReason) -> Self {
        Self { reason, rule: 0 }
    }
}
