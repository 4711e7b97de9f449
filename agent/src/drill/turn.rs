//! One drill at a time: each agent sees the whole machine, so two drills would see each other's shop.
//!
//! The turn is an abstract socket address (`unix(7)`), which the kernel gives back however its holder ends.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

const NAME: &str = "breachline-drill";
/// How often a waiting drill looks whether its turn has come.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Held while a drill is played.
#[derive(Debug)]
pub struct Turn {
    _address: UnixListener,
}

impl Turn {
    /// Takes the turn if no other drill on this machine has it.
    ///
    /// # Errors
    ///
    /// The kernel's, other than the address being taken.
    pub fn take() -> io::Result<Option<Self>> {
        Self::take_named(NAME)
    }

    fn take_named(name: &str) -> io::Result<Option<Self>> {
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(address) => Ok(Some(Self { _address: address })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for it; a drill takes about a minute.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub async fn wait() -> io::Result<Self> {
        loop {
            if let Some(turn) = Self::take()? {
                return Ok(turn);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let name = format!("breachline-turn-test-{}", std::process::id());
        let first = Turn::take_named(&name).expect("binds").expect("free");
        assert!(Turn::take_named(&name).expect("asks").is_none());
        drop(first);
        assert!(Turn::take_named(&name).expect("asks").is_some());
    }
}
