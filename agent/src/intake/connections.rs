//! Connections of a receiver over TCP and their number. In: a listener. Out: streams, TLS undone, each with a [`Slot`].
//!
//! Slow and idle clients cost nothing: when all slots are taken, the connection that waits longest for its client (idle ones
//! first) is closed to make room for the next. So a forwarder gets in whoever else holds connections open, and no number of
//! idle ones takes more than the slots. A connection on which nothing came yet has no buffer.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::tls::Tls;
use super::{Counters, IntakeError};

/// Time for a TLS handshake; one over the slowest link takes a second.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Wait after an accept that failed for lack of descriptors, so that the loop does not spin until one is closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Connections that may be on their way out while new ones come in: bounds descriptors in a storm of connections.
const LEAVING_MAX: usize = 64;

/// A stream to a client, whether or not TLS lies between.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a connection waits for; those that wait for less useful things are let go first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// The client has not said anything since it came or was answered.
    Idle,
    /// The client is in the middle of saying something.
    Reading,
}

/// The connections of one receiver.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    state: Mutex<State>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    leaving: usize,
    tickets: u64,
    waiting: BTreeMap<(Waits, u64), Arc<Notify>>,
}

impl Connections {
    /// For `max` connections at the same time.
    pub(super) fn new(max: usize, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default(), counters })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a new connection; `None` when all are at work.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state();
        if state.open >= self.max {
            if state.leaving >= LEAVING_MAX {
                return None;
            }
            let (_, oldest) = state.waiting.pop_first()?;
            self.let_go(&mut state, &oldest);
        }
        state.open += 1;
        drop(state);
        let slot = Slot { connections: Arc::clone(self), turn: Mutex::new(None), leave: Arc::default() };
        slot.waits(Waits::Idle);
        Some(slot)
    }

    /// Closes the connection that is in the middle of a request for longest: it holds memory that another needs.
    pub(super) fn let_go_of_slowest(&self) {
        let mut state = self.state();
        let slowest = state.waiting.range((Waits::Reading, 0)..).next().map(|(turn, _)| *turn);
        if let Some(notify) = slowest.and_then(|turn| state.waiting.remove(&turn)) {
            self.let_go(&mut state, &notify);
        }
    }

    fn let_go(&self, state: &mut State, notify: &Notify) {
        notify.notify_one();
        state.open -= 1;
        state.leaving += 1;
        Counters::add(&self.counters.connections_let_go, 1);
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    /// Its turn among those that wait; none while it is at work.
    turn: Mutex<Option<(Waits, u64)>>,
    leave: Arc<Notify>,
}

impl Slot {
    /// From now on it waits for its client, and may be let go.
    pub(super) fn waits(&self, what: Waits) {
        self.turn_to(Some(what));
    }

    /// From now on it is at work, and is not let go.
    pub(super) fn works(&self) {
        self.turn_to(None);
    }

    fn turn_to(&self, what: Option<Waits>) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.connections.state();
        if let Some(old) = turn.take()
            && state.waiting.remove(&old).is_none()
        {
            *turn = Some(old); // it is being let go
            return;
        }
        if let Some(what) = what {
            state.tickets += 1;
            let new = (what, state.tickets);
            state.waiting.insert(new, Arc::clone(&self.leave));
            *turn = Some(new);
        }
    }

    /// Returns when it has to make room.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// All connections of its receiver.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.connections.state();
        match turn {
            Some(turn) if state.waiting.remove(&turn).is_none() => state.leaving -= 1,
            _ => state.open -= 1,
        }
    }
}

/// A bound port and what its connections have in common.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<Tls>,
    pub(super) connections: Arc<Connections>,
    /// What a client hears for which there is no room.
    pub(super) turn_away: &'static [u8],
    /// Time for the client's first byte, before which nothing is kept for it; none where the receiver speaks first.
    pub(super) first_byte: Option<Duration>,
}

/// Takes a port; `key` is where the config names it.
pub(super) async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, IntakeError> {
    TcpListener::bind(address).await.map_err(|source| IntakeError::Bind { key, address, source })
}

impl Listener {
    /// Serves each connection with `serve` until `stop` turns true (or its sender is gone), then waits for those under way;
    /// whoever calls bounds that.
    pub(super) async fn run<F, Served>(self, mut stop: watch::Receiver<bool>, serve: F)
    where
        F: Fn(Box<dyn Io>, Arc<Slot>, SocketAddr) -> Served + Clone + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.socket.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let Some(slot) = self.connections.admit() else {
                // Never waits: the answer fits any socket buffer, and a client whose buffer is full does not get it.
                Counters::add(&self.connections.counters.connections_turned_away, 1);
                drop(stream.try_write(self.turn_away));
                continue;
            };
            let (tls, serve, first_byte) = (self.tls.clone(), serve.clone(), self.first_byte);
            tasks.spawn(connection(stream, tls, Arc::new(slot), first_byte, move |stream, slot| {
                serve(stream, slot, peer)
            }));
        }
        drop(self.socket);
        while tasks.join_next().await.is_some() {}
    }
}

async fn connection<Served: Future<Output = ()> + Send>(
    stream: TcpStream,
    tls: Option<Tls>,
    slot: Arc<Slot>,
    first_byte: Option<Duration>,
    serve: impl FnOnce(Box<dyn Io>, Arc<Slot>) -> Served + Send,
) {
    let served = async {
        if let Some(first_byte) = first_byte
            && !matches!(timeout(first_byte, stream.readable()).await, Ok(Ok(())))
        {
            return;
        }
        let stream: Box<dyn Io> = match tls {
            None => Box::new(stream),
            Some(tls) => match timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => Box::new(stream),
                _ => return Counters::add(&slot.connections.counters.tls_refused, 1),
            },
        };
        serve(stream, Arc::clone(&slot)).await;
    };
    tokio::select! {
        () = slot.must_leave() => {}
        () = served => {}
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn leaves(slot: &Slot) -> bool {
        let leaving = std::pin::pin!(slot.must_leave());
        leaving.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_idle_makes_room_and_who_works_does_not() {
        let connections = Connections::new(3, Arc::default());
        let slots: Vec<Slot> = (0..3).map(|_| connections.admit().expect("room")).collect();
        slots[0].waits(Waits::Reading);
        slots[1].works();
        let fourth = connections.admit().expect("room is made");
        assert!(leaves(&slots[2]) && !leaves(&slots[0]) && !leaves(&slots[1]), "the idle one goes first");
        fourth.works();
        let fifth = connections.admit().expect("room is made");
        assert!(leaves(&slots[0]));
        fifth.works();
        assert!(connections.admit().is_none(), "all three are at work");
        slots[2].works(); // too late
        drop(slots);
        drop(connections.admit().expect("a slot came back"));
        drop((fourth, fifth));
        let state = connections.state();
        assert_eq!((state.open, state.leaving, state.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn the_slowest_reader_gives_its_memory_back() {
        let connections = Connections::new(9, Arc::default());
        let slots: Vec<Slot> = (0..3).map(|_| connections.admit().expect("room")).collect();
        connections.let_go_of_slowest();
        slots[1].waits(Waits::Reading);
        slots[2].waits(Waits::Reading);
        connections.let_go_of_slowest();
        assert_eq!(slots.iter().map(leaves).collect::<Vec<_>>(), [false, true, false]);
    }
}
