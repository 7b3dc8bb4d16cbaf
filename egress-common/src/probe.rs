//! How the daemon asks the kernel whether the fence sees a socket that somebody else made.

/// A level of setsockopt(2) that no protocol has, "egrd". The `setsockopt` program refuses it on
/// every socket that was made inside the fence; on others the kernel does not know it.
pub const FENCE_PROBE: i32 = 0x6567_7264;
