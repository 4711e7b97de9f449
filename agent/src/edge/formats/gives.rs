//! What a format's lines can say: the correlator joins by the best of it, and `coverage` tells the operator what is missing.

use std::fmt;

/// A set of things that a format's lines can say. A line may still lack one of them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Gives(u16);

impl Gives {
    /// None of them.
    pub const NOTHING: Self = Self(0);
    /// Address of the balancer's immediate peer.
    pub const CLIENT: Self = Self(1);
    /// Where the request went, at least an address.
    pub const TARGET: Self = Self(1 << 1);
    /// When the request came in and how long it took; otherwise one point in time.
    pub const INTERVAL: Self = Self(1 << 2);
    /// What the client got.
    pub const STATUS: Self = Self(1 << 3);
    /// What the target answered, apart from what the client got.
    pub const TARGET_STATUS: Self = Self(1 << 4);
    /// An id that the target was sent too.
    pub const TRACE_ID: Self = Self(1 << 5);
    /// The balancer's own socket towards the target.
    pub const UPSTREAM_SOCKET: Self = Self(1 << 6);
    /// Method, path and query: something to judge.
    pub const REQUEST: Self = Self(1 << 7);
    /// The host name that was asked for: with the path, a route in the config finds the workload.
    pub const HOST: Self = Self(1 << 8);
    /// The user agent.
    pub const USER_AGENT: Self = Self(1 << 9);

    /// Everything there is, with the name that `coverage` shows.
    const NAMES: [(Self, &'static str); 10] = [
        (Self::CLIENT, "client"),
        (Self::TARGET, "target"),
        (Self::INTERVAL, "interval"),
        (Self::STATUS, "status"),
        (Self::TARGET_STATUS, "target status"),
        (Self::TRACE_ID, "trace id"),
        (Self::UPSTREAM_SOCKET, "upstream socket"),
        (Self::REQUEST, "request"),
        (Self::HOST, "host"),
        (Self::USER_AGENT, "user agent"),
    ];

    /// What both sets say together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is said.
    #[must_use]
    pub const fn all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Gives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(gives, _)| self.all(*gives)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_what_it_holds() {
        let gives = Gives::CLIENT.and(Gives::TARGET);
        assert!(gives.all(Gives::TARGET) && !gives.all(Gives::TARGET.and(Gives::STATUS)));
        assert_eq!(gives.to_string(), "client, target");
        assert_eq!(Gives::default().to_string(), "");
    }
}
