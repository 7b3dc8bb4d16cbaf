//! What a denial of the kernel programs says beyond its reason, in words. Pure.

use egress_common::{Device, DeviceKind, DropReason, Event, Hook};

/// The detail of the event's record; None where the reason says it all.
pub fn of(raw: &Event) -> Option<String> {
    match Hook::from_code(raw.hook)? {
        Hook::SetSocketOption => Some(format!("socket option {} of level {}", raw.port, raw.protocol)),
        Hook::SocketCreate => socket(raw),
        Hook::Connect | Hook::SendMessage => unix_socket(raw),
        Hook::Device => Some(device(Device::from_address(raw.address))),
        Hook::IoUring => Some("io_uring_setup(2)".to_owned()),
        Hook::Bpf => Some("bpf(2)".to_owned()),
        Hook::Frame => (raw.family == 0).then(|| format!("frame of EtherType {:#06x}", raw.port)),
        Hook::Egress | Hook::Ingress | Hook::ServerName => None,
    }
}

/// A socket of IP has its protocol in the record.
fn socket(raw: &Event) -> Option<String> {
    match raw.family {
        0 | AF_INET | AF_INET6 => None,
        AF_NETLINK => Some(format!("socket family AF_NETLINK, protocol {}", raw.protocol)),
        family => Some(match FAMILIES.iter().find(|(number, _)| *number == family) {
            Some((_, name)) => format!("socket family {name}"),
            None => format!("socket family {family}"),
        }),
    }
}

fn unix_socket(raw: &Event) -> Option<String> {
    let is_unix = raw.reason == DropReason::UnixSocketNotAllowed as u32;
    let length = raw.address.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    let name = String::from_utf8_lossy(&raw.address[..length]);
    let rest = if length == raw.address.len() { "…" } else { "" };
    is_unix.then(|| match raw.port {
        0 => format!("Unix socket `{name}{rest}`"),
        _ => format!("abstract Unix socket `@{name}{rest}`"),
    })
}

fn device(device: Device) -> String {
    let Device { kind, major, minor } = device;
    let letter = match kind {
        DeviceKind::Block => 'b',
        DeviceKind::Character => 'c',
    };
    match DEVICES.iter().find(|(known, _)| *known == device) {
        Some((_, path)) => format!("device {letter} {major}:{minor} ({path})"),
        None => format!("device {letter} {major}:{minor}"),
    }
}

// include/linux/socket.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;

/// Families that programs try.
const FAMILIES: [(u16, &str); 14] = [
    (15, "AF_KEY"),
    (17, "AF_PACKET"),
    (21, "AF_RDS"),
    (24, "AF_PPPOX"),
    (26, "AF_LLC"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
    (41, "AF_KCM"),
    (42, "AF_QIPCRTR"),
    (43, "AF_SMC"),
    (44, "AF_XDP"),
];

/// Devices whose numbers tell people little (Documentation/admin-guide/devices.txt).
const DEVICES: [(Device, &str); 12] = [
    (character(1, 1), "/dev/mem"),
    (character(1, 11), "/dev/kmsg"),
    (character(5, 1), "/dev/console"),
    (character(10, 200), "/dev/net/tun"),
    (character(10, 223), "/dev/uinput"),
    (character(10, 229), "/dev/fuse"),
    (character(10, 232), "/dev/kvm"),
    (character(10, 237), "/dev/loop-control"),
    (character(10, 238), "/dev/vhost-net"),
    (character(10, 241), "/dev/vhost-vsock"),
    (character(10, 183), "/dev/hwrng"),
    (character(108, 0), "/dev/ppp"),
];

const fn character(major: u32, minor: u32) -> Device {
    Device { kind: DeviceKind::Character, major, minor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_flow_is_named() {
        says(Event { family: 17, ..event(Hook::SocketCreate) }, "socket family AF_PACKET");
        says(Event { family: 99, ..event(Hook::SocketCreate) }, "socket family 99");
        says(
            Event { family: 16, protocol: 12, ..event(Hook::SocketCreate) },
            "socket family AF_NETLINK, protocol 12",
        );
        says(event(Hook::IoUring), "io_uring_setup(2)");
        says(event(Hook::Bpf), "bpf(2)");
        let tun = character(10, 200).to_address();
        says(Event { address: tun, ..event(Hook::Device) }, "device c 10:200 (/dev/net/tun)");
        let disk = Device { kind: DeviceKind::Block, major: 259, minor: 70_000 }.to_address();
        says(Event { address: disk, ..event(Hook::Device) }, "device b 259:70000");
    }

    #[test]
    fn a_name_of_a_unix_socket_is_shown_as_far_as_it_was_read() {
        let named = |name: &[u8]| {
            let mut address = [0; 16];
            address[..name.len()].copy_from_slice(name);
            let reason = DropReason::UnixSocketNotAllowed as u32;
            Event { family: 1, port: 1, reason, address, ..event(Hook::Connect) }
        };
        says(named(b"deputy"), "abstract Unix socket `@deputy`");
        says(Event { port: 0, ..named(b"/run/docker.sock") }, "Unix socket `/run/docker.sock…`");
        says(named(b"/tmp/.X11-unix/X"), "abstract Unix socket `@/tmp/.X11-unix/X…`");
        says(named(b"a\0b"), "abstract Unix socket `@a\0b`");
    }

    #[test]
    fn a_flow_says_it_all_with_its_reason() {
        assert_eq!(of(&Event { family: AF_INET, ..event(Hook::Connect) }), None);
        assert_eq!(of(&Event { family: AF_INET, protocol: 1, ..event(Hook::SocketCreate) }), None);
    }

    fn says(raw: Event, text: &str) {
        assert_eq!(of(&raw).as_deref(), Some(text));
    }

    fn event(hook: Hook) -> Event {
        Event {
            time: 0,
            agent: 1,
            pid: 1,
            reason: DropReason::SocketTypeNotAllowed as u32,
            rule: 0,
            port: 0,
            protocol: 0,
            hook: hook as u8,
            family: 0,
            observed: 0,
            address: [0; 16],
            command: [0; 16],
        }
    }
}
