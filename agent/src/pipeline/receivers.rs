//! The receivers as one: started together, stopped together, described together.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock;
use crate::intake::{Batch, Config, Cursors, FileStatus, IntakeError, Queue, Server, Tail, queue};
use crate::status::Status;
use crate::store::{Blob, Store};

/// Running receivers.
pub(super) struct Receivers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    description: Description,
}

/// How the receivers stand, for the status.
#[derive(Clone)]
pub(super) struct Description {
    queue: Queue,
    files: Vec<Arc<Mutex<FileStatus>>>,
}

impl Receivers {
    /// Starts what the config names; lines come out of the other end.
    pub(super) async fn start(
        config: &Config,
        store: &Arc<Store>,
    ) -> Result<(Self, mpsc::Receiver<Batch>), IntakeError> {
        let (queue, batches) = queue(config.queue_bytes);
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        if config.http.enabled {
            let server = Server::bind(&config.http, queue.clone(), clock::now).await?;
            tasks.spawn(server.run(stop.subscribe()));
        }
        let mut files = Vec::new();
        for file in &config.files {
            let cursors = Arc::new(StoredCursors(Arc::clone(store)));
            let tail = Tail::open(file, queue.clone(), cursors, clock::now)?;
            files.push(tail.status());
            tasks.spawn(tail.run(stop.subscribe()));
        }
        Ok((Self { stop, tasks, description: Description { queue, files } }, batches))
    }

    pub(super) fn description(&self) -> Description {
        self.description.clone()
    }

    /// Takes no more; waits until what is under way is answered, which each receiver bounds for itself.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Description {
    pub(super) fn describe(&self, status: &mut Status) {
        status.count("intake", self.queue.counters().as_ref());
        for file in &self.files {
            let file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(trouble) = &file.trouble {
                status.troubles.push(format!("edge log {}: {trouble}", file.path.display()));
            }
        }
    }
}

/// File cursors in the agent's store.
struct StoredCursors(Arc<Store>);

impl Cursors for StoredCursors {
    fn load(&self, source: &str) -> Option<Vec<u8>> {
        self.0.load(Blob::Cursor, source)
    }

    fn save(&self, source: &str, cursor: &[u8]) {
        self.0.save(Blob::Cursor, source, cursor);
    }
}
