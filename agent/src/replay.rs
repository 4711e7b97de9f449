//! The detector on recordings.
