//! Evidence whose end is not known yet: contacts until their connection closes or the socket of their datagrams is released,
//! metadata requests until they are answered.
//! An end in, the same evidence with it out. Bounded; evidence that is forgotten keeps standing without its end.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::event::{Contact, Flow, FlowState, MetadataStatus, Protocol, TlsHello};
use crate::evidence::{EgressEvidence, HostEvidence, Outcome};
use crate::timestamp::Timestamp;

/// Contacts and requests waited for, each; the oldest goes first. One is about 2 kB: lineage and workload.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// A socket's cookie; with the peer where it may have several. A connection has one, which need not be the one asked for.
type Line = (u64, Option<SocketAddr>);

fn line(socket: u64, protocol: Protocol, peer: SocketAddr) -> Line {
    (socket, (protocol == Protocol::Udp).then_some(peer))
}

/// What is waited for, by socket.
#[derive(Debug)]
pub(super) struct Outcomes {
    contacts: LruCache<Line, EgressEvidence>,
    requests: LruCache<u64, HostEvidence>,
}

impl Outcomes {
    pub(super) fn new() -> Self {
        Self { contacts: LruCache::new(OPEN_MAX), requests: LruCache::new(OPEN_MAX) }
    }

    /// A contact began. Whether an older one had to be given up.
    pub(super) fn contacted(&mut self, contact: &Contact, evidence: &EgressEvidence) -> bool {
        let line = line(contact.socket, contact.protocol, contact.peer);
        // Datagrams are counted from the first contact that was told: a later one with the same peer is part of it.
        let goes_on = contact.protocol == Protocol::Udp && self.contacts.contains(&line);
        contact.socket != 0
            && !goes_on
            && self.contacts.push(line, evidence.clone()).is_some_and(|(gone, _)| gone != line)
    }

    /// A request was made; the one before it on the same connection is no longer waited for. Whether an older one had to be
    /// given up.
    pub(super) fn asked(&mut self, socket: u64, evidence: &HostEvidence) -> bool {
        socket != 0 && self.requests.push(socket, evidence.clone()).is_some_and(|(gone, _)| gone != socket)
    }

    /// A connection ended: its contact with what became of it.
    pub(super) fn ended(&mut self, flow: &Flow, at: Timestamp) -> Option<EgressEvidence> {
        if flow.state == FlowState::Established {
            return None;
        }
        self.requests.pop(&flow.socket);
        let contact = self.contacts.pop(&line(flow.socket, flow.protocol, flow.peer))?;
        let lasted_ms = u64::try_from(at.since(contact.at).as_millis()).unwrap_or(u64::MAX);
        let Flow { state, bytes_sent, bytes_received, bytes_elsewhere, peer, .. } = *flow;
        let effective = (peer != contact.peer).then_some(peer);
        let outcome = Outcome { state, effective, bytes_sent, bytes_received, bytes_elsewhere, lasted_ms };
        Some(EgressEvidence { outcome: Some(outcome), ..contact })
    }

    /// A connection began with a TLS hello: its contact with the server that it names.
    pub(super) fn greeted(&mut self, hello: &TlsHello) -> Option<EgressEvidence> {
        let contact = self.contacts.get_mut(&(hello.socket, None))?;
        let server = hello.server_name.as_deref();
        let said = match (server, contact.name.as_deref()) {
            (None, _) => "its TLS hello names no server".to_owned(),
            (Some(server), Some(name)) if *server != *name => format!("its TLS hello names another server, {server}"),
            (Some(server), _) => format!("its TLS hello names {server}"),
        };
        contact.server_name = server.map(Arc::from);
        contact.reason = format!("{}; {said}", contact.reason);
        Some(contact.clone())
    }

    /// An endpoint answered: the request with the status.
    pub(super) fn answered(&mut self, status: &MetadataStatus) -> Option<HostEvidence> {
        let request = self.requests.pop(&status.socket)?;
        Some(HostEvidence { status: Some(status.status), ..request })
    }
}
