//! What is really attached to the cgroup above all agents, as the kernel tells it: our programs,
//! and those of others.

use super::{bpffs::Pins, cgroup::Cgroup, ebpf::HOOKS, frames, links, seal::Link, sockmap};
use aya::programs::{ProgramInfo, loaded_programs};
use std::{io, os::fd::AsFd};

/// The programs that see what agents do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// Hooks of ours, and links of sealed agents, without the program that we put there.
    pub missing: Vec<String>,
    /// Programs of others on our own cgroup: nobody has business there.
    pub foreign: Vec<String>,
    /// Programs of others on the cgroups above ours, as service meshes and service managers have.
    /// All of them can only deny, or change a destination that is judged again as it leaves.
    pub above: Vec<String>,
}

impl Attached {
    /// Asks the kernel what is attached to `cgroup` and to the `devices` of sealed agents, and
    /// compares it with what `pins` hold.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn to(cgroup: &Cgroup, devices: &[Link], pins: &Pins) -> io::Result<Self> {
        let folder = cgroup.file().map_err(io::Error::other)?;
        let mut attached = Self::default();
        for (hook, kind) in HOOKS {
            let own = pinned(pins, hook);
            let direct = links::attached(&folder, kind as u32, links::Whose::Own)?;
            if own.is_none_or(|own| !direct.contains(&own)) {
                attached.missing.push(hook.to_owned());
            }
            attached.note(&folder, kind as u32, own, &direct)?;
        }
        attached.look_at_the_gate(&folder, pins)?;
        for kind in OTHER_HOOKS {
            match links::attached(&folder, kind, links::Whose::Own) {
                Ok(direct) => attached.note(&folder, kind, None, &direct)?,
                // A hook that this kernel does not have.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        let own = pinned(pins, frames::PROGRAM);
        for link in devices {
            match links::attached_to_device(link.index) {
                Ok(programs) if own.is_some_and(|own| programs.contains(&own)) => {}
                Ok(_) => attached.missing.push(format!("{} at `{}`", frames::PROGRAM, link.name)),
                // A kernel without TCX, whose filters the device keeps, or a device that is gone.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attached)
    }

    /// The programs that judge server names, where the kernel took them: then they are pinned.
    fn look_at_the_gate(&mut self, folder: impl AsFd, pins: &Pins) -> io::Result<()> {
        let kind = links::AttachType::SocketOperations as u32;
        let own = pinned(pins, sockmap::LIFE);
        let direct = links::attached(&folder, kind, links::Whose::Own)?;
        if own.is_some_and(|own| !direct.contains(&own)) {
            self.missing.push(sockmap::LIFE.to_owned());
        }
        self.note(&folder, kind, own, &direct)?;
        let Some(own) = pinned(pins, sockmap::MESSAGE) else { return Ok(()) };
        match sockmap::judges(pins) {
            Ok(Some(judges)) if judges == [own] => {}
            Ok(_) => self.missing.push(sockmap::MESSAGE.to_owned()),
            // A kernel that does not say.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn note(&mut self, folder: impl AsFd, kind: u32, own: Option<u32>, direct: &[u32]) -> io::Result<()> {
        let effective = links::attached(folder, kind, links::Whose::Effective)?;
        self.foreign.extend(direct.iter().filter(|id| Some(**id) != own).map(|id| describe(*id, kind)));
        let above = effective.iter().filter(|id| Some(**id) != own && !direct.contains(id));
        self.above.extend(above.map(|id| describe(*id, kind)));
        Ok(())
    }
}

/// The hooks of a cgroup to which nothing of ours is attached (include/uapi/linux/bpf.h, enum
/// bpf_attach_type): binds, sysctl, getsockopt, getsockname, Unix sockets.
const OTHER_HOOKS: [u32; 13] = [8, 9, 12, 13, 18, 21, 31, 32, 49, 50, 51, 52, 53];

/// The id of the program that is pinned as `name`.
fn pinned(pins: &Pins, name: &str) -> Option<u32> {
    ProgramInfo::from_pin(pins.programs().join(name)).map(|program| program.id()).ok()
}

fn describe(id: u32, kind: u32) -> String {
    let named = loaded_programs().flatten().find(|program| program.id() == id);
    let name = named.as_ref().and_then(ProgramInfo::name_as_str).filter(|name| !name.is_empty());
    format!("program {id} `{}` at {}", name.unwrap_or("?"), hook_name(kind))
}

fn hook_name(kind: u32) -> String {
    let own = HOOKS.iter().find(|(_, own)| *own as u32 == kind);
    own.map_or_else(|| format!("hook {kind}"), |(hook, _)| (*hook).to_owned())
}
