//! `egressctl metrics`: the daemon's figures, for monitors.

use crate::output::{Format, json};
use egressd::control::{Client, protocol::Exposition};
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Print the daemon's figures, in the text format of Prometheus
///
/// For node_exporter's textfile collector, and for scripts; with `-o json` a figure a line. Monitors can also read them
/// over HTTP: give the daemon's own file `metrics: 127.0.0.1:9464`.
///
/// Exit codes: 0 printed, 2 they could not be.
#[derive(Debug, clap::Args)]
pub struct Metrics;

impl Metrics {
    pub fn act(&self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        let metrics = client.metrics()?;
        let mut out = stdout().lock();
        match format {
            Format::Json => metrics.iter().try_for_each(|metric| json(&mut out, metric))?,
            Format::Text => write!(out, "{}", Exposition(&metrics))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
