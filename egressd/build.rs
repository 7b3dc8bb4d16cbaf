//! Builds the kernel programs, for the daemon to embed.
//!
//! The BPF target needs a compiler with a core library for it: the nightly that `egress-ebpf` names, with
//! rust-src, or Debian's `rustc-web` with `libstd-rust-web-dev-bpf`. `scripts/setup` installs one of them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let source = manifest.join("../egress-ebpf");
    for input in ["src", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", source.join(input).display());
    }
    println!("cargo:rerun-if-changed={}", manifest.join("../egress-common/src").display());
    println!("cargo:rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let built = build(nightly(&source), &source, &out)
        .or_else(|first| build(debian(), &source, &out).map_err(|second| format!("{first}\n{second}")));
    if let Err(failures) = built {
        panic!("no toolchain builds the kernel programs; run scripts/setup\n{failures}");
    }
    let object = out.join("ebpf").join(TARGET).join("release/egress");
    std::fs::copy(&object, out.join("egress.o")).expect("the build left the object there");
}

/// The nightly that the source names compiles the core library itself.
fn nightly(source: &Path) -> Command {
    let toolchain = std::fs::read_to_string(source.join("rust-toolchain.toml")).expect("the source has it");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("it names one");
    let mut cargo = Command::new("rustup");
    cargo.args(["run", channel.trim_matches('"'), "cargo", "build", "-Z", "build-std=core"]);
    cargo
}

/// Debian ships the core library compiled, for its own compiler.
fn debian() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg("build");
    cargo
}

/// Runs one toolchain's cargo, in an environment without what the outer cargo set.
fn build(mut cargo: Command, source: &Path, out: &Path) -> Result<(), String> {
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let ours = name_text.starts_with("CARGO") || name_text.starts_with("RUST");
        if ours && !matches!(&*name_text, "CARGO_HOME" | "RUSTUP_HOME" | "RUSTUP_TOOLCHAIN") {
            cargo.env_remove(&name);
        }
    }
    if !is_rustup(&cargo) {
        cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    }
    let flags = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Cdebuginfo=2", "-Ctarget-cpu=v3"];
    cargo
        .args(["--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(out.join("ebpf"))
        .current_dir(source)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let output = cargo.output().map_err(|error| format!("failed to run {cargo:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{cargo:?}\n{}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn is_rustup(cargo: &Command) -> bool {
    cargo.get_program() == "rustup"
}
