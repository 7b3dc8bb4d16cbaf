//! The budgets in memory: a map of the kernel, as an array.

use super::slot::Slot;
use egress_common::MAX_BUDGETS;
use std::{
    io,
    ops::Deref,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
};

/// Every place of the map, for as long as this lives.
#[derive(Debug)]
pub struct Memory(NonNull<Slot>);

impl Memory {
    /// Maps the places of the map `map`, which must have been made with BPF_F_MMAPABLE.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses where, so that nothing of ours is mapped over.
        let at =
            unsafe { libc::mmap(ptr::null_mut(), LENGTH, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at address 0"))
    }
}

impl Deref for Memory {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        // SAFETY: so much is mapped for as long as `self` lives, aligned to pages; every bit pattern is a value of
        // what consists of atomic numbers, and nobody has an exclusive reference.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), PLACES) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is what `of` mapped, and no reference to it outlives `self`.
        let _ = unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

// SAFETY: all that is there are atomic numbers.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// With place 0, which stands for none.
const PLACES: usize = MAX_BUDGETS as usize + 1;
const LENGTH: usize = PLACES * size_of::<Slot>();
