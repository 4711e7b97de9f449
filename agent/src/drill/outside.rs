//! The machines outside: the payment provider the service needs, and the intruder's collector and shell handler.
//!
//! In: connections from the service's host. Out: answers, and the [`Loot`]: what reached the intruder. The loot is the drill's
//! ground truth: an attack that brought nothing home did not happen, and catching nothing would then be right.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::http::{self, Message};

/// More than any scenario brings home; the rest is dropped.
const LOOT_BYTES_MAX: usize = 64 * 1024;

/// What the intruder types into a shell that calls home; `exit` ends it, and with it the request that started it.
const SHELL_SESSION: &[u8] = b"id\nhostname\nexit\n";

/// What reached the intruder's machines.
#[derive(Clone, Default)]
pub(super) struct Loot(Arc<Mutex<Vec<u8>>>);

impl Loot {
    fn add(&self, bytes: &[u8]) {
        let mut loot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LOOT_BYTES_MAX.saturating_sub(loot.len());
        loot.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// All of it so far, as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// The payment provider: says yes to everything.
pub(super) fn serve_payments(listener: TcpListener) {
    http::answer(listener, |_| Message::response(200, "{\"charged\":true}"));
}

/// The intruder's web server: keeps what is posted.
pub(super) fn serve_collector(listener: TcpListener, loot: Loot) {
    http::answer(listener, move |request| {
        loot.add(&request.body);
        Message::response(200, "")
    });
}

/// The intruder's listener for shells that call home: types a few commands and keeps what comes back.
pub(super) fn serve_handler(listener: TcpListener, loot: Loot) {
    http::serve(listener, move |stream| talk_to_shell(&stream, &loot));
}

fn talk_to_shell(mut stream: &TcpStream, loot: &Loot) -> io::Result<()> {
    stream.write_all(SHELL_SESSION)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => loot.add(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loot_is_bounded() {
        let loot = Loot::default();
        loot.add(&vec![b'x'; LOOT_BYTES_MAX - 1]);
        loot.add(b"abc");
        assert_eq!(loot.text().len(), LOOT_BYTES_MAX);
        assert!(loot.text().ends_with("xa"));
    }
}
