//! Where this kernel keeps what our programs read, by its own type information (BTF).
//!
//! The programs are compiled once, for every kernel; what differs from kernel to kernel is looked
//! up when they are loaded. The format is that of Documentation/bpf/btf.rst.

use egress_common::{GateOffsets, Offsets};
use std::{fs, io};

/// Reads the offsets from the running kernel.
///
/// # Errors
/// The kernel has no type information, or names a member otherwise.
pub fn of_this_kernel() -> Result<Offsets, OffsetError> {
    let types = Types::read(fs::read(VMLINUX).map_err(OffsetError::Read)?)?;
    let offset = |structure, path| types.offset(structure, path);
    Ok(Offsets {
        socket_sk: offset("socket", &["sk"])?,
        sock_cgroup: offset("sock", &["sk_cgrp_data", "cgroup"])?,
        cgroup_level: offset("cgroup", &["level"])?,
        cgroup_ancestors: offset("cgroup", &["ancestors"])?,
        cgroup_node: offset("cgroup", &["kn"])?,
        node_id: offset("kernfs_node", &["id"])?,
        unix_address: offset("unix_sock", &["addr"])?,
        address_length: offset("unix_address", &["len"])?,
        address_name: offset("unix_address", &["name"])?,
    })
}

/// As [`of_this_kernel`], of what the programs read that judge server names.
///
/// # Errors
/// As there.
pub fn of_the_gate() -> Result<GateOffsets, OffsetError> {
    let types = Types::read(fs::read(VMLINUX).map_err(OffsetError::Read)?)?;
    let offset = |structure, member| types.offset(structure, &[member]);
    let is_known = keeps_pages_as_known(&types);
    // SAFETY: the call takes nothing and changes nothing.
    let page_size = u32::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    Ok(GateOffsets {
        write_seq: offset("tcp_sock", "write_seq")?,
        skb_head: offset("sk_buff", "head")?,
        skb_end: offset("sk_buff", "end")?,
        shared_flags: offset("skb_shared_info", "flags")?,
        shared_count: offset("skb_shared_info", "nr_frags")?,
        shared_pages: if is_known { offset("skb_shared_info", "frags")? } else { 0 },
        page: types.size("page")?,
        page_size,
    })
}

/// Whether messages and packets keep their pages where the programs look for them, and messages in pages of
/// the kernel's own: before Linux 6.5, sendfile(2) put pages into them that others can write to.
fn keeps_pages_as_known(types: &Types) -> bool {
    let offset = |structure, member| types.offset(structure, &[member]);
    let is_at = |members: &[(&'static str, &'static str, u32)]| {
        members.iter().all(|(structure, member, at)| offset(structure, member).ok() == Some(*at))
    };
    let message = [("sk_msg", "sg", 0), ("sk_msg_sg", "start", 0), ("sk_msg_sg", "data", 32)];
    let piece =
        [("scatterlist", "page_link", 0), ("scatterlist", "offset", 8), ("scatterlist", "length", 12)];
    let fragment = [("skb_frag", "netmem", 0), ("skb_frag", "len", 8), ("skb_frag", "offset", 12)];
    // Its name before Linux 6.9.
    let vector = [("bio_vec", "bv_page", 0), ("bio_vec", "bv_len", 8), ("bio_vec", "bv_offset", 12)];
    let is_fragment = match types.size("skb_frag") {
        Ok(size) => size == 16 && is_at(&fragment),
        Err(_) => is_at(&vector),
    };
    is_at(&message) && is_at(&piece) && is_fragment && offset("proto", "sendpage").is_err()
}

