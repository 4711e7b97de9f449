//! Loads that benchmarks put on the senses: programs started, connections made. Bounded, on loopback; nothing stays behind.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

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
    let address = listener.local_addr()?;
    for _ in 0..count {
        let stream = TcpStream::connect(address)?;
        // A reset instead of TIME_WAIT: 60,000 of those would use up the ports.
        setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        drop(stream);
        drop(listener.accept()?);
    }
    Ok(())
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
