//! Ring bytes to typed events. Total: any bytes give an event or an error.
