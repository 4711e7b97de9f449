//! Lines on their way into batches. In: lines and where they go. Out: batches, one destination and source each, full or
//! old enough.
//!
//! A line is copied once, into the batch; nothing is allocated for it. Memory is taken before it is used and comes back
//! when the batch is done with; when there is none, everything open is sent and reading waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::config::BatchConfig;
use super::courier::Courier;
use super::ledger::{Ledger, Marks};
use super::log::{Feed, Read};
use super::progress::{Counters, count};
use super::route::{Destination, Router};
use crate::edge::formats::sockets_tried;
use crate::request::{AccessRecord, Target};

/// Unit of memory that is taken, in bytes: semaphore permits are 32-bit numbers.
const ROOM_UNIT: usize = 1024;
/// Memory that must be free before more is read: what a few sources bring in one round. Without it, reading would wait in
/// the midst of a source, and the status would stand still just when it tells the most.
const HEADROOM_BYTES: usize = 4 << 20;
/// What a batch begins with; it doubles from there. A fleet of thousands gets thousands of small batches.
const FIRST_BYTES: usize = 4096;
/// Targets of one line at most: a balancer gives up sooner.
const TARGETS_MAX: usize = 8;
/// How often batches are looked at for being old enough.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// It is time to stop; what was being packed is not settled.
#[derive(Debug)]
pub(super) struct Stopped;

/// A batch that no line is added to any more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) destination: Arc<Destination>,
    /// Name of the source; may be empty.
    pub(super) source: Arc<str>,
    /// Lines, each with its line end.
    pub(super) text: Bytes,
    /// The first read that it holds a line of.
    pub(super) number: u64,
    /// The memory that it takes.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Puts lines into batches.
pub(super) struct Packer {
    router: Router,
    batches: Batches,
    ledger: Ledger,
    marks: Marks,
    counters: Arc<Counters>,
}

impl Packer {
    pub(super) fn new(
        config: &BatchConfig,
        router: Router,
        courier: Arc<Courier>,
        runtime: Handle,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let ledger = courier.ledger().clone();
        let counters = Arc::clone(courier.counters());
        let batches = Batches {
            open: HashMap::new(),
            bytes_max: config.bytes,
            age: config.age,
            memory: Arc::new(Semaphore::new((config.memory_bytes / ROOM_UNIT).min(Semaphore::MAX_PERMITS))),
            headroom: HEADROOM_BYTES.min(config.memory_bytes / 2),
            spare: None,
            next_look: Instant::now(),
            ledger: ledger.clone(),
            courier,
            runtime,
            stop,
        };
        Self { router, batches, ledger, marks: Marks::default(), counters }
    }

    /// Packs what was read together.
    ///
    /// # Errors
    ///
    /// [`Stopped`]: the lines may be packed in part.
    pub(super) fn pack(&mut self, feed: &mut Feed, read: Read) -> Result<(), Stopped> {
        if read.lines.is_empty() && read.mark.is_none() {
            return Ok(());
        }
        let number = self.ledger.begin();
        for line in &read.lines {
            self.line(feed, line, number)?;
        }
        if let Some(mark) = read.mark {
            self.marks.push(number, mark, &self.ledger);
        }
        Ok(())
    }

    fn line(&mut self, feed: &mut Feed, line: &Bytes, number: u64) -> Result<(), Stopped> {
        let mut targets = [None; TARGETS_MAX];
        match feed.format.read(line) {
            Ok(Some(record)) => targets_of(&record, &mut targets),
            Ok(None) => {
                if line.starts_with(b"#Fields") {
                    feed.header = line.clone();
                }
                return Ok(());
            }
            Err(_) => count(&self.counters.lines_unreadable, 1),
        }
        if targets[0].is_none() {
            count(&self.counters.lines_without_target, 1);
        }
        let mut routed = false;
        for (index, target) in targets.into_iter().enumerate() {
            if target.is_none() && index > 0 {
                break;
            }
            if let Some(destination) = self.router.find(feed.name_id, &feed.name, target) {
                self.batches.append(destination, feed, line, number)?;
                count(&self.counters.lines_packed, 1);
                routed = true;
            }
        }
        if !routed {
            count(&self.counters.lines_unrouted, 1);
        }
        Ok(())
    }

    /// Whether another round can be packed without waiting in the midst of it. When not, everything open is sent.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.batches.memory.available_permits() * ROOM_UNIT >= self.batches.headroom;
        if !room {
            self.seal_all();
        }
        room
    }

    /// Sends the batches that are old enough.
    pub(super) fn look(&mut self, now: Instant) {
        self.batches.look(now);
    }

    /// Sends all there is.
    pub(super) fn seal_all(&mut self) {
        self.batches.seal_where(|_| true);
    }

    /// Positions that may be remembered now.
    pub(super) fn settled(&mut self) -> std::collections::BTreeMap<Arc<str>, super::cursors::Position> {
        self.marks.settle(&self.ledger)
    }

    pub(super) fn troubles(&self, max: usize) -> Vec<String> {
        self.router.troubles(max)
    }
}

