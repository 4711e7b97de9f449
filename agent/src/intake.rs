//! Receivers of edge lines.
