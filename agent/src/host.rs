//! Judge of the host road: a placed event to host or egress evidence.
