//! The way over NATS. In: a batch and its subject. Out: whether the stream has it, on disk.

use async_nats::jetstream;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use tokio::sync::OnceCell;

use super::ForwardError;
use super::config::NatsConfig;
use super::courier::{Body, Outcome};
use crate::clock;
use crate::intake::nats::{self, BusError, ENCODING_HEADER, SOURCE_HEADER, StreamConfig, Trouble};

/// Publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    context: jetstream::Context,
    stream: StreamConfig,
    /// The stream was seen, or made.
    opened: OnceCell<()>,
    trouble: Trouble,
    /// Distinguishes this process's messages from those of the one before it.
    run: String,
}

impl Publisher {
    /// Connects; a server that is away for now is waited for.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an address that is none.
    pub(super) async fn connect(config: &NatsConfig) -> Result<Self, ForwardError> {
        let trouble = Trouble::default();
        let client = config.server.connect("breachline forward", &trouble).await;
        let client = client.map_err(|error: BusError| ForwardError::Config(format!("nats.server: {error}")))?;
        Ok(Self {
            context: nats::jetstream(client),
            stream: config.stream.clone(),
            opened: OnceCell::new(),
            trouble,
            run: format!("{}-{}", std::process::id(), clock::now().as_unix_nanos()),
        })
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }

    pub(super) async fn send(&self, subject: &str, source: &str, body: Body) -> Outcome {
        let again = |reason: String| Outcome::Retry { reason, after: None };
        if let Err(error) =
            self.opened.get_or_try_init(|| async { self.stream.open(&self.context).await.map(drop) }).await
        {
            return again(error.to_string());
        }
        if body.bytes.len() > self.context.client().max_payload() {
            return Outcome::TooLarge;
        }
        // Sent again because its acknowledgement was lost, it is recognised and kept once.
        let mut publish = PublishMessage::build().payload(body.bytes).message_id(format!("{}-{}", self.run, body.id));
        if body.gzip {
            publish = publish.header(ENCODING_HEADER, "gzip");
        }
        if !source.is_empty() {
            publish = publish.header(SOURCE_HEADER, source);
        }
        let sent = match self.context.send_publish(subject.to_owned(), publish).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(_) => Outcome::Taken,
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Outcome::TooLarge,
            Err(error) => again(error.to_string()),
        }
    }
}
