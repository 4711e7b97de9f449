//! The queue between the receivers and the detector: bounded in bytes, so that a hundred large requests take no more
//! memory than one hundred small ones are worth.
//!
//! Room is reserved before bytes are read, travels with the batch and is given back when the batch is dropped.

use std::mem::size_of;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Counters;
use super::journal::{Entry, NotTaken, Place};
use crate::timestamp::Timestamp;

/// Unit of room, in bytes: semaphore permits are 32-bit numbers.
const ROOM_UNIT: usize = 1024;

/// Batches in the queue at most, whatever their size: bounds what a flood of one-line requests costs beside the lines.
const BATCHES_MAX: usize = 4096;

/// Lines that came in together.
#[derive(Debug)]
pub struct Batch {
    /// Where from: `http:/path` or `file:/path`. Lines of one source have one format.
    pub source: Arc<str>,
    /// When they came in.
    pub received: Timestamp,
    /// The lines, without line ends; never empty, at most 64 KiB each.
    pub lines: Vec<Bytes>,
    ack: Option<oneshot::Sender<()>>,
    place: Option<Place>,
    _room: Option<Room>,
}

impl Batch {
    /// Lines that nobody waits for.
    #[must_use]
    pub fn new(source: Arc<str>, received: Timestamp, lines: Vec<Bytes>) -> Self {
        Self { source, received, lines, ack: None, place: None, _room: None }
    }

    /// With the room that its lines take.
    pub(super) fn in_room(self, room: Room) -> Self {
        Self { _room: Some(room), ..self }
    }

    /// With a way to hear that the pipeline is done with it.
    pub(super) fn acknowledged_to(self, ack: oneshot::Sender<()>) -> Self {
        Self { ack: Some(ack), ..self }
    }

    /// With its place in the journal.
    pub(super) fn placed(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// What is left when the lines are judged; a batch dropped without is sent again after a restart, where its source
    /// can.
    pub(super) fn into_receipt(self) -> (Option<oneshot::Sender<()>>, Option<Place>) {
        (self.ack, self.place)
    }

    /// The lines need not be sent again, and nobody saves what they led to.
    #[cfg(test)]
    pub(super) fn acknowledge(self) {
        let mut judged = super::Judged::default();
        judged.add(self);
        judged.acknowledge(true);
    }
}

/// Room in the queue, given back on drop.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Gives the room of `bytes` back, whole units of it: what was taken piece by piece was rounded up.
    pub(super) fn give_back(&mut self, bytes: usize) {
        drop(self.0.split((bytes / ROOM_UNIT).min(self.0.num_permits())));
    }
}

/// Room for lines, shared by all who bring them.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<Semaphore>);

impl Rooms {
    /// Waits for room for `bytes`.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Room> {
        Arc::clone(&self.0).acquire_many_owned(units(bytes)).await.ok().map(Room)
    }
}

/// The receivers' end.
#[derive(Clone, Debug)]
pub struct Queue {
    sender: mpsc::Sender<Batch>,
    journal: Option<mpsc::Sender<Entry>>,
    rooms: Rooms,
    bytes_max: usize,
    counters: Arc<Counters>,
}

/// Makes a queue for `bytes_max` of lines; the other end goes to the pipeline.
#[must_use]
pub fn queue(bytes_max: usize) -> (Queue, mpsc::Receiver<Batch>) {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    let rooms = Rooms(Arc::new(Semaphore::new((bytes_max / ROOM_UNIT).min(Semaphore::MAX_PERMITS))));
    (Queue { sender, journal: None, rooms, bytes_max, counters: Arc::default() }, receiver)
}

impl Queue {
    /// With a journal before it, which gets what [`Self::take`] is given.
    pub(super) fn journaled(self, journal: mpsc::Sender<Entry>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The end that leads straight to the detector, and the room in it.
    pub(super) fn parts(&self) -> (mpsc::Sender<Batch>, Rooms) {
        (self.sender.clone(), self.rooms.clone())
    }

    /// What the receivers counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Bytes it holds at most.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Room for `bytes`, if there is any.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Room> {
        Arc::clone(&self.rooms.0).try_acquire_many_owned(units(bytes)).ok().map(Room)
    }

