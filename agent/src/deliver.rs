//! Sinks and the durable spool.
