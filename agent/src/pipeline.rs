//! Live wiring: rings, receivers, detector, store, delivery.