    /// Waits for room for `bytes`.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Room> {
        self.rooms.reserve(bytes).await
    }

    /// Makes `room` larger by `bytes`; false when there is none.
    pub(super) fn try_grow(&self, room: &mut Room, bytes: usize) -> bool {
        self.try_reserve(bytes).map(|more| room.0.merge(more.0)).is_some()
    }

    /// Takes a batch for good: when this returns without an error it is on disk, and its sender may forget it. For
    /// sources that cannot send it again (`unrepeatable`) it is judged even if the disk does not take it.
    pub(super) async fn take(&self, batch: Batch, unrepeatable: bool) -> Result<(), NotTaken> {
        let Some(journal) = &self.journal else {
            return self.try_send(batch).map_err(|_| NotTaken::Full);
        };
        let (taken, answer) = oneshot::channel();
        let entry = Entry { batch, taken, unrepeatable };
        if unrepeatable {
            journal.send(entry).await.map_err(|_| NotTaken::Stopping)?;
        } else {
            journal.try_send(entry).map_err(|error| match error {
                TrySendError::Full(_) => NotTaken::Full,
                TrySendError::Closed(_) => NotTaken::Stopping,
            })?;
        }
        answer.await.unwrap_or(Err(NotTaken::Stopping))
    }

    /// Hands a batch over, or gives it back when the queue is full or the pipeline gone.
    fn try_send(&self, batch: Batch) -> Result<(), Batch> {
        let (lines, bytes) = size(&batch);
        self.sender.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) | TrySendError::Closed(batch) => batch,
        })?;
        self.counters.add_lines(lines, bytes);
        Ok(())
    }

    /// Hands a batch over as soon as the queue takes it; gives it back only when the pipeline is gone. For sources that keep
    /// their lines until they are acknowledged (files, streams).
    pub(super) async fn send(&self, batch: Batch) -> Result<(), Batch> {
        let (lines, bytes) = size(&batch);
        self.sender.send(batch).await.map_err(|error| error.0)?;
        self.counters.add_lines(lines, bytes);
        Ok(())
    }
}

/// What the handles of `lines` lines take beside their bytes.
pub(super) const fn handles(lines: usize) -> usize {
    lines * size_of::<Bytes>()
}

pub(super) fn size(batch: &Batch) -> (usize, usize) {
    (batch.lines.len(), batch.lines.iter().map(Bytes::len).sum())
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &'static str) -> Batch {
        Batch::new("test".into(), Timestamp::MIN, vec![Bytes::from_static(text.as_bytes())])
    }

    #[tokio::test]
    async fn room_comes_back_with_the_batch() {
        let (queue, mut receiver) = queue(4 * ROOM_UNIT);
        let mut room = queue.try_reserve(1).expect("room");
        assert!(queue.try_grow(&mut room, 3 * ROOM_UNIT));
        assert!(queue.try_reserve(1).is_none());
        assert!(!queue.try_grow(&mut room, 1));
        room.give_back(ROOM_UNIT + 1);
        assert!(queue.try_grow(&mut room, ROOM_UNIT) && !queue.try_grow(&mut room, 1));
        queue.try_send(batch("a").in_room(room)).expect("sends");
        assert!(queue.try_reserve(1).is_none(), "a queued batch holds its room");
        drop(receiver.recv().await);
        assert!(queue.try_reserve(4 * ROOM_UNIT).is_some());
    }

    #[tokio::test]
    async fn an_acknowledgement_is_heard_and_so_is_its_absence() {
        let (ack, heard) = oneshot::channel();
        batch("a").acknowledged_to(ack).acknowledge();
        assert!(heard.await.is_ok());
        let (ack, heard) = oneshot::channel();
        drop(batch("a").acknowledged_to(ack));
        assert!(heard.await.is_err());
    }

    #[test]
    fn batches_are_bounded_and_given_back() {
        let (queue, receiver) = queue(1 << 20);
        (0..BATCHES_MAX).for_each(|_| queue.try_send(batch("a")).expect("sends"));
        assert!(queue.try_send(batch("b")).is_err());
        drop(receiver);
        assert!(queue.try_send(batch("c")).is_err());
        assert_eq!(queue.counters().lines.load(std::sync::atomic::Ordering::Relaxed), BATCHES_MAX as u64);
    }
}
