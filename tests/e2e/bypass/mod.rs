//! The catalogue of ways out: every one is tried in the fence, where the sniffer has to see
//! nothing, and without it, where it has to leak.
//!
//! A way out is a line in a table, by section. `entry` says what such a line may say, `run` tries
//! it, `matrix` shows what came of it, and writes `target/e2e/bypass.json` and `bypass.txt`.
//! Whatever is too long for a line of shell is a function of the Python file of that section, and
//! called `{trick} SECTION.FUNCTION`.

mod entry;
mod matrix;
mod run;

mod doors;
mod lifecycle;
mod links;
mod names;
mod packets;
mod tls;

use entry::Entry;
use std::collections::HashSet;

#[test]
fn no_socket_api_and_no_packet_is_a_way_out() {
    run::section("packets", &[], packets::WAYS);
}

#[test]
fn no_frame_and_no_link_is_a_way_out() {
    run::section("links", &[], links::WAYS);
}

#[test]
fn no_other_door_is_a_way_out() {
    run::section("doors", doors::RULES, doors::WAYS);
}

#[test]
fn no_name_is_a_way_out() {
    run::section("names", names::RULES, names::WAYS);
}

#[test]
fn no_tls_or_http_flow_is_a_way_out() {
    run::section_by("tls", "proxy", tls::RULES, tls::WAYS);
}

#[test]
fn no_tls_or_http_flow_is_a_way_out_where_the_kernel_reads_server_names() {
    run::section_by("tls-kernel", "kernel", tls::RULES, tls::WAYS);
}

#[test]
fn no_change_while_a_flow_lives_is_a_way_out() {
    run::section("lifecycle", &[], lifecycle::WAYS);
}

#[test]
fn every_way_out_has_an_id_of_its_own() {
    let sections: [&[Entry]; 6] =
        [packets::WAYS, links::WAYS, doors::WAYS, names::WAYS, tls::WAYS, lifecycle::WAYS];
    let mut seen = HashSet::new();
    for entry in sections.into_iter().flatten() {
        assert!(seen.insert(entry.id), "two ways out are called {}", entry.id);
    }
}
