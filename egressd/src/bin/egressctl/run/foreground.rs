//! The foreground of our terminal, which a program may take and not give back.

use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal},
    unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp},
};
use std::io::stdin;

/// Gives the foreground back to our process group when dropped, if it was there before.
#[derive(Debug)]
pub struct Foreground {
    ours: Option<Pid>,
}

impl Foreground {
    pub fn keep() -> Self {
        let ours = getpgrp();
        Self { ours: tcgetpgrp(stdin()).ok().filter(|group| *group == ours) }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let Some(ours) = self.ours else { return };
        // tcsetpgrp(3): who is in the background may do this only with SIGTTOU blocked.
        let Ok(before) = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK) else {
            return;
        };
        // The terminal may have gone meanwhile.
        let _ = tcsetpgrp(stdin(), ours);
        // The mask was in force before, so the kernel takes it.
        let _ = before.thread_set_mask();
    }
}
