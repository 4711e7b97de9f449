//! What the attacker brought along, as a name that incidents of one campaign share. A pure function of one incident's own
//! evidence: replicas and hosts that never hear of each other give the same name, in whatever order they are told.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::incident::{Campaign, Join};
use crate::request::Indicator;

use super::score::Score;
use super::session::{Match, Session};

/// Indicators named; an intruder may bring endless ones.
const INDICATORS_MAX: usize = 8;

/// The campaign that a session is part of; `None` when nothing in it is the attacker's own.
pub(super) fn of(session: &Session<'_>, score: &Score) -> Option<Campaign> {
    let best = session.requests.first().filter(|_| score.names_request());
    let mut indicators: Vec<String> = Vec::new();
    let mut add = |indicator: Option<String>| {
        let new = indicator.filter(|indicator| !indicators.contains(indicator));
        indicators.extend(new.filter(|_| indicators.len() < INDICATORS_MAX));
    };
    // What the request named and the host then used, before what the host used alone, before where the request came from:
    // client addresses change from one request to the next.
    best.into_iter().flat_map(echoed).for_each(|indicator| add(Some(indicator)));
    for (contact, join) in &session.contacts {
        let egress = contact.as_egress().filter(|_| *join == Join::Descendant);
        add(egress.map(|egress| match egress.name.as_ref().or(egress.server_name.as_ref()) {
            Some(name) => host(name),
            None => address(egress.peer.ip()),
        }));
    }
    add(best.and_then(|best| best.kept.request.client).map(|client| format!("client {}", client.ip())));
    let digest = Sha256::digest(indicators.first()?.as_bytes());
    let id = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(Campaign { id: format!("blc-{id}"), indicators })
}

/// Hosts and addresses of the request that reappeared; a command or a path is not the attacker's alone.
fn echoed(best: &Match<'_>) -> Vec<String> {
    let distinctive = best.tie.echoes.iter().filter(|echo| echo.distinctive);
    let named = distinctive.filter_map(|echo| match &echo.indicator {
        Indicator::Address(ip) => Some(address(*ip)),
        Indicator::Host(name) => Some(host(name)),
        Indicator::Url(url) => {
            let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?.rsplit('@').next()?;
            Some(super::sought::address_of(authority).map_or_else(|| host(authority), address))
        }
        Indicator::Command(_) | Indicator::Path(_) => None,
    });
    named.collect()
}

fn address(ip: IpAddr) -> String {
    format!("address {}", crate::metadata::canonical(ip))
}

fn host(name: &str) -> String {
    format!("host {}", super::sought::host_form(name.split(':').next().unwrap_or(name)))
}