/// Why a member was not found.
#[derive(Debug, thiserror::Error)]
pub enum OffsetError {
    #[error("failed to read the kernel's type information: {0}")]
    Read(io::Error),
    #[error("failed to parse the kernel's type information at octet {0}")]
    Malformed(usize),
    #[error("this kernel has no `{member}` in `struct {structure}`")]
    Missing { structure: &'static str, member: &'static str },
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's types, by number; 0 is void.
struct Types {
    octets: Vec<u8>,
    /// Where each type begins.
    places: Vec<usize>,
    strings: usize,
}

/// A type's head, and where what follows it begins.
struct Type {
    name: u32,
    kind: u32,
    has_bit_fields: bool,
    members: usize,
    /// Octets, or the type that this one stands for.
    size_or_type: u32,
    rest: usize,
}

struct Member {
    name: u32,
    kind: u32,
    offset: u32,
}

impl Types {
    fn read(octets: Vec<u8>) -> Result<Self, OffsetError> {
        let header = word(&octets, 4)? as usize;
        let begin = header + word(&octets, 8)? as usize;
        let end = begin + word(&octets, 12)? as usize;
        let strings = header + word(&octets, 16)? as usize;
        let mut types = Self { octets, places: vec![0], strings };
        let mut place = begin;
        while place < end {
            types.places.push(place);
            place = types.end_of(place)?;
        }
        Ok(types)
    }

    /// Octets from the begin of `structure` to the member at the end of `path`.
    fn offset(&self, structure: &'static str, path: &[&'static str]) -> Result<u32, OffsetError> {
        let mut kind = self.structure(structure)?;
        let mut bits = 0;
        for member in path {
            let found = self.member(kind, member, MAX_DEPTH)?;
            let found = found.ok_or(OffsetError::Missing { structure, member })?;
            bits += found.offset;
            kind = found.kind;
        }
        Ok(bits / 8)
    }

    /// Octets of `structure`.
    fn size(&self, structure: &'static str) -> Result<u32, OffsetError> {
        Ok(self.resolve(self.structure(structure)?)?.size_or_type)
    }

    fn structure(&self, name: &'static str) -> Result<u32, OffsetError> {
        for (number, place) in self.places.iter().enumerate().skip(1) {
            let found = self.at(*place)?;
            if found.kind == STRUCT && self.is_called(found.name, name) {
                return u32::try_from(number).map_err(|_| OffsetError::Malformed(*place));
            }
        }
        Err(OffsetError::Missing { structure: name, member: "" })
    }

    /// Looks into members without a name too: to C they are part of the structure around them.
    fn member(&self, of: u32, name: &str, depth: u32) -> Result<Option<Member>, OffsetError> {
        let structure = self.resolve(of)?;
        if !matches!(structure.kind, STRUCT | UNION) || depth == 0 {
            return Ok(None);
        }
        for index in 0..structure.members {
            let member = self.member_at(&structure, index)?;
            if self.is_called(member.name, name) {
                return Ok(Some(member));
            }
            if self.is_called(member.name, "")
                && let Some(inner) = self.member(member.kind, name, depth - 1)?
            {
                return Ok(Some(Member { offset: member.offset + inner.offset, ..inner }));
            }
        }
        Ok(None)
    }

    fn member_at(&self, structure: &Type, index: usize) -> Result<Member, OffsetError> {
        let place = structure.rest + index * 12;
        let offset = self.word(place + 8)?;
        // With bit fields, the upper octet is the field's size.
        let offset = if structure.has_bit_fields { offset & 0x00ff_ffff } else { offset };
        Ok(Member { name: self.word(place)?, kind: self.word(place + 4)?, offset })
    }

    /// The type behind names and qualifiers.
    fn resolve(&self, number: u32) -> Result<Type, OffsetError> {
        let mut number = number;
        for _ in 0..MAX_DEPTH {
            let place = self.places.get(number as usize).copied().ok_or(OffsetError::Malformed(0))?;
            let found = self.at(place)?;
            match found.kind {
                TYPEDEF | VOLATILE | CONST | TYPE_TAG => number = found.size_or_type,
                _ => return Ok(found),
            }
        }
        Err(OffsetError::Malformed(number as usize))
    }

    fn at(&self, place: usize) -> Result<Type, OffsetError> {
        let info = self.word(place + 4)?;
        Ok(Type {
            name: self.word(place)?,
            kind: info >> 24 & 0x1f,
            has_bit_fields: info >> 31 == 1,
            members: (info & 0xffff) as usize,
            size_or_type: self.word(place + 8)?,
            rest: place + 12,
        })
    }

