# The daemon and its command line: `docker build -t egressd .`
#
# The daemon is root, because nobody else may load kernel programs; the image holds nothing that runs as
# another user. It governs agents of the host, so it lives in the host's namespaces:
#
#   mkdir -p /run/egressd
#   docker run --detach --name egressd --restart always \
#     --network host --pid host --cgroupns host \
#     --cap-drop ALL --cap-add BPF --cap-add NET_ADMIN --cap-add SYS_ADMIN --cap-add SYS_RESOURCE \
#     --cap-add SYS_PTRACE --cap-add KILL --cap-add DAC_OVERRIDE \
#     --security-opt apparmor=unconfined --security-opt no-new-privileges \
#     --volume /sys/fs/cgroup:/sys/fs/cgroup:rw \
#     --volume /run/egressd:/run/egressd:rshared \
#     --volume /etc/egressd:/etc/egressd:ro \
#     --volume /var/log/egressd:/var/log/egressd \
#     egressd
#
# `rshared` is not for comfort: the programs are pinned in a bpffs that the daemon mounts below
# /run/egressd. Without it that mount ends with the container, the programs with the mount, and only the
# nft table still denies. BPF loads the programs, NET_ADMIN attaches them and writes nft, SYS_ADMIN mounts,
# SYS_PTRACE names processes, KILL and DAC_OVERRIDE end agents and read what others own. AppArmor's
# default profile for containers denies mounts. Where capabilities cannot be chosen: --privileged.
#
# Agents are started with the host's own `egressctl run`, which finds the socket in /run/egressd. A policy
# with `packages:` asks the tools of this image, and it has none: name the registry's hosts in rules.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Its own layer: bpf-linker and the toolchain of the kernel programs, until the list changes.
COPY scripts/setup scripts/packages.txt scripts/
COPY egress-ebpf/rust-toolchain.toml egress-ebpf/
RUN scripts/setup run
COPY . .
RUN cargo build --release --locked --package egressd --bins

FROM debian:12.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends nftables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/egressd /src/target/release/egressctl /usr/local/bin/
COPY allowlists /usr/share/egressd/allowlists
COPY schemas /usr/share/egressd/schemas
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["egressctl", "status", "-q"]
ENTRYPOINT ["/usr/local/bin/egressd"]
