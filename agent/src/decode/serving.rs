//! Who was at the other end when a program was started.

use breachline_abi::serving::{ConnectionRecord, ServingRecord};

use super::{endpoint, process};
use crate::event::{Connection, Serving};

/// A serving record to its event: connections in the order in which they were last used, the latest first.
pub(super) fn decode(record: &ServingRecord) -> Serving {
    let count = usize::try_from(record.count).unwrap_or(usize::MAX).min(record.connections.len());
    let mut connections: Vec<&ConnectionRecord> = record.connections.iter().take(count).collect();
    connections.sort_by_key(|connection| connection.idle_ticks);
    Serving {
        child: process(record.child),
        server: process(record.server),
        connections: connections.into_iter().map(connection).collect(),
        omitted: record.found.saturating_sub(record.count),
        stdio: (record.stdio.local_port != 0).then(|| connection(&record.stdio)),
    }
}

fn connection(record: &ConnectionRecord) -> Connection {
    Connection { peer: endpoint(record.peer, record.peer_port), local: endpoint(record.local, record.local_port) }
}
