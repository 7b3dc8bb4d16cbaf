//! Whether there is an agent of a name, before it is said that there is nothing of it.

use anyhow::bail;
use egressd::control::{
    Client,
    protocol::{Frame, RecordsRequest},
};

/// # Errors
/// No agent of this name runs, and the daemon holds no record of one.
pub fn expect_agent(client: &Client, name: &str) -> anyhow::Result<()> {
    let running = client.agents()?;
    if running.iter().any(|agent| agent.name == name) || has_record(client, name)? {
        return Ok(());
    }
    bail!(
        "no agent `{name}` runs, and no record is of one: {}",
        known(running.iter().map(|agent| agent.name.as_str()))
    )
}

/// Those that are known, for whoever named another.
pub fn known<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    }
}

fn has_record(client: &Client, name: &str) -> anyhow::Result<bool> {
    let agent = Some(name.to_owned());
    let mut records =
        client.records(&RecordsRequest { agent, last: Some(1), all: true, ..RecordsRequest::default() })?;
    while let Some(frame) = records.next_frame()? {
        match frame {
            Frame::Line(_) | Frame::Missed { .. } => return Ok(true),
            Frame::Feed { .. } | Frame::Heartbeat { .. } => {}
        }
    }
    Ok(false)
}
