//! The ClientHello, as the kernel programs read it.

/// The most extensions of a ClientHello that the programs walk. Browsers send about 20.
pub const MAX_EXTENSIONS: u32 = 32;
