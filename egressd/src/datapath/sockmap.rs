//! The programs that judge server names, and the map of sockets that said none yet. Not every kernel takes
//! them; where one does not, the proxy judges everything.

use super::{
    bpffs::Pins,
    ebpf::{self, EbpfError, chain, load, pin},
    links,
    lsm::Kernel,
    lsm_offsets,
};
use aya::{
    Ebpf,
    maps::{MapData, SockHash},
};
use egress_common::GateOffsets;
use std::{io, os::fd::AsFd};

/// The program that follows sockets, on the cgroup above all agents.
pub const LIFE: &str = "life";
/// The one that reads what they send, on the map [`SILENT`].
pub const MESSAGE: &str = "message";
/// The map of sockets that have connected and said no name yet.
pub const SILENT: &str = "SILENT";

/// The object, with the programs that judge server names loaded if this kernel takes them; else without, and
/// so that the others send everything to the proxy, and why, for people.
///
/// # Errors
/// The object or its maps are refused.
pub fn open(pins: &Pins, kernel: Option<&Kernel>) -> Result<(Ebpf, Result<(), String>), EbpfError> {
    let why = match lsm_offsets::of_the_gate() {
        Ok(offsets) => {
            // Where the kernel is locked down, its memory is not read, and no second hello is judged, nor a long one.
            let blind = GateOffsets { skb_head: 0, ..offsets };
            let mut why = String::new();
            for offsets in [offsets, blind] {
                let mut object = ebpf::open(pins, kernel, offsets)?;
                match load_all(&mut object) {
                    Ok(()) => return Ok((object, Ok(()))),
                    Err(error) => why = error.to_string(),
                }
            }
            why
        }
        Err(error) => error.to_string(),
    };
    Ok((ebpf::open(pins, kernel, GateOffsets::default())?, Err(why)))
}

/// Has the program [`MESSAGE`] judge what the sockets in [`SILENT`] send, and pins it.
///
/// # Errors
/// The kernel refuses.
pub fn attach_message(object: &mut Ebpf, pins: &Pins) -> Result<(), EbpfError> {
    let map = object.take_map(SILENT).ok_or(EbpfError::Missing(SILENT))?;
    let map = SockHash::<MapData, u64>::try_from(map)
        .map_err(|error| EbpfError::Map { map: SILENT, error: chain(&error) })?;
    let program = object.program_mut(MESSAGE).ok_or(EbpfError::Missing(MESSAGE))?;
    pin(program, MESSAGE, pins)?;
    let loaded = program.fd().map_err(|error| EbpfError::Refused { hook: MESSAGE, error: chain(&error) })?;
    links::attach_to_sockmap(loaded, map.fd().as_fd())
        .map_err(|error| EbpfError::Attach { hook: MESSAGE, error })
}

/// The ids of the programs that judge what the sockets in the pinned map send; None where no map is.
///
/// # Errors
/// The kernel does not say.
pub fn judges(pins: &Pins) -> io::Result<Option<Vec<u32>>> {
    match links::open(&pins.maps().join(SILENT))? {
        Some(map) => links::attached_to_sockmap(map).map(Some),
        None => Ok(None),
    }
}

/// Those of which the kernel must take all or none.
fn load_all(object: &mut Ebpf) -> Result<(), EbpfError> {
    for hook in [MESSAGE, LIFE, "egress", "ingress"] {
        let program = object.program_mut(hook).ok_or(EbpfError::Missing(hook))?;
        load(program).map_err(|error| EbpfError::Refused { hook, error: chain(&error) })?;
    }
    Ok(())
}
