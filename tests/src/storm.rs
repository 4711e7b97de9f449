//! Loads that benchmarks put on the senses: programs started, connections made. Bounded, on loopback; nothing stays behind.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

/// Starts a program so many times, one after the other.
///
/// # Errors
///
/// It cannot be started.
pub fn execs(count: u32) -> io::Result<()> {
    for _ in 0..count {
        Command::new("/bin/true").stdin(Stdio::null()).status()?;
    }
    Ok(())
}

/// Connects to a listener of its own so many times; each connection is accepted and reset.
///
/// # Errors
///
/// As the system calls.
pub fn connects(count: u32) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    (0..count).try_for_each(|_| connect(&listener, Ipv4Addr::LOCALHOST))
}

/// One connection to this listener under one of its addresses, accepted and reset.
fn connect(listener: &TcpListener, address: Ipv4Addr) -> io::Result<()> {
    let stream = TcpStream::connect((address, listener.local_addr()?.port()))?;
    // A reset instead of TIME_WAIT: 60,000 of those would use up the ports.
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(stream);
    listener.accept().map(drop)
}

/// Network that is set aside for measuring (RFC 2544), 198.18.0.0/15: the flood's peers.
pub const FLOOD_PEERS: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// Longest flood: a harness that dies leaves none behind.
const FLOOD_MAX: Duration = Duration::from_secs(30);

/// Programs started and peers of [`FLOOD_PEERS`] contacted, as many as this machine makes, until stopped or for half a minute. The
/// network must be local here.
#[derive(Debug)]
pub struct Flood {
    begun: Instant,
    stop: Arc<AtomicBool>,
    makers: [JoinHandle<io::Result<u32>>; 2],
}

/// What a flood made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Programs started a second.
    pub programs: f64,
    /// Connections a second, each to another peer than the one before.
    pub connections: f64,
}

impl Flood {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// There is no port to listen on.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let make = |mut one: Box<dyn FnMut(u32) -> io::Result<()> + Send>| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut made = 0;
                while !stop.load(Ordering::Acquire) && begun.elapsed() < FLOOD_MAX {
                    one(made)?;
                    made += 1;
                }
                Ok(made)
            })
        };
        let (network, prefix) = FLOOD_PEERS;
        let peer =
            move |number: u32| Ipv4Addr::from_bits(network.to_bits() | (number % (1 << (32 - u32::from(prefix)))));
        let makers = [make(Box::new(|_| execs(1))), make(Box::new(move |number| connect(&listener, peer(number + 1))))];
        Ok(Self { begun, stop, makers })
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// A program could not be started, a peer not be reached.
    pub fn stop(self) -> io::Result<Made> {
        self.stop.store(true, Ordering::Release);
        let seconds = self.begun.elapsed().as_secs_f64();
        let [programs, connections] =
            self.makers.map(|maker| maker.join().unwrap_or_else(|_| Err(io::Error::other("a maker panicked"))));
        Ok(Made { programs: f64::from(programs?) / seconds, connections: f64::from(connections?) / seconds })
    }
}

/// The value that a share of the values lies below; 0 of none. Sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let rank = (0..=last).find(|rank| *rank as f64 >= last as f64 * share).unwrap_or(last);
    values.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let check = |values: &[f64], share: f64, expected: f64| {
            assert_eq!(percentile(&mut values.to_vec(), share).total_cmp(&expected), std::cmp::Ordering::Equal);
        };
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[3.0, 1.0, 2.0], 0.99, 3.0);
        check(&[3.0, 1.0, 2.0], 0.0, 1.0);
        check(&[], 0.5, 0.0);
    }
}
