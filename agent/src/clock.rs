//! The one reader of time.
