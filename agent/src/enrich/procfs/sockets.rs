//! Listening sockets as /proc shows them, and who holds them.

use std::collections::HashMap;
use std::net::SocketAddr;

use procfs::net::TcpState;

use super::processes::Snapshot;
use crate::event::Listen;

/// Descriptors looked at per process. Listening sockets are opened early and so have low numbers; a server with a million
/// connections is not read to its end.
const DESCRIPTORS_MAX: usize = 16_384;

/// Every listening TCP socket with every process that holds it, parents before children.
pub(super) fn listening(namespaces: &[(u32, u32)], snapshot: &Snapshot) -> Vec<Listen> {
    let sockets: HashMap<u64, SocketAddr> = namespaces.iter().flat_map(|(_, pid)| listening_in(*pid)).collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    snapshot
        .actors()
        .flat_map(|actor| {
            let held = held_by(actor.process.pid).filter_map(|inode| sockets.get(&inode));
            let mut locals: Vec<SocketAddr> = held.copied().collect();
            locals.sort_unstable();
            locals.dedup();
            locals.into_iter().map(|local| Listen { actor: actor.clone(), local, at_start: true })
        })
        .collect()
}

/// Listening sockets of the namespace `pid` is in, by inode: unique over all namespaces, as all live on one `sockfs`.
fn listening_in(pid: u32) -> Vec<(u64, SocketAddr)> {
    let Some(process) = i32::try_from(pid).ok().and_then(|pid| procfs::process::Process::new(pid).ok()) else {
        return Vec::new();
    };
    [process.tcp(), process.tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Listen)
        .map(|entry| (entry.inode, entry.local_address))
        .collect()
}

/// Inodes of the sockets a process holds.
fn held_by(pid: u32) -> impl Iterator<Item = u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(DESCRIPTORS_MAX);
    entries.filter_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}
