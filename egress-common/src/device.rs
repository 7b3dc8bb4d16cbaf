//! A device node, and what was wanted of it.

use crate::flow::Address;

/// A device by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
}

/// The two kinds of devices.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Block = 1,
    Character = 2,
}

impl Device {
    /// As it stands in an event, where an address would.
    #[inline(always)]
    #[must_use]
    pub const fn to_address(self) -> Address {
        let [a, b, c, d] = self.major.to_be_bytes();
        let [e, f, g, h] = self.minor.to_be_bytes();
        [self.kind as u8, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]
    }

    /// The device in the address of an event.
    #[must_use]
    pub const fn from_address(address: Address) -> Self {
        let [kind, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = address;
        let kind = if kind == DeviceKind::Block as u8 { DeviceKind::Block } else { DeviceKind::Character };
        Self { kind, major: u32::from_be_bytes([a, b, c, d]), minor: u32::from_be_bytes([e, f, g, h]) }
    }
}
