//! Standard output: alerts for people, or one JSON object a line. A reader that went away is no error: there is nobody
//! left to tell.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::worker::{Outcome, Pace, Sink};
use crate::incident::Incident;
use crate::store::SpoolRecord;

/// What is printed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Nothing.
    Off,
    /// Text for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// The sink.
pub(super) struct Stdout<W = io::Stdout> {
    /// Away only while a write is under way.
    writer: Option<W>,
    /// `None` for JSON.
    render: Option<fn(&Incident) -> String>,
    reader_gone: bool,
}

impl Stdout {
    /// `None` when nothing is to be printed.
    pub(super) fn open(format: Format, render: fn(&Incident) -> String) -> Option<Self> {
        match format {
            Format::Off => None,
            Format::Human => Some(Self::new(io::stdout(), Some(render))),
            Format::Json => Some(Self::new(io::stdout(), None)),
        }
    }
}

impl<W: Write + Send + 'static> Stdout<W> {
    fn new(writer: W, render: Option<fn(&Incident) -> String>) -> Self {
        Self { writer: Some(writer), render, reader_gone: false }
    }

    /// Off the async threads: a reader that stands still blocks the write.
    async fn write(&mut self, text: Vec<u8>) -> io::Result<()> {
        let Some(mut writer) = self.writer.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let writing = tokio::task::spawn_blocking(move || {
            let written = writer.write_all(&text).and_then(|()| writer.flush());
            (writer, written)
        });
        let (writer, written) = writing.await.map_err(io::Error::other)?;
        self.writer = Some(writer);
        written
    }

    /// A record of an older version that no longer reads as an incident is printed as it is.
    fn text(&self, record: &SpoolRecord) -> Vec<u8> {
        let incident = self.render.and_then(|render| {
            let incident: Incident = serde_json::from_slice(&record.bytes).ok()?;
            Some(render(&incident).into_bytes())
        });
        let mut text = incident.unwrap_or_else(|| record.bytes.clone());
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        text
    }
}

impl<W: Write + Send + Sync + 'static> Sink for Stdout<W> {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn pace(&self) -> Pace {
        // One at a time: a batch that fails half-way would be printed twice.
        Pace { records_max: 1, bytes_max: 0, wait_min: Duration::from_millis(100), wait_max: Duration::from_secs(10) }
    }

    async fn deliver(&mut self, records: &[SpoolRecord]) -> Outcome {
        for record in records {
            let text = self.text(record);
            match self.write(text).await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    if !self.reader_gone {
                        tracing::warn!("nobody reads standard output any more; alerts go to the other sinks only");
                    }
                    self.reader_gone = true;
                }
                Err(error) => return Outcome::Retry { reason: format!("standard output: {error}"), after: None },
                Ok(()) => self.reader_gone = false,
            }
        }
        Outcome::Delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::{incident, record};
    use crate::incident::Severity;

    async fn printed(render: Option<fn(&Incident) -> String>, record: &SpoolRecord) -> String {
        let mut sink = Stdout::new(Vec::new(), render);
        assert_eq!(sink.deliver(std::slice::from_ref(record)).await, Outcome::Delivered);
        String::from_utf8(sink.writer.expect("a writer")).expect("text")
    }

    #[tokio::test]
    async fn prints_text_or_json() {
        let alert = record(1, &incident("a", 2, Severity::High));
        assert_eq!(printed(Some(|incident| format!("{} r{}", incident.id, incident.revision)), &alert).await, "a r2\n");
        let json = printed(None, &alert).await;
        assert_eq!(json.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Incident>(&json).expect("json"), incident("a", 2, Severity::High));
        let foreign = SpoolRecord { bytes: b"{\"schema\":0}".to_vec(), ..alert };
        assert_eq!(printed(Some(|_| String::new()), &foreign).await, "{\"schema\":0}\n");
    }

    #[tokio::test]
    async fn a_reader_that_went_away_holds_nothing_up() {
        let (writer, reader) = std::os::unix::net::UnixStream::pair().expect("pair");
        drop(reader);
        let mut sink = Stdout::new(writer, None);
        let alert = record(1, &incident("a", 1, Severity::High));
        assert_eq!(sink.deliver(std::slice::from_ref(&alert)).await, Outcome::Delivered);
        assert!(sink.reader_gone);
    }
}
