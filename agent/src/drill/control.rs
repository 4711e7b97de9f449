//! What the drill and its two actors say to each other: one JSON object a line, over the actor's stdin and stdout.
//!
//! The actor's stdin is also its lifeline: it ends when the drill does, however the drill ends.

use std::io::{self, BufRead, Write};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// What an actor is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    /// World: send one request to the load balancer and wait for the answer.
    Send(Shot),
    /// World: keep the load balancer's lines back from now on.
    HoldLog,
    /// World: write the lines kept back, and every later one at once.
    ReleaseLog,
    /// World: let this much time pass at once for the load balancer and the clients.
    PassTime {
        /// How much.
        seconds: u64,
    },
    /// World: say what the intruder's machines received.
    Loot,
    /// Service: fetch its own credentials as an SDK does (IMDSv2).
    RefreshCredential,
    /// Service: run its nightly report, a shell script of its own that no request asked for.
    NightlyReport,
}

/// One request as a client sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shot {
    /// Source address.
    pub(super) from: IpAddr,
    /// Method.
    pub(super) method: String,
    /// Path and query, encoded.
    pub(super) target: String,
    /// User agent.
    pub(super) user_agent: String,
    /// File whose content is the body.
    pub(super) upload: Option<String>,
}

/// What an actor says back; exactly one for each order, and one before the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// Its sockets listen.
    Ready,
    /// Done.
    Done,
    /// The request was answered.
    Answered {
        /// Just before the first byte left.
        sent: Timestamp,
        /// After the last byte of the answer.
        answered: Timestamp,
        /// Status the client got.
        status: u16,
        /// Start of the body, as text.
        body: String,
    },
    /// What the intruder's machines received, as text.
    Loot {
        /// Bodies posted to the collector and output of shells that called home, in order of arrival.
        text: String,
    },
    /// It could not.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Follows orders from stdin until it ends. A failure is an answer, not an end.
///
/// # Errors
///
/// Only when stdin or stdout break.
pub(super) fn obey(mut execute: impl FnMut(Order) -> io::Result<Answer>) -> io::Result<()> {
    say(&Answer::Ready)?;
    for line in io::stdin().lock().lines() {
        let outcome = serde_json::from_str(&line?).map_err(io::Error::from).and_then(&mut execute);
        say(&outcome.unwrap_or_else(|error| Answer::Failed { reason: error.to_string() }))?;
    }
    Ok(())
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer)?;
    writeln!(stdout)?;
    stdout.flush()
}
