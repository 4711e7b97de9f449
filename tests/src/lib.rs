//! What the whole-agent tests share.