/// Every address that got the request, each once; none where the line names none.
fn targets_of(record: &AccessRecord<'_>, targets: &mut [Option<IpAddr>; TARGETS_MAX]) {
    let last = match record.target {
        Target::Socket(socket) => Some(socket.ip()),
        Target::Address(address) => Some(address),
        Target::Lambda | Target::None | Target::Unlogged => None,
    };
    let mut found = 0;
    for address in last.into_iter().chain(sockets_tried(record).map(|socket| socket.ip())) {
        if found < TARGETS_MAX && !targets[..found].contains(&Some(address)) {
            targets[found] = Some(address);
            found += 1;
        }
    }
}

/// Batches that lines are added to.
struct Batches {
    open: HashMap<(u32, u32), Open>,
    bytes_max: usize,
    age: Duration,
    memory: Arc<Semaphore>,
    headroom: usize,
    /// Memory that was waited for, and is not used yet.
    spare: Option<OwnedSemaphorePermit>,
    next_look: Instant,
    ledger: Ledger,
    courier: Arc<Courier>,
    runtime: Handle,
    stop: watch::Receiver<bool>,
}

struct Open {
    destination: Arc<Destination>,
    source: Arc<str>,
    text: Vec<u8>,
    /// What the text may grow to without more memory.
    granted: usize,
    room: OwnedSemaphorePermit,
    /// The `#Fields:` line that the latest lines need.
    header: Bytes,
    number: u64,
    opened: Instant,
}

impl Batches {
    fn append(&mut self, to: &Arc<Destination>, feed: &Feed, line: &[u8], number: u64) -> Result<(), Stopped> {
        let key = (to.id, feed.name_id);
        // Room for the header as well, whether it is needed or not.
        let needed = line.len() + feed.header.len() + 2;
        loop {
            if let Some(open) = self.open.get_mut(&key) {
                if open.text.len() + needed <= open.granted {
                    open.push(line, &feed.header);
                    return Ok(());
                }
                if open.text.len() + needed > self.bytes_max {
                    self.seal(key);
                    continue;
                }
            }
            self.grow(key, to, feed, needed, number)?;
        }
    }

    /// Opens a batch or lets one grow. When there is no memory, sends all that is open and waits.
    fn grow(
        &mut self,
        key: (u32, u32),
        to: &Arc<Destination>,
        feed: &Feed,
        needed: usize,
        number: u64,
    ) -> Result<(), Stopped> {
        let (length, granted) = self.open.get(&key).map_or((0, 0), |open| (open.text.len(), open.granted));
        let wanted = (length + needed).max(2 * granted).max(FIRST_BYTES).min(self.bytes_max.max(needed));
        let more = wanted.saturating_sub(granted).div_ceil(ROOM_UNIT);
        let Some(room) = self.take(more) else {
            self.seal_where(|_| true);
            return self.wait_for(more);
        };
        match self.open.get_mut(&key) {
            Some(open) => {
                open.room.merge(room);
                open.granted = wanted;
                open.text.reserve_exact(wanted - length);
            }
            None => {
                self.ledger.hold(number);
                let open = Open {
                    destination: Arc::clone(to),
                    source: Arc::clone(&feed.name),
                    text: Vec::with_capacity(wanted),
                    granted: wanted,
                    room,
                    header: Bytes::new(),
                    number,
                    opened: Instant::now(),
                };
                self.open.insert(key, open);
            }
        }
        Ok(())
    }

    /// Memory, if there is any; what was waited for first.
    fn take(&mut self, units: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        if let Some(mut spare) = self.spare.take() {
            if let Some(split) = spare.split(units as usize) {
                return Some(split);
            }
            let missing = units.saturating_sub(u32::try_from(spare.num_permits()).unwrap_or(u32::MAX));
            let more = Arc::clone(&self.memory).try_acquire_many_owned(missing).ok()?;
            spare.merge(more);
            return Some(spare);
        }
        Arc::clone(&self.memory).try_acquire_many_owned(units).ok()
    }

    fn wait_for(&mut self, units: usize) -> Result<(), Stopped> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let (memory, mut stop) = (Arc::clone(&self.memory), self.stop.clone());
        let room = self.runtime.block_on(async {
            tokio::select! {
                room = memory.acquire_many_owned(units) => room.ok(),
                _ = stop.wait_for(|stop| *stop) => None,
            }
        });
        self.spare = Some(room.ok_or(Stopped)?);
        Ok(())
    }

    fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let age = self.age;
        self.seal_where(|open| now.saturating_duration_since(open.opened) >= age);
    }

    fn seal_where(&mut self, ready: impl Fn(&Open) -> bool) {
        let ready: Vec<(u32, u32)> = self.open.iter().filter(|(_, open)| ready(open)).map(|(key, _)| *key).collect();
        ready.into_iter().for_each(|key| self.seal(key));
    }

    fn seal(&mut self, key: (u32, u32)) {
        let Some(open) = self.open.remove(&key) else { return };
        let Open { destination, source, text, room, number, .. } = open;
        let sealed = Sealed { destination, source, text: text.into(), number, _room: room };
        self.runtime.spawn(Arc::clone(&self.courier).deliver(sealed));
    }
}

impl Open {
    fn push(&mut self, line: &[u8], header: &Bytes) {
        if !header.is_empty() && self.header != *header {
            self.text.extend_from_slice(header);
            self.text.push(b'\n');
            self.header = header.clone();
        }
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }
}
