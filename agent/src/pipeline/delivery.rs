//! The delivery task: stores what was raised, then lets the sinks and the receivers know.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::engine::Raised;
use super::{PipelineClock, STOP_GRACE};
use crate::deliver::{Delivery, Description};
use crate::incident::Incident;
use crate::status::Status;
use crate::store::{Kept, Store};

/// Hand-overs that may wait while the disk is slow. Each holds the few revisions of one moment; when it is full the engine
/// waits and the rings buffer.
pub(super) const QUEUE_MAX: usize = 256;

/// Runs until the engine is gone and everything it raised is stored, then stops the sinks.
pub(super) async fn run(
    mut delivery: Delivery,
    mut raised: mpsc::Receiver<Raised>,
    listener: Option<mpsc::Sender<Incident>>,
    clock: Arc<PipelineClock>,
    store: Arc<Store>,
) {
    while let Some(Raised { mut incidents, memory, judged }) = raised.recv().await {
        let (now, store) = (clock.now(), Arc::clone(&store));
        let storing = move || {
            if !incidents.is_empty() || !memory.is_empty() {
                incidents.iter_mut().for_each(|incident| go_on_counting(incident, &store));
                delivery.accept(&incidents, &memory, now);
            }
            if let Some(judged) = judged {
                // The memory that the engine saved has to be on disk before the journal lets go of what led to it.
                judged.acknowledge(store.sync() == Kept::Durably);
            }
            (delivery, incidents)
        };
        match tokio::task::spawn_blocking(storing).await {
            Ok(back) => (delivery, incidents) = back,
            Err(error) => return tracing::error!(%error, "incidents can no longer be stored"),
        }
        if let Some(listener) = &listener {
            for incident in incidents {
                // A listener that has gone hears no more; the sinks do.
                let _ = listener.send(incident).await;
            }
        }
    }
    delivery.stop(STOP_GRACE).await;
}

/// A memory restored after a SIGKILL may be older than the last revision that went out: receivers of alerts tell revisions apart by
/// their number, and would drop what comes under one that they have.
fn go_on_counting(incident: &mut Incident, store: &Store) {
    if let Some(latest) = store.latest_revision(&incident.id) {
        incident.revision = incident.revision.max(latest + 1);
    }
}

/// Adds how sinks and store stand.
pub(super) fn describe(sinks: &Description, store: &Store, status: &mut Status) {
    for (name, sink) in sinks.sinks() {
        status.count(&format!("deliver.{name}"), &sink);
        if let Some(trouble) = sink.trouble {
            status.troubles.push(format!("sink {name}: {trouble}; what it misses waits in the spool"));
        }
    }
    let stored = store.status();
    status.count("store", &stored);
    if let Some(trouble) = stored.trouble {
        status.troubles.push(format!("state is kept in memory only: {trouble}"));
    }
    if let Some(path) = stored.set_aside {
        status.troubles.push(format!("a damaged database was set aside as {}", path.display()));
    }
}
