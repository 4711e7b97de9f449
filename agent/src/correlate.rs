//! Evidence in, incidents out; event time only; bounded.