    fn end_of(&self, place: usize) -> Result<usize, OffsetError> {
        let Type { kind, members, rest, .. } = self.at(place)?;
        let length = match kind {
            INT | VAR | DECL_TAG => 4,
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
            ARRAY => 12,
            ENUM | FUNC_PROTO => members * 8,
            STRUCT | UNION | DATASEC | ENUM64 => members * 12,
            _ => return Err(OffsetError::Malformed(place)),
        };
        Ok(rest + length)
    }

    fn is_called(&self, at: u32, name: &str) -> bool {
        let begin = self.strings + at as usize;
        let found = self.octets.get(begin..begin + name.len() + 1);
        found.is_some_and(|found| found.split_last() == Some((&0, name.as_bytes())))
    }

    fn word(&self, place: usize) -> Result<u32, OffsetError> {
        word(&self.octets, place)
    }
}

fn word(octets: &[u8], place: usize) -> Result<u32, OffsetError> {
    let found = octets.get(place..).and_then(|rest| rest.first_chunk());
    found.copied().map(u32::from_ne_bytes).ok_or(OffsetError::Malformed(place))
}

/// Names of types, qualifiers and members without a name, one in the other: the kernel has three.
const MAX_DEPTH: u32 = 8;

// include/uapi/linux/btf.h.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_says_where_it_keeps_what_we_read() {
        let offsets = of_this_kernel().unwrap();
        // The first is behind others in its structure, whatever the kernel; the last is an array at
        // the end.
        assert!(offsets.socket_sk > 0 && offsets.address_name > offsets.address_length, "{offsets:?}");
        let offsets = of_the_gate().unwrap();
        assert!(offsets.write_seq > 0 && offsets.skb_head > 0 && offsets.skb_end > 0, "{offsets:?}");
        assert!(offsets.shared_pages > offsets.shared_count && offsets.page > 0, "{offsets:?}");
    }

    #[test]
    fn a_member_in_a_nameless_part_is_found_behind_names_and_qualifiers() {
        let types = Types::read(sample()).unwrap();
        assert_eq!(types.offset("outer", &["first"]).unwrap(), 0);
        assert_eq!(types.offset("outer", &["inner"]).unwrap(), 12);
        assert_eq!(types.offset("outer", &["named", "inner"]).unwrap(), 20);
        let missing = types.offset("outer", &["absent"]).unwrap_err().to_string();
        assert_eq!(missing, "this kernel has no `absent` in `struct outer`");
        assert!(types.offset("absent", &["first"]).is_err());
    }

    #[test]
    fn type_information_that_is_cut_is_an_error() {
        let whole = sample();
        for length in 0..whole.len() {
            let cut = Types::read(whole[..length].to_vec());
            let _ = cut.map(|types| types.offset("outer", &["named", "inner"]));
        }
    }

    /// `struct outer { int first; struct { int; int inner; } at 8; const alias named at 16 }`,
    /// where `alias` is that nameless structure.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0first\0inner\0named\0alias\0int\0";
        let at = |name: &str| {
            let name = format!("\0{name}\0");
            let found = strings.windows(name.len()).position(|window| window == name.as_bytes());
            u32::try_from(found.unwrap() + 1).unwrap()
        };
        let head = |name, kind: u32, members: u32, size| vec![name, kind << 24 | members, size];
        let types = [
            [head(at("int"), INT, 0, 4), vec![32]].concat(),
            [head(0, STRUCT, 1, 8), vec![at("inner"), 1, 32]].concat(),
            head(at("alias"), TYPEDEF, 0, 2),
            head(0, CONST, 0, 3),
            [head(at("outer"), STRUCT, 3, 24), vec![at("first"), 1, 0, 0, 2, 64, at("named"), 4, 128]]
                .concat(),
        ]
        .concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        let string_length = u32::try_from(strings.len()).unwrap();
        let header = [0x0001_eb9f, 24, 0, length, length, string_length];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        words.chain(strings.iter().copied()).collect()
    }
}
