//! What somebody else with root could do to the kernel programs: bpf(2), by hand.

use nix::libc;
use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// What is pinned at `path`.
pub fn pinned(path: &Path) -> OwnedFd {
    let path = CString::new(path.as_os_str().as_bytes()).expect("paths hold no NUL");
    let descriptor = bpf(OBJ_GET, &[path.as_ptr() as u64, 0]).expect("the pin is there");
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Detaches the link that is pinned at `path`. The pin stays.
pub fn detach_link(path: &Path) {
    bpf(LINK_DETACH, &[number(&pinned(path))]).expect("a link can be detached");
}

/// Puts `program` behind the link that is pinned at `path`.
pub fn replace_program(path: &Path, program: &OwnedFd) {
    let link = pinned(path);
    bpf(LINK_UPDATE, &[number(&link) | number(program) << 32, 0]).expect("a program can be replaced");
}

/// Puts `program` in the place of the one that is pinned at `path`.
pub fn replace_pin(path: &Path, program: &OwnedFd) {
    std::fs::remove_file(path).expect("the pin is there");
    let path = CString::new(path.as_os_str().as_bytes()).expect("paths hold no NUL");
    bpf(OBJ_PIN, &[path.as_ptr() as u64, number(program)]).expect("a program can be pinned");
}

/// Writes one entry of a pinned map.
pub fn write_map(map: &Path, key: &[u8], value: &[u8]) {
    let map = pinned(map);
    let attributes = [number(&map), key.as_ptr() as u64, value.as_ptr() as u64, 0];
    bpf(MAP_UPDATE, &attributes).expect("an entry can be written");
}

/// Removes one entry of a pinned map.
pub fn erase_map(map: &Path, key: &[u8]) {
    let map = pinned(map);
    bpf(MAP_DELETE, &[number(&map), key.as_ptr() as u64]).expect("an entry can be removed");
}

/// How many entries a pinned map has. One that others write to meanwhile may seem to have more.
pub fn count_entries(map: &Path) -> usize {
    let map = pinned(map);
    let mut key: [u8; MAX_KEY];
    let mut next = [0_u8; MAX_KEY];
    let mut start = 0;
    let mut count = 0;
    while bpf(MAP_NEXT_KEY, &[number(&map), start, next.as_mut_ptr() as u64]).is_ok() {
        key = next;
        start = key.as_ptr() as u64;
        count += 1;
    }
    count
}

/// An instruction, as the kernel reads it: operation, registers, offset, constant.
pub type Instruction = (u8, u8, i16, i32);

/// A program of two instructions that lets everything pass.
pub const PASS: &[Instruction] = &[(MOVE, 0, 0, 1), (EXIT, 0, 0, 0)];

/// The same for frames (include/uapi/linux/bpf.h, TCX_PASS).
pub const PASS_FRAMES: &[Instruction] = &[(MOVE, 0, 0, 0), (EXIT, 0, 0, 0)];

/// A connect4 program that turns connections to `from` into connections to `to`, and lets all pass.
pub fn redirector(from: [u8; 4], to: [u8; 4]) -> Vec<Instruction> {
    let (from, to) = (i32::from_ne_bytes(from), i32::from_ne_bytes(to));
    vec![
        // r2 = context->user_ip4 (include/uapi/linux/bpf.h, struct bpf_sock_addr)
        (LOAD_WORD, 0x12, USER_IP4, 0),
        // 32 bits, for the constant is sign extended in 64.
        (JUMP_NOT_EQUAL_32, 0x02, 2, from),
        (MOVE_32, 0x03, 0, to),
        (STORE_WORD, 0x31, USER_IP4, 0),
        PASS[0],
        PASS[1],
    ]
}

/// Loads a program of this type for this hook.
pub fn load(program_type: u32, attach_type: u32, instructions: &[Instruction]) -> OwnedFd {
    let encode = |(operation, registers, offset, constant): &Instruction| {
        [&[*operation, *registers][..], &offset.to_ne_bytes(), &constant.to_ne_bytes()].concat()
    };
    let code: Vec<u8> = instructions.iter().flat_map(encode).collect();
    let license = c"GPL";
    let mut attributes = [0_u64; 9];
    attributes[0] = u64::from(program_type) | (instructions.len() as u64) << 32;
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    attributes[8] = u64::from(attach_type) << 32;
    let descriptor = bpf(PROG_LOAD, &attributes).expect("the kernel takes the program");
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Attaches `program` to a cgroup beside the programs of others, until what is returned is dropped.
pub fn attach(cgroup: &Path, program: &OwnedFd, attach_type: u32) -> OwnedFd {
    let cgroup = File::open(cgroup).expect("the cgroup is there");
    let attributes = [number(program) | number(&cgroup) << 32, u64::from(attach_type)];
    let descriptor = bpf(LINK_CREATE, &attributes).expect("the program can be attached");
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

// include/uapi/linux/bpf.h, enum bpf_prog_type and enum bpf_attach_type.
pub const SCHED_CLS: u32 = 3;
pub const CGROUP_SKB: u32 = 8;
pub const CGROUP_SOCK_ADDR: u32 = 18;
pub const EGRESS: u32 = 1;
pub const CONNECT4: u32 = 10;

/// Octets: no key of ours is longer.
const MAX_KEY: usize = 64;

// enum bpf_cmd.
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const MAP_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

// Documentation/bpf/standardization/instruction-set.rst.
const MOVE: u8 = 0xb7;
const MOVE_32: u8 = 0xb4;
const EXIT: u8 = 0x95;
const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const USER_IP4: i16 = 4;

fn number(descriptor: &impl AsRawFd) -> u64 {
    u64::try_from(descriptor.as_raw_fd()).expect("descriptors are not negative")
}

fn bpf(command: libc::c_int, attributes: &[u64]) -> io::Result<i32> {
    let size = size_of_val(attributes);
    // SAFETY: `attributes` begin a union bpf_attr, and are as long as we say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or_default()) }
}
