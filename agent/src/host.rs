//! Judge of the host road: a placed event in, host or egress evidence out.
//!
//! Counts only what may be the doing of someone who came in over the network ([`Enricher::is_exposed`]): logins, cron jobs,
//! container runtimes and units that serve nobody are left alone. Pure; blocks nothing, raises nothing by itself.
//!
//! [`Enricher::is_exposed`]: crate::enrich::Enricher::is_exposed

mod judge;
mod outcome;
mod peer;
mod program;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use judge::{Counters, Judge, Stage};

/// What the host is told about its surroundings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks of the owner beside the private ones (public addresses of the own cloud network, partners): never egress.
    pub internal: Vec<IpNet>,
    /// Metadata endpoints beside the built-in ones: local proxies such as kiam or a credential sidecar.
    pub metadata_endpoints: Vec<MetadataEndpoint>,
}

/// A metadata endpoint of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataEndpoint {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 or absent for every port.
    #[serde(default)]
    pub port: u16,
    /// What to call it in evidence.
    pub service: String,
}
