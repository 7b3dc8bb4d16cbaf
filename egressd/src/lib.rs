//! An egress firewall for AI agents. `daemon` is the one place that knows every module.

pub mod audit;
pub mod config;
pub mod control;
pub mod datapath;
pub mod policy;
