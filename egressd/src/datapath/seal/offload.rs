//! What a device leaves for a later one to do, as ethtool(8) sets it.

use std::{io, os::fd::AsRawFd};

/// Has `device` of this network namespace complete checksums as frames leave it.
///
/// # Errors
/// There is no such device, or the kernel refuses.
pub fn take_over_checksums(device: &str) -> io::Result<()> {
    // include/uapi/linux/ethtool.h, struct ethtool_value.
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    /// include/uapi/linux/sockios.h.
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
    // SAFETY: zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One octet of the name stays NUL.
    let name = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    name.zip(device.bytes()).for_each(|(to, from)| *to = from.cast_signed());
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value that it leads to outlive the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
