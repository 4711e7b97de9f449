//! When to look at the rings: the kernel's own timer.
//!
//! One of the runtime's wakes its thread three times for each interval (its wheel has levels, and setting it wakes the thread that
//! sets it), and begins anew whenever something else came first: a steady flow of lines would keep it from ever ending.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer that is set again and again.
pub(super) struct Timer(AsyncFd<Descriptor>);

struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// A timer that ends after `interval`. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The process has as many descriptors as it may.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the timer owns its descriptor and keeps it for life, which is all that is asked"
    )]
    pub(super) fn new(interval: Duration) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let timer = Self(AsyncFd::with_interest(Descriptor(timer), Interest::READABLE)?);
        timer.set(interval)?;
        Ok(timer)
    }

    /// Returns when it has ended, and lets it end again after `interval`. Cancelled, it goes on as it was.
    pub(super) async fn ended(&self, interval: Duration) {
        // An error means that the runtime is going down.
        if let Ok(mut guard) = self.0.readable().await {
            guard.clear_ready();
            // No interval is refused that is neither negative nor without end.
            let _ = self.set(interval);
        }
    }

    /// Set anew, it need not be read.
    fn set(&self, interval: Duration) -> io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(interval));
        Ok(self.0.get_ref().0.set(once, TimerSetTimeFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_again_and_again_whatever_else_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let interval = Duration::from_millis(20);
            let timer = Timer::new(interval).expect("a timer");
            let mut ended = 0;
            let waited = tokio::time::timeout(Duration::from_secs(20), async {
                while ended < 3 {
                    tokio::select! {
                        () = timer.ended(interval) => ended += 1,
                        // Comes first each time: cancelled, the timer must not begin anew.
                        () = tokio::time::sleep(interval / 4) => {}
                    }
                }
            });
            assert!(waited.await.is_ok(), "it ended {ended} times");
        });
    }
}
