//! Listeners that are gone, for the log lines that are late: which workload a target was at the time of its request.
//!
//! A pod may live for minutes and its requests' lines arrive hours after; without this they would belong to nobody, or to whoever
//! listens at that address now.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::Route;
use crate::timestamp::Timestamp;

/// Sockets remembered, the latest; a host that closes more within hours loses the join of the oldest.
const DEPARTED_MAX: usize = 8192;

/// The sockets, by address and port.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// Earlier ones first.
    left: HashMap<SocketAddr, VecDeque<(Timestamp, Route)>>,
    order: VecDeque<SocketAddr>,
    latest: Option<Timestamp>,
    evicted: u64,
}

impl Departed {
    /// At `at` the last process that held `socket` went.
    pub(super) fn note(&mut self, socket: SocketAddr, at: Timestamp, route: Route) {
        if self.order.len() >= DEPARTED_MAX {
            self.evict();
        }
        self.latest = self.latest.max(Some(at));
        self.left.entry(socket).or_default().push_back((at, route));
        self.order.push_back(socket);
    }

    /// Who received at `socket` what was sent there at `at`; `None` when it is whoever listens there now.
    pub(super) fn find(&self, socket: SocketAddr, at: Timestamp) -> Option<&Route> {
        // Lines that are not late, which is nearly all of them, are done with here.
        if self.latest.is_none_or(|latest| latest < at) {
            return None;
        }
        self.left.get(&socket)?.iter().find(|(left, _)| *left >= at).map(|(_, route)| route)
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn evict(&mut self) {
        let Some(socket) = self.order.pop_front() else { return };
        self.evicted += 1;
        if let Some(held) = self.left.get_mut(&socket) {
            held.pop_front();
            if held.is_empty() {
                self.left.remove(&socket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::ProcessKey;
    use crate::evidence::RouteBasis;
    use crate::workload::Workload;

    fn route(pid: u32) -> Route {
        let owner = Some(ProcessKey { pid, start_ticks: 1 });
        Route { workload: Arc::new(Workload::host()), owner, basis: RouteBasis::Listener }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_millis(second * 1000)
    }

    #[test]
    fn a_late_line_finds_who_listened_then() {
        let mut departed = Departed::default();
        let socket: SocketAddr = "10.0.0.1:80".parse().expect("an address");
        departed.note(socket, at(100), route(1));
        departed.note(socket, at(200), route(2));
        let check = |second: i64, pid: Option<u32>| {
            let owner = departed.find(socket, at(second)).and_then(|route| route.owner);
            assert_eq!(owner.map(|owner| owner.pid), pid, "{second}");
        };
        check(50, Some(1));
        check(100, Some(1));
        check(150, Some(2));
        check(201, None);
        assert_eq!(departed.find("10.0.0.1:81".parse().expect("an address"), at(50)), None);
    }

    #[test]
    fn the_oldest_go_and_are_counted() {
        let mut departed = Departed::default();
        for number in 0..DEPARTED_MAX + 10 {
            let port = u16::try_from(number % 60_000 + 1).expect("a port");
            departed.note(SocketAddr::from(([10, 0, 0, 1], port)), at(1), route(1));
        }
        assert_eq!((departed.evicted(), departed.order.len()), (10, DEPARTED_MAX));
        assert_eq!(departed.left.len(), DEPARTED_MAX);
    }
}
