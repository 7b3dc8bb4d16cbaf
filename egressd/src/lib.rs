//! An egress firewall for AI agents. `daemon` is the one place that knows every module.

pub mod audit;
pub mod authoring;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod dns;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod manual;
pub mod policy;
pub mod proxy;
pub mod telemetry;
