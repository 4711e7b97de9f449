//! The one pure join of all stages: feed(input) -> incidents.
