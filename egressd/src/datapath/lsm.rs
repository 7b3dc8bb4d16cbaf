//! The programs on the kernel's security hooks, which not every kernel runs.

use super::{ebpf::chain, lsm_offsets};
use aya::{
    Btf, Ebpf,
    programs::{LsmCgroup, Program, ProgramError},
};
use egress_common::Offsets;
use std::fs;

/// The programs, each with its hook. The kernel has room for ten such hooks on the whole machine
/// (include/linux/bpf-cgroup-defs.h, CGROUP_LSM_NUM).
pub const SECURITY_HOOKS: [(&str, &str); 5] = [
    ("lsm_socket_create", "socket_create"),
    ("lsm_unix_stream_connect", "unix_stream_connect"),
    ("lsm_unix_may_send", "unix_may_send"),
    ("lsm_uring_allowed", "uring_allowed"),
    ("lsm_bpf", "bpf"),
];

/// Whether the security hooks are to be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UseSecurityHooks {
    #[default]
    WhereTheKernelRunsThem,
    /// As on a kernel that does not run them. Those that an earlier daemon attached stay.
    Never,
}

impl UseSecurityHooks {
    #[must_use]
    pub fn unless(denied: bool) -> Self {
        if denied { Self::Never } else { Self::WhereTheKernelRunsThem }
    }
}

/// Which of [`SECURITY_HOOKS`] hold programs of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityHooks {
    attached: Vec<(&'static str, &'static str)>,
    /// The others, and why they hold none.
    missing: Vec<(&'static str, String)>,
}

impl SecurityHooks {
    /// Whether `hook` holds its program.
    #[must_use]
    pub fn hold(&self, hook: &str) -> bool {
        self.attached.iter().any(|(_, attached)| *attached == hook)
    }

    /// The programs that are attached.
    pub fn programs(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.attached.iter().map(|(program, _)| *program)
    }

    /// Why some are not, for people; None where all are.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
        for (hook, why) in &self.missing {
            match causes.iter_mut().find(|(cause, _)| cause == why) {
                Some((_, hooks)) => hooks.push(hook),
                None => causes.push((why, vec![hook])),
            }
        }
        let texts = causes.into_iter().map(|(why, hooks)| format!("{}: {why}", hooks.join(", ")));
        texts.reduce(|all, text| format!("{all}; {text}"))
    }

    fn none(why: &str) -> Self {
        let missing = SECURITY_HOOKS.map(|(_, hook)| (hook, why.to_owned()));
        Self { attached: Vec::new(), missing: missing.into() }
    }
}

/// What loading needs to know of the kernel.
pub struct Kernel {
    pub btf: Btf,
    pub offsets: Offsets,
}

impl Kernel {
    /// Looks whether this kernel runs programs on its security hooks, and where it keeps what they
    /// read.
    ///
    /// # Errors
    /// It does not, or does not say; for people.
    pub fn look() -> Result<Self, String> {
        if !runs_bpf_programs() {
            return Err("this kernel does not run them: add `bpf` to its `lsm=` parameter".to_owned());
        }
        let btf = Btf::from_sys_fs().map_err(|error| chain(&error))?;
        let offsets = lsm_offsets::of_this_kernel().map_err(|error| error.to_string())?;
        Ok(Self { btf, offsets })
    }
}

/// Loads the programs, and has `attach` attach each. One that the kernel refuses keeps no other
/// from being attached: what it would have denied is denied by the launcher's filter.
pub fn attach_all(
    object: &mut Ebpf,
    kernel: Result<Kernel, String>,
    mut attach: impl FnMut(&mut Program, &'static str) -> Result<(), String>,
) -> SecurityHooks {
    let kernel = match kernel {
        Ok(kernel) => kernel,
        Err(why) => return SecurityHooks::none(&why),
    };
    let mut hooks = SecurityHooks::default();
    for (name, hook) in SECURITY_HOOKS {
        match load(object, name, hook, &kernel.btf).and_then(|program| attach(program, name)) {
            Ok(()) => hooks.attached.push((name, hook)),
            Err(why) => hooks.missing.push((hook, why)),
        }
    }
    hooks
}

fn load<'a>(object: &'a mut Ebpf, name: &str, hook: &str, btf: &Btf) -> Result<&'a mut Program, String> {
    let program = object.program_mut(name).ok_or("it is not in the embedded object")?;
    let hooked: &mut LsmCgroup = (&mut *program).try_into().map_err(|error| chain(&error))?;
    hooked.load(hook, btf).map_err(|error| refusal(&error))?;
    Ok(program)
}

/// Hardened kernels refuse all programs of this type, and older ones lack a hook; else the verifier's
/// word is what matters.
fn refusal(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error
        && verifier_log.to_string().is_empty()
    {
        return format!("this kernel refuses the program: {io_error}");
    }
    chain(error)
}

/// Whether `bpf` is among the kernel's security modules: where it is not, programs can be attached
/// to the hooks all the same, and are never run.
fn runs_bpf_programs() -> bool {
    modules_by_call().map_or_else(
        || {
            fs::read_to_string(MODULES_FILE)
                .is_ok_and(|names| names.trim().split(',').any(|name| name == "bpf"))
        },
        |modules| modules.contains(&LSM_ID_BPF),
    )
}

/// lsm_list_modules(2), Linux 6.8.
fn modules_by_call() -> Option<Vec<u64>> {
    let mut modules = [0_u64; MAX_MODULES];
    let mut size = u32::try_from(size_of_val(&modules)).ok()?;
    // SAFETY: the kernel writes at most `size` octets.
    let count = unsafe { libc::syscall(SYS_LSM_LIST_MODULES, modules.as_mut_ptr(), &raw mut size, 0) };
    Some(modules.get(..usize::try_from(count).ok()?)?.to_vec())
}

/// Modules that a kernel can have at one time; Linux 6.18 knows fourteen.
const MAX_MODULES: usize = 64;
/// The same number on every architecture.
const SYS_LSM_LIST_MODULES: libc::c_long = 461;
/// include/uapi/linux/lsm.h.
const LSM_ID_BPF: u64 = 109;
const MODULES_FILE: &str = "/sys/kernel/security/lsm";
